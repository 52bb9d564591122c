"""Simulated histories with day and night, judged minute by minute by the rules that watch real ones."""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from runbook_lib.health.checks import Check
from runbook_lib.health.judgement import (
    Usual,
    daily_failure_rate,
    failing_now,
    failures_in_a_row,
    jobs_failed_in_a_row,
    no_success,
    volume,
)
from runbook_lib.health.periods import floor_quarter
from runbook_lib.health.rates import rate
from runbook_lib.health.situation import Situation, judge, learn
from runbook_lib.policy import Detection, Policy, Thresholds

BASE_FAILURE_SHARE = 0.05
BEGIN = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
MINUTE = timedelta(minutes=1)
DAY_MINUTES = 1440
# Half of the jobs of 15:00 come at 21:00 and 9:00, and a seventh of them at 3:00.
_SHAPE = [1 + 0.75 * math.sin((minute / DAY_MINUTES - 0.375) * 2 * math.pi) for minute in range(DAY_MINUTES)]  # fmt: skip
_PEAK = max(_SHAPE)
# Working time of an attempt: half within 25 s, one of a hundred above 100 s.
_MEDIAN_SECONDS, _SPREAD = 25.0, 0.6


@dataclass
class Attempts:
    """Attempts in the order in which they ended, and jobs that never did: minutes since the beginning."""

    ended: list[float] = field(default_factory=list)
    failed: list[bool] = field(default_factory=list)
    failures: list[int] = field(default_factory=lambda: [0])
    stuck: list[float] = field(default_factory=list)


def simulate(
    jobs_per_hour: float, days: int, seed: int, *, onset: float = math.inf,
    failure_share: float = BASE_FAILURE_SHARE, stuck: bool = False,
) -> Attempts:  # fmt: skip
    """Jobs come by chance, more by day than by night; from `onset` (in minutes) on something is wrong."""
    chance = random.Random(seed)
    made = Attempts()
    finished: list[tuple[float, bool]] = []
    highest = jobs_per_hour / 60 * _PEAK
    at = chance.expovariate(highest)
    while at < days * DAY_MINUTES:
        if chance.random() * _PEAK < _SHAPE[int(at) % DAY_MINUTES]:
            end = at + _MEDIAN_SECONDS * math.exp(chance.gauss(0, _SPREAD)) / 60
            share = failure_share if end >= onset else BASE_FAILURE_SHARE
            if stuck and end >= onset:
                made.stuck.append(at)
            else:
                finished.append((end, chance.random() < share))
        at += chance.expovariate(highest)
    for end, failed in sorted(finished):
        made.ended.append(end)
        made.failed.append(failed)
        made.failures.append(made.failures[-1] + failed)
    return made


def usual(jobs_per_hour: float) -> Usual:
    """What weeks of such days teach."""
    hours = [sum(_SHAPE[hour * 60 : hour * 60 + 60]) / 60 * jobs_per_hour for hour in range(24)]
    days = dict.fromkeys(range(7), 8)
    expected = {(day, hour): hours[hour] for day in range(7) for hour in range(24)}
    return Usual(BASE_FAILURE_SHARE, expected, days, days, longest_usual_seconds=100.0)


def judged(
    attempts: Attempts, minute: int, known: Usual, thresholds: Thresholds, detection: Detection
) -> Iterator[Check]:  # fmt: skip
    """What the rules say at a minute, from the same figures that they get from the rollup."""
    now = BEGIN + minute * MINUTE
    until = bisect.bisect_right(attempts.ended, minute)
    windows = {
        length: rate(*_counted(attempts, now - length * MINUTE, until))
        for length in detection.windows_minutes
    }
    yield failing_now(windows, thresholds, detection)
    yield daily_failure_rate(
        rate(*_counted(attempts, now - timedelta(days=1), until)), thresholds, per="attempt"
    )
    newest = [
        (str(place), attempts.failed[place], BEGIN + attempts.ended[place] * MINUTE)
        for place in range(until - 1, max(-1, until - 31), -1)
    ]
    yield failures_in_a_row(*jobs_failed_in_a_row(newest), known, detection)
    success = next((at for _, failed, at in newest if not failed), None)
    waiting = attempts.stuck[0] if attempts.stuck and attempts.stuck[0] <= minute else None
    yield no_success(
        now, success, None if waiting is None else BEGIN + waiting * MINUTE, known, detection
    )
    last = newest[0][2] if newest else None
    yield volume(now, last, known, detection, jobs_wait=waiting is not None)


def first_alarm(
    attempts: Attempts, minutes: range, known: Usual, thresholds: Thresholds, detection: Detection
) -> int | None:
    """The first of the minutes at which a rule is not content."""
    for minute in minutes:
        if any(check.verdict in ("warning", "critical") for check in judged(attempts, minute, known, thresholds, detection)):  # fmt: skip
            return minute
    return None


