"""Facts about locks: who holds a whole table, who sits on rows, and who waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runbook_lib.triage.evidence import Evidence
from runbook_lib.triage.facts import Fact, rounded

# Another session's transaction that holds locks for longer is no ordinary one of a worker.
LONG_LOCK_SECONDS = 5.0
# A whole-table lock stops everybody from its first moment on.
TABLE_LOCK_SECONDS = 1.0
WHOLE_TABLE = ("AccessExclusiveLock", "ExclusiveLock", "ShareRowExclusiveLock", "ShareLock")
# A worker's own transaction is no forgotten console's.
WORKERS = "runbook-worker"


def lock_facts(evidence: Evidence) -> Iterator[Fact]:
    rows, source = evidence.rows.get("table_locks"), evidence.source("table_locks")
    whole = [
        row
        for row in rows or ()
        if row.mode in WHOLE_TABLE
        and (
            (row.granted and (row.transaction_seconds or 0) >= TABLE_LOCK_SECONDS)
            or (row.hidden and row.waiting)
            or (not row.granted and row.waiting)
        )
    ]
    first = whole[0] if whole else None
    yield Fact(
        "database.table_lock_held", "query", None if rows is None else bool(whole),
        _whole_lock(first) if first
        else "A session holds a lock on a whole table of the pipeline.",
        rounded(first.transaction_seconds) if first else None, TABLE_LOCK_SECONDS, source, symptom=True, severe=True, subject=_session(first),
    )  # fmt: skip
    blockers = evidence.checks.get("database.blockers")
    waiting = None if blockers is None or not blockers.answered else bool(blockers.value)
    yield Fact(
        "database.sessions_wait", "query", waiting, "Sessions wait for a lock that another one holds.",
        blockers.value if blockers else None, 0, blockers.source or "" if blockers else "",
    )  # fmt: skip
    locked = "tables_locked_for_reading" in evidence.rows
    yield Fact(
        "database.reading_waits_for_a_lock", "query", locked or (False if rows is not None else None),
        "Reading the pipeline's tables has to wait for somebody's lock.", locked, None, "triage.newest_attempts", symptom=True, severe=True,
    )  # fmt: skip
    idle = [row for row in rows or () if row.mode in ("RowShareLock", "RowExclusiveLock") and row.relation.endswith("content_jobs")
            and str(row.state).startswith("idle in transaction") and (row.in_state_seconds or 0) >= LONG_LOCK_SECONDS
            and row.application != WORKERS]  # fmt: skip
    sitting = idle[0] if idle else None
    yield Fact(
        "database.idle_transaction_holds_jobs", "claim", None if rows is None else bool(idle),
        f"Process {sitting.pid} ({sitting.application or 'no name'}) sits idle in a transaction that locked rows of content_jobs." if sitting
        else "A session sits idle in a transaction that locked jobs.",
        round(sitting.in_state_seconds, 1) if sitting else None, LONG_LOCK_SECONDS, source, subject=_session(sitting),
    )  # fmt: skip


def _session(row: Any | None) -> dict[str, Any]:
    if row is None or row.pid is None:
        return {}
    if not row.granted:
        return {"pid": row.blocker}
    known = {"pid": row.pid, "application": row.application}
    return known if row.since is None else {**known, "since": row.since.isoformat()}


def _whole_lock(row: Any) -> str:
    if row.pid is None:
        return f"A prepared transaction holds a lock on all of {row.relation}; no process belongs to it (pg_prepared_xacts)."
    if not row.granted:
        return f"Process {row.pid} ({_who(row)}) waits for a lock on all of {row.relation}, and everybody else waits behind it: process {row.blocker} holds it up."
    return f"Process {row.pid} ({_who(row)}) holds a lock on all of {row.relation}."


def _who(row: Any) -> str:
    return "another role's, the rest is hidden" if row.hidden else f"{row.application or 'no name'}, {row.state}"  # fmt: skip
