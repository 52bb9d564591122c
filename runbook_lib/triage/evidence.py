"""The evidence: every check, the way into the database, and what triage asks besides, all at once.

Nothing is changed, nothing costs a token, and no statement waits for a lock. What did not answer in time
is named with its reason, and harms no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import psycopg2
import psycopg2.errors

from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Database, UnavailableDatabase
from runbook_lib.database.statements import Statement, load
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import RunbookError
from runbook_lib.health.checks import Check
from runbook_lib.health.connections import Connections
from runbook_lib.health.context import Context
from runbook_lib.health.probes.database import probe_entrance
from runbook_lib.health.probes.tables import NEEDED_RIGHTS
from runbook_lib.health.registry import View
from runbook_lib.health.relations import JOB_COLUMN_TYPES, RUN_COLUMN_TYPES
from runbook_lib.health.side_by_side import run_probes
from runbook_lib.health.sources import Sources
from runbook_lib.health.survey import survey
from runbook_lib.settings import Settings

# All of it together; what a stalled dependency holds up is given up then.
DEADLINE_SECONDS = 8.0
# A connection that is not taken up by then is a finding; far more than a healthy one ever takes.
ENTRANCE_SECONDS = 3.0
MOST_ATTEMPTS, FEW_ATTEMPTS = 2000, 200
OWN_TABLES = (
    "content_jobs",
    "job_runs",
    "articles",
    "workers",
    "provider_pauses",
    "provider_limits",
)

_SQL = load("triage")
_QUEUE = load("queue_checks")
_ENTRANCE = "entrance"
APPLICATION_NAME = "runbook triage"


@dataclass(frozen=True)
class NotChecked:
    """What could not be looked at, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class Evidence:
    """What was answered. `rows` holds the statements that were, by name; an absent one was not."""

    checks: Mapping[str, Check] = field(default_factory=dict)
    entrance: Mapping[str, Check] = field(default_factory=dict)
    rows: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    not_checked: tuple[NotChecked, ...] = ()
    taken_at: datetime = datetime(2000, 1, 1, tzinfo=UTC)
    seconds: float = 0.0

    def row(self, name: str) -> Any | None:
        """The first row of a statement; None where it was not answered or had none."""
        return next(iter(self.rows.get(name, ())), None)

    def source(self, name: str) -> str:
        """How a statement of triage is cited."""
        return f"triage.{name}" if name in _SQL else f"queue_checks.{name}"


def collect(context: Context, *, deadline_seconds: float = DEADLINE_SECONDS) -> Evidence:
    """Asks everything at once. Never raises for what it finds."""
    started = time.monotonic()
    context = replace(context, sources=_without_starting(context))
    pipeline = Connections(context.sources.pipeline)
    own = (
        pipeline if context.sources.bookkeeping is context.sources.pipeline
        else Connections(context.sources.bookkeeping)
    )  # fmt: skip
    view = View(context, Deadline.after(deadline_seconds), pipeline, own)
    probes = {
        "checks": lambda: iter(survey(context, deadline_seconds=deadline_seconds - 0.5).checks),
        _ENTRANCE: lambda: _entrance(context.sources.pipeline),
        **{name: _asked(name, question, view) for name, question in _questions(context).items()},
    }
    try:
        found = run_probes(probes, deadline_seconds, given_up=_given_up, failed=_failed)
    finally:
        pipeline.close()
        own.close()
    return _gathered(found, round(time.monotonic() - started, 2))


def _without_starting(context: Context) -> Sources:
    """The same databases, without what starts an embedded server again: looking must not repair it."""
    sources = context.sources
    pipeline = _looked_at(sources.pipeline, context.settings)
    same = sources.bookkeeping is sources.pipeline or isinstance(
        sources.pipeline, UnavailableDatabase
    )
    return replace(
        sources, pipeline=pipeline,
        bookkeeping=pipeline if same else _looked_at(sources.bookkeeping, context.settings),
    )  # fmt: skip


def _looked_at(database: Database, settings: Settings) -> Database:
    if isinstance(database, UnavailableDatabase):
        # Whoever opened it gave up; where it is supposed to be is looked at all the same.
        if settings.database_url is None:
            return database
        return Database(
            settings.database_url.get_secret_value(), schema=settings.runbook_database_schema,
            application_name=APPLICATION_NAME, never_writes=settings.attached,
        )  # fmt: skip
    return Database(
        database.url, schema=database.schema, deadline_seconds=database.deadline_seconds,
        application_name=APPLICATION_NAME, never_writes=database.never_writes,
    )  # fmt: skip


def _entrance(database: Database) -> Iterator[Check]:
    if isinstance(database, UnavailableDatabase):
        words = f"The database was not opened: {one_line(str(database.reason), 500)}"
        yield Check("database.opened", "critical", words, False, source="settings")
        return
    yield from probe_entrance(database.url, patience_seconds=ENTRANCE_SECONDS)


# What is asked besides the checks

_Question = Callable[[View], Sequence[Any]]


