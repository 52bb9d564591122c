"""What becomes of a due time: a schedule's policies as rules, without a clock and without a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from runbook_lib.scheduling.schedules import Schedule

# A due time is in time when it is dealt with within this; later it is caught up by the policy.
IN_TIME = timedelta(seconds=120)


@dataclass(frozen=True)
class Decision:
    """What becomes of one due time: `started` runs it; missed, skipped and overlapped only record it."""

    due_at: datetime
    outcome: str
    note: str | None = None


def decide(
    schedule: Schedule,
    due: Sequence[datetime],
    now: datetime,
    *,
    pause: str | None = None,
    queued_since: datetime | None = None,
) -> list[Decision]:
    """What becomes of each due time, the oldest first.

    `pause` is the reason of a pause that holds. With `overlap: queue`, what came due since
    `queued_since` waited for a run here and is not late.
    """
    if pause is None and schedule.is_paused(now):
        pause = schedule.paused_reason
    if pause is not None:
        return [Decision(each, "skipped", f"The schedule is paused: {pause}") for each in due]
    if queued_since is not None and schedule.overlap == "queue":
        waited = [each for each in due if each >= queued_since]
        late = [each for each in due if each < queued_since]
        started = [Decision(each, "started", "It waited for the run before.") for each in waited]
        return [*_caught_up(schedule, late, now), *started]
    return _caught_up(schedule, due, now)


def overlapped(due: Sequence[datetime], running: datetime | None) -> list[Decision]:
    """What came due while a run went on that it may not overlap with."""
    which = f"The run of {running.isoformat()}" if running else "A run"
    return [Decision(each, "overlapped", f"{which} still went on.") for each in due]


def _caught_up(schedule: Schedule, due: Sequence[datetime], now: datetime) -> list[Decision]:
    if schedule.catch_up == "each":
        return [Decision(each, "started") for each in due]
    late = "No scheduler was there in time."
    decisions = [Decision(each, "missed", late) for each in due[:-1]]
    for newest in due[-1:]:
        runs = schedule.catch_up == "once" or now - newest <= IN_TIME
        decisions.append(Decision(newest, "started") if runs else Decision(newest, "missed", late))
    return decisions
