"""What the overview shows: every check with since when, the queue, and the last two days in figures."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2

from runbook_lib.credentials.masking import one_line
from runbook_lib.database.statements import load
from runbook_lib.errors import RunbookError
from runbook_lib.health.checks import Verdict
from runbook_lib.health.context import Context
from runbook_lib.health.metrics import History, records
from runbook_lib.health.survey import survey

HOURS = 48
# A monitor writes states each minute; older ones say how it was, not how it is.
FRESH_SECONDS = 180
# However many look at the overview, figures are read so often.
KEPT_SECONDS = 4.0
_WORST_FIRST: tuple[Verdict, ...] = ("critical", "warning", "not_allowed", "not_enough_data", "ok")


@dataclass(frozen=True)
class CheckLine:
    """One check as the overview says it. `since` is None where no monitor remembers it."""

    name: str
    verdict: Verdict
    message: str
    since: datetime | None = None
    source: str | None = None
    does_not_prove: str | None = None
    next: str | None = None
    procedure: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checks:
    """All checks, worst first. `monitored`: a monitor keeps them; else they were asked just now."""

    lines: tuple[CheckLine, ...]
    monitored: bool
    taken_at: datetime

    def count(self, *verdicts: str) -> int:
        return sum(line.verdict in verdicts for line in self.lines)

    @property
    def verdict(self) -> str:
        for verdict in ("critical", "warning", "ok"):
            if self.count(verdict):
                return verdict
        return "not_enough_data"

    def in_words(self) -> str:
        """How the pipeline is, in a sentence or two."""
        critical, warnings, well = self.count("critical"), self.count("warning"), self.count("ok")
        unanswered = len(self.lines) - critical - warnings - well
        if critical:
            said = f"{_many(critical, 'check is', 'checks are')} critical"
            said += f" and {_many(warnings, 'warns', 'warn')}" if warnings else ""
            said += ". Begin with the first one below."
        elif warnings:
            said = f"The pipeline works; {_many(warnings, 'check warns', 'checks warn')}."
        elif well:
            said = f"The pipeline is well: {_many(well, 'check says', 'checks say')} so."
        else:
            said = "Nothing can be said: no check could answer."
        rest = (
            f" {_many(unanswered, 'check has', 'checks have')} nothing to go by yet."
            if unanswered
            else ""
        )
        return said + rest


@dataclass(frozen=True)
class Figures:
    """The queue and the last hours. `problem` says why there are none."""

    queue: dict[str, dict[str, Any]] = field(default_factory=dict)
    hours: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    errors: int | None = None
    problem: str | None = None

    def sum_of(self, column: str, hours: int) -> int:
        return sum(row[column] or 0 for row in self.hours[-hours:])


class Overview:
    """Reads checks and figures, and keeps them for a moment, so that many who look cost no more than one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_at = -KEPT_SECONDS
        self._kept: tuple[Checks, Figures] | None = None

    def read(self, context: Context) -> tuple[Checks, Figures]:
        with self._lock:
            if self._kept is None or time.monotonic() - self._read_at > KEPT_SECONDS:
                self._kept = (read_checks(context), read_figures(context))
                self._read_at = time.monotonic()
            return self._kept


def read_checks(context: Context) -> Checks:
    """The states that a monitor keeps; where none does, all checks are asked now."""
    try:
        with context.sources.bookkeeping.transaction(
            read_only=True, deadline_seconds=3
        ) as transaction:
            rows = transaction.rows(load("console")["check_states"], fresh_seconds=FRESH_SECONDS)
    except (RunbookError, psycopg2.Error):
        rows = []
    if rows:
        return Checks(_ordered(map(_kept_line, rows)), True, min(row.checked_at for row in rows))
    found = survey(context)
    return Checks(_ordered(map(_asked_line, found.checks)), False, found.taken_at)


def read_figures(context: Context) -> Figures:
    """The figures of the history; what cannot be had is said, and harms no check."""
    try:
        with History(context) as history:
            queue = records(history.queue())
            hours = records(history.by_hour(HOURS))
            failures = records(history.failures(datetime.now(UTC) - timedelta(hours=24)))
        return Figures({row["state"]: row for row in queue}, hours, failures[:8], _errors(context))
    except (RunbookError, psycopg2.Error) as error:
        return Figures(problem=one_line(str(error), 300))


def _errors(context: Context) -> int | None:
    if context.sources.attached:
        return None
    with context.sources.pipeline.transaction(read_only=True) as transaction:
        found: int = transaction.value(load("console")["errors_now"])
    return found


def _kept_line(row: Any) -> CheckLine:
    details = row.details or {}
    told = {name: details.get(name) for name in ("source", "does_not_prove", "next", "procedure")}
    return CheckLine(
        row.check_name, row.verdict, row.message, row.since, **told,
        parameters=details.get("parameters") or {},
    )  # fmt: skip


def _asked_line(check: Any) -> CheckLine:
    return CheckLine(
        check.name, check.verdict, check.message, None, check.source, check.does_not_prove,
        check.next, check.procedure, dict(check.parameters),
    )  # fmt: skip


def _ordered(lines: Any) -> tuple[CheckLine, ...]:
    return tuple(sorted(lines, key=lambda line: (_WORST_FIRST.index(line.verdict), line.name)))


def _many(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"
