"""The evidence: every check, the way into the database, and what triage asks besides, all at once.

Nothing is changed, nothing costs a token, and no statement waits for a lock. What did not answer in time
is named with its reason, and harms no other.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import psycopg2.errors

from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Database, UnavailableDatabase
from runbook_lib.database.roles import WORKER
from runbook_lib.database.statements import Statement, load
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import NotFoundError, RunbookError
from runbook_lib.health.checks import Check
from runbook_lib.health.connections import Connections, again_where_the_link_breaks
from runbook_lib.health.context import Context, open_context
from runbook_lib.health.probes.database import probe_entrance
from runbook_lib.health.registry import View
from runbook_lib.health.side_by_side import run_probes
from runbook_lib.health.sources import Sources
from runbook_lib.health.survey import survey
from runbook_lib.settings import Settings
from runbook_lib.triage.process_table import ProcessSeen, activity_of, states_of, watch_workers

# All of it together; what a stalled dependency holds up is given up then.
DEADLINE_SECONDS = 8.0
# A connection that is not taken up by then is a finding; far more than a healthy one ever takes.
ENTRANCE_SECONDS = 3.0
# A worker beats far more often than this; the check says "silent" later, where others might err.
SILENT_SECONDS = 12.0
DEADLOCK_WATCH_SECONDS = 1.5
MOST_ATTEMPTS = 2000
# All that a worker reads and writes: a lock on any of these stops it.
OWN_TABLES = (
    "content_jobs", "job_runs", "articles", "workers", "provider_pauses", "provider_limits", "dirty_run_hours",
)  # fmt: skip

_SQL = load("triage")
_QUEUE, _CHECKS = load("queue_checks"), load("database_checks")
_ENTRANCE, _WATCHED, _DEADLOCKS = "entrance", "watched", "deadlocks"
APPLICATION_NAME = "runbook triage"


@dataclass(frozen=True)
class NotChecked:
    """What could not be looked at, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class Room:
    """How much of a directory's disk is free; None where it is none of this host."""

    directory: str
    free_percent: float | None


@dataclass(frozen=True)
class Evidence:
    """What was answered. `rows` holds the statements that were, by name; an absent one was not."""

    checks: Mapping[str, Check] = field(default_factory=dict)
    entrance: Mapping[str, Check] = field(default_factory=dict)
    rows: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    not_checked: tuple[NotChecked, ...] = ()
    taken_at: datetime = datetime(2000, 1, 1, tzinfo=UTC)
    seconds: float = 0.0
    # Why this process's settings do not fit; None where they do.
    settings_problem: str | None = None
    # The longest that an attempt may wait for OpenAI, by the settings of whoever looks.
    openai_deadline_seconds: float = 300.0
    # The text of each statement that was asked, as it was run.
    statements: Mapping[str, str] = field(default_factory=dict)

    def row(self, name: str) -> Any | None:
        """The first row of a statement; None where it was not answered or had none."""
        return next(iter(self.rows.get(name, ())), None)

    def process_state(self, row: Any) -> str | None:
        """Of the process of a worker's or scheduler's row: gone, stopped, alive, or not known."""
        seen = self.rows.get("processes", ())
        return next((each.state for each in seen if (each.host, each.pid) == (row.host, row.pid)), None)  # fmt: skip

    def source(self, name: str) -> str:
        """How a statement of triage is cited."""
        files = (_SQL, _QUEUE, _CHECKS)
        return next((file[name].source for file in files if name in file), f"triage.{name}")


def collect(context: Context, *, deadline_seconds: float = DEADLINE_SECONDS) -> Evidence:
    """Asks everything at once. Never raises for what it finds."""
    started = time.monotonic()
    context = replace(context, sources=_without_starting(context), refreshes=False)
    pipeline = Connections(context.sources.pipeline)
    own = (
        pipeline if context.sources.bookkeeping is context.sources.pipeline
        else Connections(context.sources.bookkeeping)
    )  # fmt: skip
    view = View(context, Deadline.after(deadline_seconds), pipeline, own)
    asked = questions(context)
    probes = {
        "checks": lambda: iter(survey(context, deadline_seconds=deadline_seconds - 0.5).checks),
        _ENTRANCE: lambda: _entrance(context.sources.pipeline),
        **{name: _asked(name, question.asked, view) for name, question in asked.items()},
        _WATCHED: _asked(_WATCHED, _watched, view),
        _DEADLOCKS: _asked(_DEADLOCKS, _deadlocks_twice, view),
    }
    try:
        found = run_probes(probes, deadline_seconds, given_up=_given_up, failed=_failed)
    finally:
        pipeline.close()
        own.close()
    texts = {name: question.text(context.sources) for name, question in asked.items()}
    evidence = _gathered(found, round(time.monotonic() - started, 2))
    limit = float(context.settings.runbook_openai_deadline_seconds)
    evidence = replace(evidence, statements=texts, openai_deadline_seconds=limit)
    return _with_this_host(evidence, _port(context))


