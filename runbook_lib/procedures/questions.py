"""A question in SQL that stands beside a notebook: how a team's own procedure asks without any Python.

`chapter/name.sql` beside `chapter/name.ipynb` holds named statements, as those of the workbench are; they may
name `jobs` and `runs`. Each is asked in a transaction that cannot write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg2

from runbook_lib.credentials.masking import one_line
from runbook_lib.database.statements import Statement, read_statements
from runbook_lib.errors import RunbookError, UsageError
from runbook_lib.health.answers import Answer
from runbook_lib.health.checks import Check, Verdict
from runbook_lib.health.metrics import records
from runbook_lib.health.tables import Table
from runbook_lib.procedures import catalogue
from runbook_lib.settings import load_settings

if TYPE_CHECKING:
    from runbook_lib.procedures.workplace import Workplace

LONGEST_ANSWER_ROWS = 1000


@dataclass(frozen=True, repr=False)
class Question(Answer):
    """What a statement answered. `value` is what is judged: the first figure of the first row."""

    check: Check
    table: Table
    value: float | None = None

    def results(self) -> dict[str, Any]:
        """The rows and the figure, for the record."""
        return {"value": self.value, "rows": records(self.table.frame)}

    def __repr__(self) -> str:
        return f"{super().__repr__()}\n{self.table!r}"

    def _repr_html_(self) -> str:
        return super()._repr_html_() + self.table._repr_html_()


def ask(
    workplace: Workplace, procedure: str, statement: str, *, warning_above: float | None = None,
    critical_above: float | None = None, **binds: Any,
) -> Question:  # fmt: skip
    """Asks a named statement of the .sql file beside a procedure's notebook, and judges its first figure.

    Without thresholds the verdict is ok. Never raises for what it finds: what is wrong with the statement
    or the database is `not_enough_data`, and said.
    """
    import pandas

    name = f"{procedure.rpartition('/')[2]}.{statement}"
    try:
        found = workplace.sources.reading(_statement(procedure, statement))
        with workplace.sources.pipeline.transaction(read_only=True) as transaction:
            frame = transaction.frame(found, **binds).head(LONGEST_ANSWER_ROWS)
    except (RunbookError, psycopg2.Error, OSError, ValueError, KeyError) as error:
        words = f"It could not be asked. {one_line(str(error), 500)}"
        return Question(Check(name, "not_enough_data", words), Table(pandas.DataFrame(), empty=words))  # fmt: skip
    value = _first_figure(frame)
    verdict = _judged(value, warning_above, critical_above)
    check = Check(
        name, verdict, _words(found, frame, value, warning_above, critical_above), value, None,
        critical_above if critical_above is not None else warning_above, found.source,
    )  # fmt: skip
    return Question(check, Table(frame), value)


def _statement(procedure: str, statement: str) -> Statement:
    path = catalogue.find(procedure, load_settings()).path.with_suffix(".sql")
    if not path.is_file():
        raise UsageError(f"{path} does not exist; the procedure's statements stand in it.")
    known = read_statements(path)
    if statement not in known:
        raise UsageError(f"{path} has no statement {statement!r}. It has: {', '.join(known)}.")
    return known[statement]


def _first_figure(frame: Any) -> float | None:
    for row in records(frame.head(1)):
        for value in row.values():
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
    return None


def _judged(value: float | None, warning: float | None, critical: float | None) -> Verdict:
    if warning is None and critical is None:
        return "ok"
    if value is None:
        return "not_enough_data"
    if critical is not None and value > critical:
        return "critical"
    return "warning" if warning is not None and value > warning else "ok"


def _words(
    statement: Statement, frame: Any, value: float | None, warning: float | None, critical: float | None
) -> str:  # fmt: skip
    limits = [f"{word} above {limit:g}" for word, limit in (("warning", warning), ("critical", critical)) if limit is not None]  # fmt: skip
    said = "No figure in the answer." if value is None else f"{value:g}."
    judged = f" ({', '.join(limits)})" if limits else ""
    return f"{statement.description.rstrip('.')}: {said}{judged} {len(frame)} rows."
