"""The changes `sessions.end`, one session that holds others up, and `sessions.end_idle`, those that one program left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import psycopg2.errors

from runbook_lib.changes import ChangedRow, Preview, SeenRow, TransactionalKind, register
from runbook_lib.changes.plans import SAMPLE_ROWS
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
# As many as a plan shows in full: nobody confirms what he was not shown, unless he asks for more.
USUAL_COUNT = SAMPLE_ROWS
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
            raise _may_not(f"{how} that session", error) from error
        return [
            ChangedRow(row.key, before=row.shown, after={"ended_by": how}, changed=bool(done))
            for row, done in zip(rows, ended, strict=True)
        ]


class EndIdleSessions(TransactionalKind):
    """Ends sessions that one program opened and left idle: exactly those shown, unless they were used since.

    In one transaction, though what it does cannot be rolled back: where connections have run out, a second one
    beside it may not be had.
    """

    name = "sessions.end_idle"
    summary = (
        "Ends sessions of one program that are idle and in no transaction: nothing is rolled back. A program with a pool "
        "opens new ones when it needs them; one without may meet an error once, so ask its owner first. Those that it "
        "goes on leaking come back: have it repaired."
    )
    parameters: ClassVar[Mapping[str, str]] = {
        "application": "the program, as its sessions name it (application_name)",
        "role": "only sessions of this role",
        "idle_seconds": f"idle for at least so long (default: {USUAL_IDLE_SECONDS})",
        "at_most": f"so many, the longest idle first (default: {USUAL_COUNT})",
    }
    row_limit = 500

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        application = str(given.get("application") or "").strip()
        if not application:
            raise UsageError(
                "No program is named. application=… is the name that its sessions carry; those without one could be anybody's."
            )
        if application.lower().startswith(OWN_PROGRAMS):
            raise UsageError(
                f"{application} is a program of the workbench, and needs the sessions that it has. A worker gives its "
                "own back when it is drained: `runbook workers drain WORKER`."
            )
        return {
            "application": application,
            "role": str(given.get("role") or "").strip() or None,
            "idle_seconds": _whole_number(given, "idle_seconds", USUAL_IDLE_SECONDS, LEAST_IDLE_SECONDS, "What was used a moment ago is in use."),
            "at_most": _whole_number(given, "at_most", USUAL_COUNT, 1),
        }  # fmt: skip

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        found = transaction.rows(
            _SQL["sessions_of_program"], application=parameters["application"], role=parameters["role"], hidden=HIDDEN,
        )  # fmt: skip
        if (shown := parameters.get("sessions")) is not None:
            return _shown_again(shown, found)
        why_not = {row.pid: _why_not(row, parameters["idle_seconds"]) for row in found}
        idle = [row for row in found if why_not[row.pid] is None][: parameters["at_most"]]
        if found and not idle:
            counted = Counter(why_not.values())
            told = ", ".join(f"{count} {words}" for words, count in counted.most_common())
            raise PlanRefused(
                f"No session of {parameters['application']} is to be ended: {told}. {_what_then(found)}"
            )
        if strange := sorted({row.role for row in idle if not row.may_end}):
            raise _may_not(f"end sessions of {', '.join(strange)}")
        return Preview([_seen_idle(row) for row in idle[:row_count]], len(idle))

    def kept(self, parameters: Mapping[str, Any], preview: Preview) -> dict[str, Any]:
        """With the sessions that were shown: one of them that is used again spares itself, and not all others."""
        shown = {row.key: {"seen": row.seen, "shown": row.shown} for row in preview.rows}
        return {**parameters, "sessions": shown}

    def lock(self, transaction: Transaction, rows: Sequence[SeenRow]) -> None:
        """A session cannot be locked: each is looked at once more in the statement that ends it."""
        transaction.run(_SQL["look_afresh"])

    def apply(
        self, transaction: Transaction, rows: Sequence[SeenRow], parameters: Mapping[str, Any], actor: str
    ) -> Sequence[ChangedRow]:  # fmt: skip
        changed: list[ChangedRow] = []
        for row in rows:
            transaction.run(_SQL["look_afresh"])
            try:
                ended = transaction.value(_SQL["terminate_idle"], pid=int(row.key), **row.seen)
            except psycopg2.errors.InsufficientPrivilege as error:
                before = sum(each.changed for each in changed)
                raise _may_not(f"end process {row.key}; {before} were ended before it", error) from error  # fmt: skip
            after = {"ended_by": "terminate"} if ended else {"spared": "used or ended since"}
            changed.append(ChangedRow(row.key, row.shown, after, changed=bool(ended)))
        return changed


def _why_not(row: Any, idle_seconds: int) -> str | None:
    """Why a session is left alone; None for one that is plainly idle."""
    if row.hidden:
        return "hidden from this role"
    if row.superuser:
        return "of a superuser, who may be repairing something"
    if row.state != "idle":
        return str(row.state or "of no known state")
    if row.holds_a_lock:
        return "idle with a lock that the session keeps (an advisory one)"
    if row.listens:
        return "idle because it listens (LISTEN)"
    if row.seconds_in_state < idle_seconds:
        return f"used within {idle_seconds} s"
    return None


def _what_then(found: Sequence[Any]) -> str:
    if all(row.hidden for row in found):
        return "Plan it as the role that they belong to, or as one with pg_monitor and pg_signal_backend."
    return "Close them at the program itself, or look again in a minute."


def _seen_idle(row: Any) -> SeenRow:
    seen = {"backend_start": _in_utc(row.backend_start), "idle_since": _in_utc(row.state_change)}
    shown = {"role": row.role, "application": row.application, "client": row.client}
    return SeenRow(str(row.pid), seen, shown, row.state_change)


def _shown_again(shown: Mapping[str, Any], found: Sequence[Any]) -> Preview:
    """The sessions that the plan showed, and how many of them were not used since."""
    rows = [
        SeenRow(pid, each["seen"], each["shown"], datetime.fromisoformat(each["seen"]["idle_since"]))
        for pid, each in shown.items()
    ]  # fmt: skip
    now = {str(row.pid): row for row in found if row.state == "idle"}
    same = [row for row in rows if row.key in now and _seen_idle(now[row.key]).seen == row.seen]
    if rows and not same:
        raise PlanRefused(
            f"None of the {len(rows)} sessions is idle as it was: each was used or has ended since. Plan again."
        )
    if strange := sorted({row.shown["role"] for row in same if not now[row.key].may_end}):
        raise _may_not(f"end sessions of {', '.join(strange)}")
    return Preview(rows, len(same))


def _in_utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()


def _whole_number(
    given: Mapping[str, Any], name: str, usual: int, least: int, why: str = ""
) -> int:
    """A parameter that is a whole number. Raises `UsageError` for any other, and for one below the least."""
    value = given.get(name)
    if value in (None, ""):
        return usual
    try:
        number = int(str(value))
    except ValueError:
        number = least - 1
    if number < least:
        raise UsageError(f"{name} is a whole number of at least {least}, not {value!r}. {why}".strip())  # fmt: skip
    return number


def _may_not(what: str, error: Exception | None = None) -> CouldNotBeDone:
    """A right that is missing: seen beforehand, when nothing was done yet, or told by the server."""
    who = "Its own role, or one with pg_signal_backend, may."
    if error is None:
        return PlanRefused(f"This role may not {what}. {who}")
    return CouldNotBeDone(f"This role may not {what}: {str(error).strip().splitlines()[0]}. {who}")


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
