"""Where the figures come from: the pipeline's database, and the one that holds our own tables.

They are the same for our own pipeline. For one that is not ours (`RUNBOOK_MAPPING`) nothing is written
to theirs: statements read two relations, `jobs` and `runs`, that are put in front of them as CTEs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from runbook_lib.database import Database, open_database
from runbook_lib.database.statements import Statement
from runbook_lib.settings import Settings

_WITH = re.compile(r"\A\s*WITH\s+(RECURSIVE\s+)?", re.IGNORECASE)
# Relation → how our own tables are read.
_OURS = {"jobs": "SELECT * FROM content_jobs", "runs": "SELECT * FROM job_runs"}


@dataclass(frozen=True)
class Sources:
    """The two databases of a process.

    `pipeline` holds jobs and runs and is only read in attached mode; `bookkeeping` holds our tables.
    """

    pipeline: Database
    bookkeeping: Database
    attached: bool = False

    def reading(self, statement: Statement) -> Statement:
        """The statement with `jobs` and `runs`, as far as it names them, defined in front of it."""
        return with_relations(statement, _OURS)

    def missing(self, needs: Iterable[str]) -> list[str]:
        """Of columns such as `runs.started_at`, those that this pipeline does not have."""
        return []

    def close(self) -> None:
        self.pipeline.close()
        if self.bookkeeping is not self.pipeline:
            self.bookkeeping.close()


def open_sources(
    settings: Settings, application_name: str = "runbook", *, require_schema: bool = True
) -> Sources:
    """The databases that the settings name. Raises what `open_database` raises."""
    database = open_database(settings, application_name, require_schema=require_schema)
    return Sources(database, database)


def with_relations(statement: Statement, definitions: dict[str, str]) -> Statement:
    """A statement with CTEs for the relations that it names, in front of its own."""
    named = [
        f"{name} AS NOT MATERIALIZED (\n{definition}\n)"
        for name, definition in definitions.items()
        if re.search(rf"\b(?:FROM|JOIN)\s+{name}\b", statement.text, re.IGNORECASE)
    ]
    if not named:
        return statement
    own = _WITH.match(statement.text)
    recursive = "RECURSIVE " if own and own[1] else ""
    rest = ",\n" + statement.text[own.end() :] if own else "\n" + statement.text
    return replace(statement, text=f"WITH {recursive}{', '.join(named)}{rest}")
