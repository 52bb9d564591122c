"""Facts about writing: what the database refuses the workers, and what holds up what they write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runbook_lib.pipeline.refusals import TELL_AGAIN_SECONDS
from runbook_lib.triage.attempts import Attempts
from runbook_lib.triage.evidence import Evidence
from runbook_lib.triage.facts import Fact, rounded

# A refusal that lasts is told again before that.
LASTS_SECONDS = 3 * TELL_AGAIN_SECONDS
# Statements of a worker take moments.
HELD_UP_SECONDS = 5.0
# What a statement waits for that is neither work nor somebody's lock: a standby, a pause, another process.
_WAITS = ("IPC", "Timeout", "Extension")


def write_facts(evidence: Evidence, attempts: Attempts) -> Iterator[Fact]:
    """Without our own tables nothing tells what a worker was refused."""
    yield _refused(evidence, attempts)
    yield _held_up(evidence)


def _refused(evidence: Evidence, attempts: Attempts) -> Fact:
    rows, source = evidence.rows.get("refused_statements"), evidence.source("refused_statements")
    ended = {row.worker: row.execution_time for row in reversed(attempts.all)}
    wanted = bool(evidence.rows.get("waiting") or evidence.rows.get("in_processing"))
    lasting = [
        row for row in rows or ()
        if row.age_seconds <= LASTS_SECONDS and not (row.worker in ended and ended[row.worker] > row.occurred_at)
    ]  # fmt: skip
    holds = None if rows is None else bool(lasting) and wanted
    words = _what(lasting[0]) if lasting else "No worker says that a statement of it is refused."
    return Fact(
        "database.statements_refused", "record", holds, words, [row.sqlstate for row in lasting][:5], [], source,
        symptom=True, severe=True, subject={"worker": lasting[0].worker} if lasting else {},
    )  # fmt: skip


def _what(row: Any) -> str:
    where = f" (table {row.relation})" if row.relation else ""
    within = f", within: {row.within}" if row.within else ""
    return f"{row.message}{where}{within}."


def _held_up(evidence: Evidence) -> Fact:
    rows = evidence.rows.get("worker_sessions")
    held = [
        row for row in rows or ()
        if row.state == "active" and row.wait_event_type in _WAITS and (row.in_state_seconds or 0) > HELD_UP_SECONDS
    ]  # fmt: skip
    first = held[0] if held else None
    return Fact(
        "workers.statements_held_up", "record", None if rows is None else bool(held),
        f"{len(held)} statements of workers wait inside the server for {first.wait_event} ({first.wait_event_type})." if first
        else "No statement of a worker waits for anything but its work or a lock.",
        rounded(first.in_state_seconds) if first else None, HELD_UP_SECONDS, evidence.source("worker_sessions"), symptom=True, severe=True,
    )  # fmt: skip