def _port(context: Context) -> int | None:
    database = context.sources.pipeline
    return (
        None if isinstance(database, UnavailableDatabase) else urlsplit(database.url).port or 5432
    )


def _lives_and_is_silent(row: Any, processes: Sequence[ProcessSeen]) -> bool:
    there = ProcessSeen(row.host, row.pid, "alive") in processes
    return there and not row.stopped and bool(row.silent_seconds > SILENT_SECONDS)


def _with_this_host(evidence: Evidence, database_port: int | None) -> Evidence:
    """With what only this host can tell of what was answered: processes, and room on its disks."""
    processes = [
        *states_of(evidence.rows.get("workers", ()), b"worker"),
        *states_of(evidence.rows.get("schedulers", ()), b"schedule"),
    ]
    silent = [row.pid for row in evidence.rows.get("workers", ()) if _lives_and_is_silent(row, processes)]  # fmt: skip
    activity = activity_of(silent, database_port) if database_port else []
    directories = [row.directory for row in evidence.rows.get("tablespaces", ())]
    room = [Room(directory, free_percent(directory)) for directory in directories]
    return replace(
        evidence, rows={**evidence.rows, "processes": processes, "activity": activity, "room": room}
    )


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


@dataclass(frozen=True)
class Question:
    """A statement of triage with its parameters. `own` asks where our tables are, not the pipeline's."""

    statement: Statement
    parameters: Mapping[str, Any] = field(default_factory=dict)
    own: bool = False
    needs: tuple[str, ...] = ()

    def asked(self, view: View) -> Sequence[Any]:
        if missing := view.context.sources.missing(self.needs):
            raise NotFoundError(f"This pipeline has no {', '.join(missing)}.")
        ask = view.own_rows if self.own else view.rows
        return ask(self.statement, **self.parameters)

    def text(self, sources: Sources) -> str:
        """As it is run, with `jobs` and `runs` told what they are, and its parameters below."""
        reading = self.statement if self.own else sources.reading(self.statement)
        return f"{reading}\n-- {dict(self.parameters)}" if self.parameters else str(reading)


def questions(context: Context) -> dict[str, Question]:
    """What triage asks besides the checks, by name."""
    tables = list(context.sources.tables.values())
    locked = tables if context.sources.attached else list(OWN_TABLES)
    asked = {
        "newest_attempts": Question(_SQL["newest_attempts"], {"hours": 24, "count": MOST_ATTEMPTS}),
        "in_processing": Question(_SQL["in_processing"]),
        "waiting": Question(_SQL["waiting"]),
        "ended_in_error": Question(_SQL["ended_in_error"], {"hours": 24}),
        "completed_without_post": Question(_SQL["completed_without_post"], needs=("jobs.post_id",)),
        "overlapping_attempts": Question(_SQL["overlapping_attempts"]),
        "table_locks": Question(_SQL["table_locks"], {"tables": locked}),
        "arrivals": Question(_SQL["arrivals"]),
        "snapshot": Question(_SQL["snapshot"]),
        "server_times": Question(_SQL["server_times"]),
        "table_statistics": Question(_SQL["table_statistics"], {"tables": tables}),
        "running_statements": Question(_SQL["running_statements"]),
        "tablespaces": Question(_SQL["tablespaces"]),
        "sessions": Question(_SQL["sessions"]),
        "schedulers": Question(_SQL["schedulers"], own=True),
        "same_time_before": Question(_SQL["same_time_before"], {"hours": 12}, own=True),
    }
    return (
        asked
        if context.sources.attached
        else {**asked, **_of_our_own(context.settings.runbook_database_schema)}
    )


