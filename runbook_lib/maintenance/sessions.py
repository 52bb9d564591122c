"""The changes `sessions.end`, one session that holds others up, and `sessions.end_idle`, those that one program left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import psycopg2.errors

from runbook_lib.changes import ChangedRow, Preview, SeenRow, TransactionalKind, register
from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone, PlanRefused, UsageError
from runbook_lib.policy import load_policy
from runbook_lib.settings import load_settings

_SQL = load("database_errors")
WAYS = ("cancel", "terminate")
# What the server shows of another role's session to one that may not look.
HIDDEN = "<insufficient privilege>"
# The programs of the workbench name themselves so; what they keep open they need.
OWN_PROGRAMS = "runbook"
LEAST_IDLE_SECONDS, USUAL_IDLE_SECONDS = 10, 60
# A time that went through a text or a rounded age is the same one within this.
SAME_SECONDS = 1.5


class EndSession(TransactionalKind):
    """Ends what one session does, or the session. Its transaction is rolled back, and those behind it go on."""

    name = "sessions.end"
    summary = "Cancels or terminates one session of the database. What it did in its transaction is rolled back."
    parameters: ClassVar[Mapping[str, str]] = {
        "pid": "the process, as the tree of blockers names it",
        "how": "cancel (what it does now) or terminate (the session; the only way when it is idle in a transaction)",
        "since": "since when its transaction runs, as it was seen: another one of the same session is left alone",
    }
    row_limit = 1

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        how = str(given.get("how") or "cancel").strip()
        if how not in WAYS:
            raise UsageError(f"how is cancel or terminate, not {how!r}.")
        if given.get("pid") is None:
            raise UsageError(
                "No process is named and none holds others up: there is no session to end."
            )
        try:
            pid = int(str(given["pid"]))
        except ValueError:
            raise UsageError(f"pid is the number of a process, not {given['pid']!r}.") from None
        return {"pid": pid, "how": how, "since": _moment(given.get("since"))}

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        row = transaction.row(_SQL["session"], pid=parameters["pid"])
        if row is None:
            return Preview([], 0)
        if row.ours:
            raise UsageError("This is the session that asks; name another.")
        _refuse_unless_it_holds_up(row, parameters.get("since"))
        if parameters["how"] == "cancel" and str(row.state).startswith("idle"):
            raise UsageError(
                f"Process {row.pid} is {row.state}: there is nothing to cancel. Plan it with how=terminate."
            )
        # Another transaction of the same session is not the one that was looked at.
        seen = {"backend_start": str(row.backend_start), "xact_start": str(row.xact_start)}
        shown = {
            "role": row.role, "application": row.application, "state": row.state,
            "transaction_seconds": row.transaction_seconds and round(row.transaction_seconds),
            "directly_waiting": row.directly_waiting, "query": one_line(row.query or "", 200),
        }  # fmt: skip
        return Preview([SeenRow(str(row.pid), seen, shown, row.xact_start)], 1)

    def lock(self, transaction: Transaction, rows: Sequence[SeenRow]) -> None:
        """A session cannot be locked: it is looked at once more right before it is ended."""
        transaction.run(_SQL["look_afresh"])

    def apply(
        self, transaction: Transaction, rows: Sequence[SeenRow], parameters: Mapping[str, Any], actor: str
    ) -> Sequence[ChangedRow]:  # fmt: skip
        how = parameters["how"]
        try:
            ended = [transaction.value(_SQL[how], pid=parameters["pid"]) for _ in rows]
        except psycopg2.errors.InsufficientPrivilege as error:
            told = str(error).strip().splitlines()[0]
            raise CouldNotBeDone(f"This role may not {how} that session: {told}. Its own role, or one with pg_signal_backend, may.") from error  # fmt: skip
        return [
            ChangedRow(row.key, before=row.shown, after={"ended_by": how}, changed=bool(done))
            for row, done in zip(rows, ended, strict=True)
        ]


class EndIdleSessions(TransactionalKind):
    """Ends sessions that one program opened and left idle. A pool opens new ones when it needs them."""

    name = "sessions.end_idle"
    summary = (
        "Ends the sessions of one program that are idle and in no transaction. Nothing is rolled back; a program "
        "that pools its connections opens new ones."
    )
    parameters: ClassVar[Mapping[str, str]] = {
        "application": "the program, as its sessions name it (application_name)",
        "role": "only those of this role",
        "idle_seconds": f"idle for at least so long; {USUAL_IDLE_SECONDS} when not given",
    }
    row_limit = 500

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        application = str(given.get("application") or "").strip()
        if not application:
            raise UsageError(
                "No program is named. `application` is the name that its sessions carry; those without a name could be anybody's."
            )
        if application.lower().startswith(OWN_PROGRAMS):
            raise UsageError(
                f"{application} is a program of the workbench, and needs the sessions that it holds. Drain a worker, "
                "which gives its connection back: runbook workers drain WORKER."
            )
        idle_seconds = _seconds(given.get("idle_seconds"))
        # Whoever falls idle after this is not among them, so that a plan does not change while it is read.
        before = datetime.now(UTC) - timedelta(seconds=idle_seconds)
        return {
            "application": application, "role": str(given.get("role") or "").strip() or None,
            "idle_seconds": idle_seconds, "before": before.isoformat(),
        }  # fmt: skip

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        rows = transaction.rows(_SQL["idle_sessions"], row_count=row_count, **parameters)
        application = parameters["application"]
        hidden = transaction.value(_SQL["hidden_sessions"], application=application)
        if not rows and hidden:
            raise PlanRefused(
                f"This role may not look into {hidden} sessions of {application}: they are another role's. Plan it as that "
                "role, or as one with pg_monitor and pg_signal_backend."
            )
        if strange := sorted({row.role for row in rows if not row.may_end}):
            raise PlanRefused(
                f"This role may not end sessions of {', '.join(strange)}. That role itself may, or one with pg_signal_backend."
            )
        return Preview([_idle(row) for row in rows], rows[0].all_of_them if rows else 0)

    def lock(self, transaction: Transaction, rows: Sequence[SeenRow]) -> None:
        """A session cannot be locked: one that has been used since is passed over when it is its turn."""
        transaction.run(_SQL["look_afresh"])

    def apply(
        self, transaction: Transaction, rows: Sequence[SeenRow], parameters: Mapping[str, Any], actor: str
    ) -> Sequence[ChangedRow]:  # fmt: skip
        return [_end_idle(transaction, row) for row in rows]


def _end_idle(transaction: Transaction, row: SeenRow) -> ChangedRow:
    transaction.run(_SQL["look_afresh"])
    done = bool(transaction.value(_SQL["terminate_idle"], pid=int(row.key), **row.seen))
    after = {"ended_by": "terminate"} if done else {}
    return ChangedRow(row.key, before=row.shown, after=after, changed=done)


def _idle(row: Any) -> SeenRow:
    """What is used in between has another time of its last change, and is not the one that was seen."""
    shown = {
        "role": row.role, "application": row.application, "address": row.address,
        "opened": str(row.backend_start), "idle_seconds": round(row.idle_seconds),
    }  # fmt: skip
    seen = {"backend_start": str(row.backend_start), "state_change": str(row.state_change)}
    return SeenRow(str(row.pid), seen, shown, row.state_change)


def _seconds(given: Any) -> int:
    try:
        seconds = USUAL_IDLE_SECONDS if given in (None, "") else int(str(given))
    except ValueError:
        seconds = -1
    if seconds < LEAST_IDLE_SECONDS:
        raise UsageError(
            f"idle_seconds is a whole number of at least {LEAST_IDLE_SECONDS}, not {given!r}: what was used a moment ago is in use."
        )
    return seconds


def _refuse_unless_it_holds_up(row: Any, since: str | None) -> None:
    """A session that is in no transaction, or does its work and keeps nobody waiting, is left alone; and where it
    was said since when the one that was seen has its transaction, another one is not ended in its place."""
    who = f"Process {row.pid} ({row.application or 'no name'})"
    if row.xact_start is None and row.query != HIDDEN:
        raise PlanRefused(f"{who} is in no transaction: it holds nobody up, and is left alone.")
    longest_seconds = load_policy(load_settings()).thresholds.transaction_warning_seconds
    works = row.state == "active" and not row.directly_waiting
    if works and (row.transaction_seconds or 0) < longest_seconds:
        raise PlanRefused(
            f"{who} is at work since {row.transaction_seconds:.0f} s and nobody waits for it: it is left alone."
        )
    if since is None or row.xact_start is None:
        return
    began = datetime.fromisoformat(since)
    if abs((row.xact_start - began).total_seconds()) > SAME_SECONDS:
        raise PlanRefused(
            f"Process {row.pid} is in another transaction than the one that was seen: since {row.xact_start:%H:%M:%S}, "
            f"not {began.astimezone(row.xact_start.tzinfo):%H:%M:%S}. It is left alone; look again."
        )


def _moment(given: Any) -> str | None:
    if given in (None, ""):
        return None
    try:
        at = given if isinstance(given, datetime) else datetime.fromisoformat(str(given))
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise UsageError(f"since is a time with its offset, such as 2026-12-31T08:00:00+00:00, not {given!r}.")  # fmt: skip
    return at.isoformat()


register(EndSession())
register(EndIdleSessions())
