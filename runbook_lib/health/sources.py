"""Where the figures come from: the pipeline's database, and the one that holds our own tables.

They are the same for our own pipeline. For one that is not ours (`RUNBOOK_MAPPING`) nothing is written
to theirs: statements read two relations, `jobs` and `runs`, that are put in front of them as CTEs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from runbook_lib.database import Database, Transaction, open_database
from runbook_lib.database.addresses import followed_address
from runbook_lib.database.connection import quoted_name
from runbook_lib.database.statements import Statement, load
from runbook_lib.errors import ConfigurationError
from runbook_lib.health.attachment import TheirDefinitions, our_definitions
from runbook_lib.health.mapping_reader import PipelineMapping, read_mapping
from runbook_lib.health.relations import RELATIONS, require_known
from runbook_lib.settings import Settings

_SQL = load("relations")
_WITH = re.compile(r"\A\s*WITH\s+(RECURSIVE\s+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Sources:
    """The two databases of a process.

    `pipeline` holds jobs and runs and is only read in attached mode: a transaction that could write is
    refused there. `bookkeeping` holds our tables. `mapping` is how theirs are read; None: they are ours.
    """

    pipeline: Database
    bookkeeping: Database
    attached: bool = False
    mapping: PipelineMapping | None = None
    definitions: Callable[[], Mapping[str, str]] = our_definitions

    def reading(self, statement: Statement) -> Statement:
        """The statement with `jobs` and `runs`, as far as it names them, defined in front of it.

        In attached mode raises `ConfigurationError` for a mapping that does not fit their tables.
        """
        return with_relations(statement, self.definitions)

    def missing(self, needs: Iterable[str]) -> list[str]:
        """Of columns such as `runs.started_at`, those that this pipeline does not have.

        Raises `ValueError` for a need that is not in the vocabulary (`health/relations.py`).
        """
        needs = list(needs)
        require_known(needs)
        return [] if self.mapping is None else self.mapping.missing(needs)

    @property
    def has_leases(self) -> bool:
        """Whether it is known until when a job is held. Where not, a job is stuck by its age, and may
        still be running."""
        return not self.missing(["jobs.lease_until"])

    @property
    def has_history(self) -> bool:
        """Whether every attempt is a run. Where not, the runs are the jobs' last attempts, and earlier
        ones are invisible."""
        return self.mapping is None or (
            self.mapping.runs is not None and not self.mapping.runs_are_jobs
        )

    @property
    def tables(self) -> dict[str, str]:
        """The tables that `jobs` and `runs` are read from, as SQL names them."""
        if self.mapping is None:
            return {"jobs": "content_jobs", "runs": "job_runs"}
        return {
            mapped.ours: ".".join(quoted_name(part) for part in (mapped.schema, mapped.table))
            for mapped in self.mapping.tables
        }

    def close(self) -> None:
        self.pipeline.close()
        if self.bookkeeping is not self.pipeline:
            self.bookkeeping.close()

    def __enter__(self) -> Sources:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_sources(
    settings: Settings, application_name: str = "runbook", *, require_schema: bool = True
) -> Sources:
    """The databases that the settings name.

    In attached mode the mapping is read and compared with their catalog, and nothing of ours has to be in
    their database. Raises what `open_database` raises, and `ConfigurationError` for a mapping that is
    wrong. Without `require_schema` no connection is made yet, and the mapping is compared when a statement
    first needs it.
    """
    if settings.runbook_mapping is None:
        database = open_database(settings, application_name, require_schema=require_schema)
        return Sources(database, database)
    mapping = read_mapping(settings.runbook_mapping)
    refuse_their_schema(settings, mapping)
    pipeline = their_database(settings, mapping, application_name)
    definitions = TheirDefinitions(pipeline, mapping)
    if require_schema:
        definitions()
    bookkeeping = open_database(settings, application_name, require_schema=require_schema)
    return Sources(pipeline, bookkeeping, True, mapping, definitions)


def their_database(
    settings: Settings, mapping: PipelineMapping, application_name: str = "runbook"
) -> Database:
    """The database of a pipeline that is not ours. Every transaction on it must be read only."""
    settings.own_tables_url()  # refuses settings that contradict each other
    assert settings.database_url is not None
    return Database(
        settings.database_url.get_secret_value(),
        schema=mapping.jobs.schema,
        deadline_seconds=settings.runbook_database_deadline_seconds,
        application_name=application_name,
        never_writes=True,
        present_url=followed_address(settings, lambda now: now.database_url),
    )


def refuse_their_schema(settings: Settings, mapping: PipelineMapping) -> None:
    """Raises `ConfigurationError` when our tables would stand in a schema of theirs."""
    ours, place = settings.runbook_database_schema, settings.own_tables_url()
    theirs = sorted({mapped.schema for mapped in mapping.tables})
    if place is not None and place == settings.database_url and ours in theirs:
        raise ConfigurationError(
            f"RUNBOOK_DATABASE_SCHEMA is {ours!r}, the schema of {mapping.jobs.title}: our tables never stand "
            "beside those of a pipeline that is not ours. Name a schema of its own, or another database in "
            "RUNBOOK_DATABASE_URL, or neither for the embedded one."
        )


def refuse_their_tables(
    transaction: Transaction, database: Database, mapping: PipelineMapping
) -> None:
    """Raises `ConfigurationError` when one of their tables stands where our tables are to be.

    The same database may be named by two addresses; its catalog tells.
    """
    for mapped in mapping.tables:
        place = {"schema": mapped.schema, "table": mapped.table}
        if mapped.schema == database.schema and transaction.rows(_SQL["their_columns"], **place):
            raise ConfigurationError(
                f"{mapped.title} stands at {database.address}, where our tables would be. Nothing was changed. "
                "Name a schema of its own in RUNBOOK_DATABASE_SCHEMA, or another database in RUNBOOK_DATABASE_URL."
            )


def with_relations(statement: Statement, definitions: Callable[[], Mapping[str, str]]) -> Statement:
    """A statement with CTEs for the relations that it names, in front of its own."""
    named = [
        relation
        for relation in RELATIONS
        if re.search(rf"\b(?:FROM|JOIN)\s+{relation}\b", statement.text, re.IGNORECASE)
    ]
    if not named:
        return statement
    found = definitions()
    relations = ", ".join(f"{name} AS NOT MATERIALIZED (\n{found[name]}\n)" for name in named)
    own = _WITH.match(statement.text)
    recursive = "RECURSIVE " if own and own[1] else ""
    rest = ",\n" + statement.text[own.end() :] if own else "\n" + statement.text
    return replace(statement, text=f"WITH {recursive}{relations}{rest}")