def _questions(context: Context) -> dict[str, _Question]:
    tables = list(context.sources.tables.values())
    asked: dict[str, _Question] = {
        "newest_attempts": _newest_attempts,
        "in_processing": lambda view: view.rows(_SQL["in_processing"]),
        "waiting": lambda view: view.rows(_SQL["waiting"]),
        "ended_in_error": lambda view: view.rows(_SQL["ended_in_error"], hours=24),
        "completed_without_post": lambda view: view.rows(_SQL["completed_without_post"]),
        "overlapping_attempts": lambda view: view.rows(_SQL["overlapping_attempts"]),
        "table_locks": lambda view: view.rows(_SQL["table_locks"], tables=tables),
        "server_times": lambda view: view.rows(_SQL["server_times"]),
        "table_statistics": lambda view: view.rows(_SQL["table_statistics"], tables=tables),
        "running_statements": lambda view: view.rows(_SQL["running_statements"]),
        "tablespaces": lambda view: view.rows(_SQL["tablespaces"]),
        "schedulers": lambda view: view.own_rows(_SQL["schedulers"]),
        "sessions": lambda view: view.rows(_SQL["sessions"]),
        "same_time_before": lambda view: view.own_rows(_SQL["same_time_before"], hours=12),
    }
    if not context.sources.attached:
        asked.update(_of_our_own())
    return asked


def _of_our_own() -> dict[str, _Question]:
    """What only our own pipeline's tables can tell."""
    pairs = [(table, right) for table, rights in NEEDED_RIGHTS.items() for right in rights]
    return {
        "workers": lambda view: view.rows(_SQL["workers"]),
        "pauses": lambda view: view.rows(_QUEUE["pauses"]),
        "in_flight_by_provider": lambda view: view.rows(_QUEUE["in_flight_by_provider"]),
        "limited_providers": lambda view: view.rows(_SQL["limited_providers"]),
        "recent_changes": lambda view: view.rows(_SQL["recent_changes"]),
        "recent_articles": lambda view: view.rows(_SQL["recent_articles"]),
        "indexes": lambda view: view.rows(_SQL["indexes"], table="content_jobs"),
        "columns": lambda view: view.rows(_SQL["columns"], tables=["content_jobs", "job_runs"]),
        "status_rules": lambda view: view.rows(_SQL["status_rules"], table="content_jobs"),
        "rights_of_workers": lambda view: view.rows(
            _SQL["rights_of_workers"],
            relations=[table for table, _ in pairs],
            privileges=[right for _, right in pairs],
        ),
    }


def expected_columns() -> dict[str, frozenset[str]]:
    """The columns without which our own statements fail."""
    return {
        "content_jobs": frozenset(JOB_COLUMN_TYPES) - {"job_key"},
        "job_runs": frozenset(RUN_COLUMN_TYPES) - {"job_key"},
    }


def _newest_attempts(view: View) -> Sequence[Any]:
    """Of the last hour; where that says little, of the last day."""
    statement: Statement = _SQL["newest_attempts"]
    rows = view.rows(statement, hours=1, count=MOST_ATTEMPTS)
    return (
        rows if len(rows) >= FEW_ATTEMPTS else view.rows(statement, hours=24, count=MOST_ATTEMPTS)
    )


# From answers to evidence. A statement's rows travel as the details of a check.


def _asked(name: str, question: _Question, view: View) -> Callable[[], Iterator[Check]]:
    def probe() -> Iterator[Check]:
        yield Check(name, "ok", "answered", details={"rows": list(question(view))})

    return probe


def _given_up(name: str, _: Sequence[Check], seconds: float) -> Check:
    return Check(name, "not_enough_data", f"There was no answer within {seconds:g} s.", details={"given_up": True})  # fmt: skip


def _failed(name: str, error: Exception) -> Check:
    return Check(name, "not_enough_data", _why(error), details={"locked": isinstance(error, psycopg2.errors.LockNotAvailable)})  # fmt: skip


def _why(error: Exception) -> str:
    if isinstance(error, psycopg2.errors.LockNotAvailable):
        return "The table is locked by somebody else."
    if isinstance(error, RunbookError | psycopg2.Error):
        # Only the first line: PostgreSQL's DETAIL prints whole rows.
        return one_line((str(error).strip().splitlines() or ["no reason was given"])[0], 300)
    return f"{type(error).__name__}: {one_line(str(error), 200)}"


def _gathered(found: Mapping[str, Sequence[Check]], seconds: float) -> Evidence:
    checks = {check.name: check for check in found["checks"]}
    entrance = {check.name: check for check in found[_ENTRANCE]}
    rows = {
        name: checks_[0].details["rows"] for name, checks_ in found.items()
        if checks_ and "rows" in checks_[0].details
    }  # fmt: skip
    not_answered = [
        NotChecked(name, one_line(answers[-1].message, 300)) for name, answers in found.items()
        if name not in ("checks", _ENTRANCE) and name not in rows and answers
    ]  # fmt: skip
    not_answered += [
        NotChecked(check.name, one_line(check.message, 300)) for check in checks.values()
        if not check.answered
    ]  # fmt: skip
    locked = any(answers and answers[-1].details.get("locked") for answers in found.values())
    if locked:
        rows["tables_locked_for_reading"] = [True]
    return Evidence(checks, entrance, rows, tuple(not_answered), datetime.now(UTC), seconds)