@dataclass(frozen=True)
class Answer:
    """A statement asked by itself: its text as it was run and its rows; or why it was not run."""

    description: str
    text: str
    rows: tuple[dict[str, Any], ...] = ()
    why_not: str | None = None


def ask(statement: Statement, settings: Settings) -> Answer:
    """Runs one of the statements that triage asks, read-only, for whoever wants a cited figure again."""
    with open_context(settings, "runbook triage", require_schema=False) as context:
        besides = [Question(_SQL[_DEADLOCKS])]
        asked = {each.statement.source: each for each in [*questions(context).values(), *besides]}
        question = asked.get(statement.source)
        if question is None:
            return Answer(statement.description, statement.text, (), "It belongs to a check, which gives it its parameters: `runbook doctor`, `runbook function health`.")  # fmt: skip
        connections = Connections(context.sources.bookkeeping if question.own else context.sources.pipeline)  # fmt: skip
        try:
            view = View(context, Deadline.after(DEADLINE_SECONDS), connections, connections)
            rows = tuple(masked_row(row._asdict()) for row in question.asked(view))
        finally:
            connections.close()
        return Answer(statement.description, question.text(context.sources), rows)


def masked_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it may be shown and kept."""
    return {
        name: one_line(value, 1000) if isinstance(value, str) else value
        for name, value in row.items()
    }


def _of_our_own(schema: str) -> dict[str, Question]:
    """What only our own pipeline's tables can tell."""
    pairs = [(table, right) for table, rights in WORKER.items() for right in sorted(rights)]
    rights = {
        "relations": [table for table, _ in pairs], "privileges": [right for _, right in pairs],
        "schema": schema,
    }  # fmt: skip
    return {
        "workers": Question(_SQL["workers"]),
        "worker_sessions": Question(_SQL["worker_sessions"]),
        "refused_statements": Question(_SQL["refused_statements"]),
        "pauses": Question(_QUEUE["pauses"]),
        "in_flight_by_provider": Question(_QUEUE["in_flight_by_provider"]),
        "attempts_without_a_row": Question(_SQL["attempts_without_a_row"]),
        "configured_schema": Question(
            _SQL["configured_schema"], {"schema": schema, "tables": list(OWN_TABLES)}
        ),
        "rows_hidden": Question(_CHECKS["rows_hidden"], {"tables": ["content_jobs", "job_runs"]}),
        "rules_of_tables": Question(
            _SQL["rules_of_tables"], {"tables": [*OWN_TABLES, "job_runs_default"]}
        ),
        "limited_providers": Question(_SQL["limited_providers"]),
        "recent_changes": Question(_SQL["recent_changes"]),
        "recent_articles": Question(_SQL["recent_articles"]),
        "indexes": Question(_SQL["indexes"], {"table": "content_jobs"}),
        "columns": Question(_SQL["columns"], {"tables": list(OWN_TABLES)}),
        "status_rules": Question(_SQL["status_rules"], {"table": "content_jobs"}),
        "rights_of_workers": Question(_SQL["rights_of_workers"], rights),
    }


def _deadlocks_twice(view: View) -> Sequence[Any]:
    """The server adds what it counted with a delay of up to a second."""
    first = view.rows(_SQL[_DEADLOCKS])
    time.sleep(DEADLOCK_WATCH_SECONDS)
    return [*first, *view.rows(_SQL[_DEADLOCKS])]


def _watched(view: View) -> Sequence[Any]:
    """Workers that die before they reach the database leave no row: only where none gives a sign of life."""
    if view.context.sources.attached:
        return ()
    rows = view.rows(_SQL["workers"])
    if any(not row.stopped and row.silent_seconds <= SILENT_SECONDS for row in rows):
        return ()
    return (watch_workers(view.context.sources.pipeline.url),)


def free_percent(directory: str) -> float | None:
    """Of the disk that holds a directory; None where it is not one of this machine."""
    try:
        usage = shutil.disk_usage(directory)
    except OSError:
        return None
    return round(100 * usage.free / usage.total, 1) if usage.total else None


# From answers to evidence. A statement's rows travel as the details of a check.


def _asked(
    name: str, question: Callable[[View], Sequence[Any]], view: View
) -> Callable[[], Iterator[Check]]:
    def probe() -> Iterator[Check]:
        rows = again_where_the_link_breaks(lambda: list(question(view)))
        yield Check(name, "ok", "answered", details={"rows": rows})

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
