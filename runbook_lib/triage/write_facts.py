"""Facts about writing: what the database refuses the workers, and what holds up what they write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runbook_lib.pipeline.refusals import TELL_AGAIN_SECONDS
from runbook_lib.triage.attempts import Attempts
from runbook_lib.triage.evidence import Evidence
from runbook_lib.triage.facts import Fact, rounded
from runbook_lib.triage.schema_facts import rules_of_others

# A refusal that lasts is told again before that; where others succeed meanwhile, that is waited for no longer.
LASTS_SECONDS, AGAIN_SECONDS = 3 * TELL_AGAIN_SECONDS, TELL_AGAIN_SECONDS + 5.0
FEWEST_REFUSED = 2
# Statements of a worker take moments.
HELD_UP_SECONDS = 5.0
# What a statement waits for that is neither work nor somebody's lock: a standby, a pause, another process.
_WAITS = ("IPC", "Timeout", "Extension")


def write_facts(evidence: Evidence, attempts: Attempts) -> Iterator[Fact]:
    """Without our own tables nothing tells what a worker was refused."""
    yield _refused(evidence, attempts)
    yield _refused_by_a_constraint_of_others(evidence, attempts)
    yield _held_up(evidence)


def writing_is_stopped(evidence: Evidence, attempts: Attempts) -> bool:
    """Whether it is known why workers write nothing: that jobs stay unclaimed follows from it."""
    return bool(_lasting(evidence, attempts) or _statements_held_up(evidence))


def _refused(evidence: Evidence, attempts: Attempts) -> Fact:
    rows, source = evidence.rows.get("refused_statements"), evidence.source("refused_statements")
    lasting = _lasting(evidence, attempts)
    holds = None if rows is None else bool(lasting)
    words = _what(lasting[0]) if lasting else "No worker says that a statement of it is refused."
    return Fact(
        "database.statements_refused", "record", holds, words, [row.sqlstate for row in lasting][:5], [], source,
        symptom=True, severe=True, subject={"worker": lasting[0].worker} if lasting else {},
    )  # fmt: skip


def _refused_by_a_constraint_of_others(evidence: Evidence, attempts: Attempts) -> Fact:
    """Whether the constraint that refuses a worker's turn, or one result after another, is none of our migrations'."""
    known = "refused_statements" in evidence.rows and "rules_of_tables" in evidence.rows
    others = {row.name for row in rules_of_others(evidence) if row.kind == "constraint"}
    named = {row.constraint_name for row in _lasting(evidence, attempts)} & others
    named |= {name for name in others if _refuses_results(name, attempts)}
    return Fact(
        "database.constraint_of_others_refuses", "record", bool(named) if known else None,
        f"Workers are refused by {', '.join(sorted(named))}." if named else "No worker is refused by a constraint that no migration of ours made.",
        sorted(named), [], evidence.source("refused_statements"), symptom=bool(named), severe=True,
    )  # fmt: skip


def _refuses_results(constraint: str, attempts: Attempts) -> bool:
    """Whether results could not be stored because of a constraint, several times, and still cannot."""

    def strikes(row: Any) -> bool:
        return str(row.sqlstate or "").startswith("23") and constraint in (row.error or "")

    count = sum(strikes(row) for row in attempts.failures)
    return count >= FEWEST_REFUSED and not attempts.is_over(strikes)


def _lasting(evidence: Evidence, attempts: Attempts) -> list[Any]:
    """Refusals that last, where there is something to write."""
    if not (evidence.rows.get("waiting") or evidence.rows.get("in_processing")):
        return []
    return [row for row in evidence.rows.get("refused_statements", ()) if _lasts(row, attempts)]


def _lasts(row: Any, attempts: Attempts) -> bool:
    """Until an attempt of that worker ended, or others complete theirs and it says so no more."""
    since = [each for each in attempts.all if each.execution_time > row.occurred_at]
    if any(each.worker == row.worker for each in since):
        return False
    others = any(each.status == "completed" for each in since)
    return bool(row.age_seconds <= (AGAIN_SECONDS if others else LASTS_SECONDS))


def _what(row: Any) -> str:
    where = f" (table {row.relation})" if row.relation else ""
    within = f", within: {row.within}" if row.within else ""
    return f"{row.message}{where}{within}."


def _statements_held_up(evidence: Evidence) -> list[Any]:
    return [
        row for row in evidence.rows.get("worker_sessions", ())
        if row.state == "active" and row.wait_event_type in _WAITS and (row.in_state_seconds or 0) > HELD_UP_SECONDS
    ]  # fmt: skip


def _held_up(evidence: Evidence) -> Fact:
    rows, held = evidence.rows.get("worker_sessions"), _statements_held_up(evidence)
    first = held[0] if held else None
    return Fact(
        "workers.statements_held_up", "record", None if rows is None else bool(held),
        f"{len(held)} statements of workers wait inside the server for {first.wait_event} ({first.wait_event_type})." if first
        else "No statement of a worker waits for anything but its work or a lock.",
        rounded(first.in_state_seconds) if first else None, HELD_UP_SECONDS, evidence.source("worker_sessions"), symptom=True, severe=True,
    )  # fmt: skip