def alarms(
    attempts: Attempts, days: int, known: Usual, thresholds: Thresholds, detection: Detection
) -> list[tuple[int, str]]:
    """Every alarm of a history, with the rule that raised it; one within 12 hours of another is the same."""
    found: list[tuple[int, str]] = []
    last = -math.inf
    for minute in _telling_minutes(attempts, days):
        for check in judged(attempts, minute, known, thresholds, detection):
            if check.verdict in ("warning", "critical"):
                if minute - last > 720:
                    found.append((minute, check.name))
                last = minute
    return found


def _telling_minutes(attempts: Attempts, days: int) -> Iterator[int]:
    """Minutes at which a verdict can get worse: after a failure, when a quarter of an hour passes out of
    the windows, and at the end of a silence."""
    minutes = {
        math.ceil(at) for at, failed in zip(attempts.ended, attempts.failed, strict=True) if failed
    }
    minutes.update(math.floor(at) for at in attempts.ended)
    minutes.update(range(DAY_MINUTES, days * DAY_MINUTES, 15))
    yield from sorted(minute for minute in minutes if DAY_MINUTES <= minute < days * DAY_MINUTES)


def _counted(attempts: Attempts, since: datetime, until: int) -> tuple[int, int]:
    begin = bisect.bisect_left(attempts.ended, (floor_quarter(since) - BEGIN) / MINUTE)
    return attempts.failures[until] - attempts.failures[begin], until - begin


# What a producer adds, at 6:00: on weekdays (Monday is 0) so many jobs.
BATCHES: dict[str, dict[int, int]] = {
    "12 jobs a day": dict.fromkeys(range(7), 12),
    "2 jobs a day": dict.fromkeys(range(7), 2),
    "5 jobs on working days": dict.fromkeys(range(5), 5),
    "200 jobs a day": dict.fromkeys(range(7), 200),
}
_BATCH_HOUR, _LEARNED_DAYS, SILENT_DAYS = 6, 56, 21


@dataclass(frozen=True)
class Silence:
    """How a silence of 21 days was noticed. Hours count from when the first output was due."""

    first_alarm_hours: float
    days_with_alarm: int
    no_rate: bool


def silent_producer(batch: dict[int, int]) -> Silence:
    """Eight weeks of a daily batch, then nothing is added and no job waits."""
    return _silence(batch, jobs_wait=False)


def silent_worker() -> Silence:
    """Eight weeks of a daily batch, then jobs are added and nothing ends: the worker does nothing."""
    return _silence(BATCHES["12 jobs a day"], jobs_wait=True)


def _silence(batch: dict[int, int], *, jobs_wait: bool) -> Silence:
    policy = Policy()
    days = [BEGIN.date() + timedelta(days=number) for number in range(_LEARNED_DAYS)]
    counts = [
        (day, _BATCH_HOUR, batch[day.weekday()], 0) for day in days if batch.get(day.weekday())
    ]
    last = datetime.combine(counts[-1][0], datetime.min.time(), UTC) + timedelta(hours=_BATCH_HOUR, minutes=10)  # fmt: skip
    known = learn(counts, days[-1] + timedelta(days=1), policy.detection)
    due = BEGIN + timedelta(days=_LEARNED_DAYS, hours=_BATCH_HOUR)
    alarms_at: list[datetime] = []
    rates_given = False
    quarters = [*range(96), *range(96, SILENT_DAYS * 96, 8)]
    for quarter in quarters:
        now = due + quarter * timedelta(minutes=15)
        recent = now - last < timedelta(days=1)
        checks = judge(_silent(now, last, due if jobs_wait else None, known), policy)
        alarming = [check for check in checks if check.verdict in ("warning", "critical")]
        if alarming:
            alarms_at.append(now)
        if not recent:
            rates_given |= any(
                check.verdict != "not_enough_data" for check in checks if check.unit == "percent"
                or (check.name.startswith("failures.") and check.name.endswith("_of_day"))
            )  # fmt: skip
    first = (alarms_at[0] - due) / timedelta(hours=1) if alarms_at else math.inf
    with_alarm = {(at - due) // timedelta(days=1) for at in alarms_at}
    return Silence(first, len(with_alarm), not rates_given)


def _silent(
    now: datetime, last: datetime, waiting_since: datetime | None, known: Usual
) -> Situation:  # fmt: skip
    nothing = rate(0, 0)
    return Situation(
        now, dict.fromkeys((60, 120, 240, 480), nothing), nothing, nothing, 0, None, last, last,
        waiting_since, 12 if waiting_since else 0, known,
    )  # fmt: skip
