"""Facts about clocks: the workers', this machine's, and what the attempts' own times say."""

from __future__ import annotations

from collections.abc import Iterator

from runbook_lib.policy import Policy
from runbook_lib.triage.attempts import Attempts
from runbook_lib.triage.evidence import Evidence
from runbook_lib.triage.facts import Fact

# Nothing of the kind is drift.
FAR_OFF_SECONDS = 60.0
RECENT_SECONDS = 300.0


def clock_facts(evidence: Evidence, attempts: Attempts, policy: Policy) -> Iterator[Fact]:
    limit = policy.thresholds.clock_skew_warning_seconds
    # What a silent worker said last still holds, as long as it may be there.
    alive = [
        row for row in evidence.rows.get("workers", ())
        if not row.stopped and row.silent_seconds <= RECENT_SECONDS and row.clock_offset_seconds is not None
        and evidence.process_state(row) != "gone"
    ]  # fmt: skip
    worst = max(alive, key=lambda row: abs(row.clock_offset_seconds), default=None)
    off = worst is not None and abs(worst.clock_offset_seconds) > limit
    yield Fact("clocks.worker_off", "clocks", off if alive else None, f"The clock of {worst.worker} is {worst.clock_offset_seconds:+.0f} s from the database's." if worst and off else "The workers' clocks agree with the database's.",
               round(worst.clock_offset_seconds, 1) if worst else None, limit, evidence.source("workers"), symptom=True, subject={"worker": worst.worker} if worst and off else {})  # fmt: skip
    alike = bool(alive) and all(abs(row.clock_offset_seconds - alive[0].clock_offset_seconds) <= limit for row in alive)  # fmt: skip
    far = worst is not None and abs(worst.clock_offset_seconds) > FAR_OFF_SECONDS
    right = [row for row in alive if abs(row.clock_offset_seconds) <= limit]
    yield Fact(
        "clocks.other_workers_right",
        "clocks",
        bool(right) if off else None,
        "The clocks of other workers agree with the database's.",
        len(right),
        1,
        evidence.source("workers"),
    )
    check = evidence.checks.get("database.clock")
    mine = None if check is None or not check.answered else check.verdict != "ok"
    yield Fact(
        "clocks.database_is_the_odd_one", "clocks", bool(mine and far and alike) if alive and mine is not None else None,
        "All workers and this machine are off the database's clock alike: it is the database's that is wrong.",
        round(worst.clock_offset_seconds, 1) if worst else None, limit, evidence.source("workers"), symptom=True, severe=True,
    )  # fmt: skip
    yield Fact("clocks.this_machine_off", "clocks", mine, "This machine's clock and the database's do not agree.", check.value if check else None, check.threshold if check else None,
               (check.source if check else None) or "doctor.clock", symptom=True)  # fmt: skip
    yield Fact("clocks.database_agrees", "clocks", None if mine is None else not mine, "This machine's clock and the database's agree.", check.value if check else None,
               check.threshold if check else None, (check.source if check else None) or "doctor.clock")  # fmt: skip
    backwards = [
        row
        for row in attempts.all
        if row.started_at and row.completed_at and row.completed_at < row.started_at
    ]
    yield Fact(
        "clocks.negative_durations",
        "clocks",
        bool(backwards) if attempts.all else None,
        f"{len(backwards)} attempts ended before they began.",
        len(backwards),
        0,
        "triage.newest_attempts",
        symptom=bool(backwards),
    )
