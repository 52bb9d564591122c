"""What an incident did: jobs failed, late and doubled, posts published wrong, and the cost, as one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg2

from runbook_lib.credentials.masking import one_line
from runbook_lib.database.statements import load
from runbook_lib.errors import RunbookError
from runbook_lib.health.sources import Sources
from runbook_lib.policy import Policy

if TYPE_CHECKING:
    from runbook_lib.health.tables import Table

_SQL = load("incident_impact")
DEADLINE_SECONDS = 20.0


@dataclass(frozen=True)
class Line:
    """One figure. `value` is None where it could not be told; `why` says why, or what it counts."""

    name: str
    value: float | None
    unit: str
    why: str


@dataclass(frozen=True)
class Impact:
    """The figures of one window, and what attempts failed of."""

    since: datetime
    until: datetime
    lines: tuple[Line, ...]
    causes: tuple[Mapping[str, Any], ...] = field(default=())

    @property
    def table(self) -> Table:
        import pandas

        from runbook_lib.health.tables import Table

        rows = [(each.name, each.value, each.unit, each.why) for each in self.lines]
        frame = pandas.DataFrame(rows, columns=["what", "value", "unit", "counted"]).astype(object)
        return Table(frame.where(frame.notna(), None), absent="not known")

    def value(self, name: str) -> float | None:
        return next(each.value for each in self.lines if each.name == name)

    def as_record(self) -> dict[str, Any]:
        """The figures by name, for JSON."""
        figures = {each.name.replace(" ", "_"): each.value for each in self.lines}
        return {"since": self.since, "until": self.until, **figures, "causes": [dict(each) for each in self.causes]}  # fmt: skip

    def __repr__(self) -> str:
        return repr(self.table)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def measure_impact(sources: Sources, policy: Policy, since: datetime, until: datetime) -> Impact:
    """Counts what happened in a window. Never raises: what could not be told says why."""
    window: dict[str, Any] = {"since": since, "until": until}
    late_seconds = policy.thresholds.pending_age_warning_seconds
    attempts, no_attempts = _ask(sources, "attempts", **window)
    late, no_late = _ask(sources, "late_jobs", **window, late_seconds=late_seconds)
    doubled, no_doubled = _ask(sources, "doubled_posts", **window)
    wrong, no_wrong = _ask(sources, "posts_taken_back", ours=True, since=since)
    cost_missing = [] if no_attempts else sources.missing(["runs.cost_usd"])
    no_cost = f"The pipeline has no {cost_missing[0]}." if cost_missing else no_attempts
    lines = (
        _line("jobs failed", attempts, "failed_jobs", "jobs", no_attempts, "at least one attempt failed"),
        _line("of them published since", attempts, "recovered_jobs", "jobs", no_attempts, "a later attempt succeeded"),
        _line("of them waiting", attempts, "waiting_jobs", "jobs", no_attempts, "they are tried again"),
        _line("of them given up", attempts, "given_up_jobs", "jobs", no_attempts, "they stay in error until somebody retries them"),
        _line("attempts failed", attempts, "failed_attempts", "attempts", no_attempts, f"of {_count(attempts, 'attempts')}"),
        _line("jobs late", late, "late_jobs", "jobs", no_late, f"more than {late_seconds / 60:g} min from made to published"),
        _line("posts doubled", doubled, "doubled_posts", "posts", no_doubled, "a second post on the same topic"),
        _line("posts published wrong", wrong, "wrong_posts", "posts", no_wrong, "taken back since; what nobody found is not in it"),
        _line("cost", attempts, "cost_usd", "USD", no_cost, "of all attempts in this time"),
        _line("cost of failed attempts", attempts, "failed_cost_usd", "USD", no_cost, "paid for and not published by that attempt"),
    )  # fmt: skip
    return Impact(since, until, lines, tuple(_causes(sources, window)))


def _line(name: str, row: Any, column: str, unit: str, problem: str | None, counted: str) -> Line:
    if problem is not None or row is None:
        return Line(name, None, unit, problem or "There is no figure.")
    value = getattr(row, column)
    return Line(name, float(value or 0) if unit == "USD" else int(value or 0), unit, counted)


def _count(row: Any, column: str) -> str:
    return f"{getattr(row, column):,}" if row is not None else "an unknown number"


def _ask(
    sources: Sources, statement: str, *, ours: bool = False, **values: Any
) -> tuple[Any, str | None]:
    """One row of a statement, or why there is none."""
    database = sources.bookkeeping if ours else sources.pipeline
    try:
        text = _SQL[statement] if ours else sources.reading(_SQL[statement])
        with database.transaction(read_only=True, deadline_seconds=DEADLINE_SECONDS) as transaction:
            return transaction.row(text, **values), None
    except (RunbookError, psycopg2.Error) as error:
        return None, one_line(str(error), 200)


def _causes(sources: Sources, window: Mapping[str, Any]) -> list[dict[str, Any]]:
    try:
        text = sources.reading(_SQL["causes"])
        with sources.pipeline.transaction(
            read_only=True, deadline_seconds=DEADLINE_SECONDS
        ) as transaction:
            return [row._asdict() for row in transaction.rows(text, **window)]
    except (RunbookError, psycopg2.Error):
        return []
