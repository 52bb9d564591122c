"""What holds others up: blockers, old transactions, prepared ones, replication slots."""

from __future__ import annotations

from typing import Any

from runbook_lib.database.statements import load
from runbook_lib.health.blockers import Session, trees
from runbook_lib.health.checks import Check
from runbook_lib.health.registry import DeclaredCheck, View, graded, not_allowed

_SQL = load("database_checks")
GIGABYTE = 1_000_000_000
PG_MONITOR = "GRANT pg_monitor TO this role; it then sees all sessions, and no row of any table."
# Above this, dead rows that cannot be removed are many on any system.
HELD_BACK_WARNING_TRANSACTIONS = 10_000_000
DATABASE_ERRORS = "troubleshooting/database_errors"


def blockers(view: View) -> Check:
    """The tree of sessions that wait for locks, root first."""
    name, statement = "database.blockers", _SQL["waits"]
    rows = view.rows(statement)
    found = trees(Session(**{**row._asdict(), "blocked_by": tuple(row.blocked_by)}) for row in rows)
    waiting = [row for row in rows if row.blocked_by]
    if not found:
        words = "No session waits for another."
        return Check(name, "ok", words, 0, "sessions", source=statement.source)
    longest = max((row.waiting_seconds or 0.0 for row in waiting), default=0.0)
    limits = view.policy.thresholds
    verdict = graded(longest, limits.lock_wait_warning_seconds, limits.lock_wait_critical_seconds)
    root = found[0].session
    hidden = sum(row.hidden for row in rows)
    return Check(
        name,
        verdict,
        f"{len(waiting)} sessions wait for locks, the longest for {longest:.0f} s. They wait for {root.title}.",
        len(waiting),
        "sessions",
        limits.lock_wait_warning_seconds,
        statement.source,
        f"what {hidden} of them do: this role may not see it (pg_monitor may)" if hidden else None,
        f"Ask the owner of process {root.pid} to end its transaction. Else cancel it, then terminate it: the root, not those who wait. Do not raise a time-out: they would only wait longer."
        if verdict != "ok"
        else None,
        procedure=DATABASE_ERRORS if verdict != "ok" else None,
        parameters={"blocker_pid": root.pid} if verdict != "ok" else {},
        details={
            "tree": [line for node in found for line in node.lines()],
            "roots": [node.as_dictionary() for node in found],
            "longest_wait_seconds": round(longest, 1),
        },
    )


def oldest_transaction(view: View) -> Check:
    """The oldest open transaction of a session, and those that sit idle in one."""
    name, statement = "database.oldest_transaction", _SQL["sessions_in_transaction"]
    rows = view.rows(statement)
    hidden = rows[0].hidden_sessions
    sessions = [row._asdict() for row in rows if row.pid is not None]
    for each in sessions:
        del each["hidden_sessions"]
    limits = view.policy.thresholds
    idle = [
        each
        for each in sessions
        if str(each["state"]).startswith("idle in transaction")
        and each["in_state_seconds"] >= limits.idle_in_transaction_warning_seconds
    ]
    oldest = sessions[0]["transaction_seconds"] if sessions else 0.0
    verdict = graded(
        oldest, limits.transaction_warning_seconds, limits.transaction_critical_seconds
    )
    if verdict == "ok" and idle:
        verdict = "warning"
    if verdict == "ok" and hidden:
        return not_allowed(
            name, f"{hidden} sessions of other roles hide their transactions", PG_MONITOR
        )
    words = "No other session is in a transaction."
    if sessions:
        words = f"The oldest open transaction is {oldest:.0f} s old: {_session(sessions[0])}."
    if idle:
        words += f" {len(idle)} sit idle in one, the first: {_session(idle[0])}."
    return Check(
        name,
        verdict,
        words,
        round(oldest, 1),
        "s",
        limits.transaction_warning_seconds,
        statement.source,
        f"that there is no older one: {hidden} sessions of other roles are hidden"
        if hidden
        else None,
        "Let it be ended by its owner: while it stands, dead rows stay, and what it locked stays locked."
        if verdict != "ok"
        else None,
        procedure=DATABASE_ERRORS if verdict != "ok" else None,
        details={"sessions": sessions, "idle_in_transaction": len(idle)},
    )


def _session(row: dict[str, Any]) -> str:
    return (
        f"process {row['pid']} ({row['application'] or 'no name'}, {row['role']}, {row['state']})"
    )


def prepared_transactions(view: View) -> Check:
    """Transactions that were prepared and forgotten: they survive restarts, and hold locks and dead rows."""
    name, statement = "database.prepared_transactions", _SQL["prepared_transactions"]
    rows = [row._asdict() for row in view.rows(statement)]
    if not rows:
        words = "There is no prepared transaction."
        return Check(name, "ok", words, 0, "s", source=statement.source)
    limits, oldest = view.policy.thresholds, rows[0]
    verdict = graded(
        oldest["seconds"], limits.transaction_warning_seconds, limits.transaction_critical_seconds
    )
    return Check(
        name,
        verdict,
        f"{len(rows)} transactions are prepared and not ended, the oldest ({oldest['gid']}, {oldest['role']}) for {oldest['seconds']:.0f} s.",
        round(oldest["seconds"], 1),
        "s",
        limits.transaction_warning_seconds,
        statement.source,
        "that its transaction manager has forgotten it",
        "Ask its transaction manager, then COMMIT PREPARED or ROLLBACK PREPARED."
        if verdict != "ok"
        else None,
        procedure=DATABASE_ERRORS if verdict != "ok" else None,
        details={"prepared": rows},
    )


def replication_slots(view: View) -> Check:
    """Slots that keep the server from removing WAL or dead rows."""
    name, statement = "database.replication_slots", _SQL["replication_slots"]
    rows = [row._asdict() for row in view.rows(statement)]
    limits = view.policy.thresholds
    most = max((row["retained_bytes"] or 0.0 for row in rows), default=0.0)
    held = max((row["holds_back_transactions"] or 0 for row in rows), default=0)
    verdict = graded(
        most / GIGABYTE,
        limits.retained_wal_warning_gigabytes,
        limits.retained_wal_critical_gigabytes,
    )
    if verdict == "ok" and held >= HELD_BACK_WARNING_TRANSACTIONS:
        verdict = "warning"
    named = next((row["slot_name"] for row in rows if (row["retained_bytes"] or 0.0) == most), None)
    return Check(
        name,
        verdict,
        f"{len(rows)} replication slots; {named} keeps {most / GIGABYTE:.2f} GB of WAL."
        if rows
        else "There is no replication slot.",
        round(most),
        "bytes",
        limits.retained_wal_warning_gigabytes * GIGABYTE,
        statement.source,
        None,
        "Start its consumer, or drop the slot (pg_drop_replication_slot) if nobody needs it: the disk fills up otherwise."
        if verdict != "ok"
        else None,
        procedure=DATABASE_ERRORS if verdict != "ok" else None,
        details={"slots": rows},
    )


CHECKS: tuple[DeclaredCheck, ...] = (
    DeclaredCheck("database.blockers", "No session holds others up for long.", blockers),
    DeclaredCheck("database.oldest_transaction", "No transaction is open for long.", oldest_transaction),
    DeclaredCheck("database.prepared_transactions", "No prepared transaction was forgotten.", prepared_transactions),
    DeclaredCheck("database.replication_slots", "No replication slot fills the disk or keeps dead rows.", replication_slots),
)  # fmt: skip
