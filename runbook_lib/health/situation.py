"""What the rules look at: the last hours in a few numbers, and what is usual, read from the rollup."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from runbook_lib.database.statements import Statement, load
from runbook_lib.health import judgement
from runbook_lib.health.checks import Check
from runbook_lib.health.histogram import percentile_seconds
from runbook_lib.health.judgement import Usual, jobs_failed_in_a_row
from runbook_lib.health.periods import HOUR, floor_hour
from runbook_lib.health.rates import Rate, rate
from runbook_lib.pipeline.failures import NOT_COUNTED_AS_FAILURE
from runbook_lib.policy import Detection, Policy

_SQL = load("history")
DAY_MINUTES = 24 * 60
# More failures in a row than any rule asks for.
NEWEST_ATTEMPTS = 50
# Fewer attempts say nothing about what share of them usually fails.
FEWEST_FOR_SHARE = 200
LONGEST_USUAL_SECONDS = 2400.0


class Reading(Protocol):
    """Where statements are run: `rows` asks the pipeline's database, `own_rows` ours."""

    def rows(self, statement: Statement, **parameters: Any) -> list[Any]: ...

    def own_rows(self, statement: Statement, **parameters: Any) -> list[Any]: ...


@dataclass(frozen=True)
class Situation:
    """The last hours of a pipeline, and what is usual for it.

    `windows` holds failed of counted attempts by length in minutes. `waiting_since`: since when the
    oldest job waits that may be begun, or is being worked on; `due` jobs may be begun.
    """

    now: datetime
    windows: Mapping[int, Rate]
    attempts_of_day: Rate
    jobs_of_day: Rate
    jobs_in_a_row: int
    in_a_row_since: datetime | None
    last_success_at: datetime | None
    last_ended_at: datetime | None
    waiting_since: datetime | None
    due: int
    usual: Usual


def judge(situation: Situation, policy: Policy) -> list[Check]:
    """Every rule's answer."""
    thresholds, detection, usual = policy.thresholds, policy.detection, situation.usual
    return [
        judgement.failing_now(situation.windows, thresholds, detection),
        judgement.failures_in_a_row(
            situation.jobs_in_a_row, situation.in_a_row_since, usual, detection
        ),
        judgement.daily_failure_rate(situation.attempts_of_day, thresholds, per="attempt"),
        judgement.daily_failure_rate(situation.jobs_of_day, thresholds, per="job"),
        judgement.no_success(
            situation.now, situation.last_success_at, situation.waiting_since, usual, detection
        ),
        judgement.volume(
            situation.now, situation.last_ended_at, usual, detection, jobs_wait=situation.due > 0
        ),
    ]


def read_situation(reading: Reading, now: datetime, policy: Policy) -> Situation:
    """Reads what the rules need; the rollup has to be up to date. `now` is the database's."""
    detection = policy.detection
    counted = _windows(reading, now, detection)
    newest = _newest_attempts(reading)
    success = reading.own_rows(_SQL["last_success"])
    queue = {row.state: row for row in reading.rows(_SQL["queue"])}
    unfinished = [
        queue[state].oldest_at for state in ("due", "processing", "expired")
        if state in queue and queue[state].oldest_at is not None
    ]  # fmt: skip
    in_a_row, since = jobs_failed_in_a_row(newest)
    last_ended_at = newest[0][2] if newest else None
    day = counted[DAY_MINUTES]
    return Situation(
        now=now,
        windows={length: rate(counted[length].failed, counted[length].counted) for length in detection.windows_minutes},
        attempts_of_day=rate(day.failed, day.counted),
        jobs_of_day=rate(day.jobs_failed, day.jobs_ended),
        jobs_in_a_row=in_a_row,
        in_a_row_since=since,
        last_success_at=success[0].last_completed_at if success else None,
        last_ended_at=last_ended_at,
        waiting_since=min(unfinished, default=None),
        due=queue["due"].jobs if "due" in queue else 0,
        usual=_usual(reading, last_ended_at, detection),
    )  # fmt: skip


def learn(
    counts: Iterable[tuple[date, int, int, int]], last_day: date, detection: Detection,
    longest_usual_seconds: float = 0.0,
) -> Usual:  # fmt: skip
    """What is usual, from (day, hour, counted, failed) of whole days before `last_day`.

    A weekday that mostly has output is judged by the days on which it had; one that mostly has none is
    expected to have none.
    """
    by_hour: dict[tuple[int, int], int] = defaultdict(int)
    with_output: set[date] = set()
    counted_in_all = failed_in_all = 0
    for day, hour, counted, failed in counts:
        by_hour[day.weekday(), hour] += counted
        with_output.add(day)
        counted_in_all, failed_in_all = counted_in_all + counted, failed_in_all + failed
    first_day = min(with_output, default=last_day)
    days = Counter(
        (first_day + timedelta(days=number)).weekday()
        for number in range((last_day - first_day).days)
    )
    active = Counter(day.weekday() for day in with_output)
    share = (
        failed_in_all / counted_in_all if counted_in_all >= FEWEST_FOR_SHARE
        else judgement.ASSUMED_FAILURE_SHARE
    )  # fmt: skip
    enough = (last_day - first_day).days >= 7 * detection.fewest_weeks
    expected = {
        (weekday, hour): counted / active[weekday]
        for (weekday, hour), counted in by_hour.items()
        if enough and active[weekday] * 2 > days[weekday]
    }
    return Usual(share, expected, active, days, detection.timezone, longest_usual_seconds)


def _windows(reading: Reading, now: datetime, detection: Detection) -> dict[int, Any]:
    lengths = sorted({*detection.windows_minutes, DAY_MINUTES})
    rows = reading.own_rows(_SQL["windows"], lengths=lengths, now=now)
    return {row.minutes: row for row in rows}


def _newest_attempts(reading: Reading) -> list[tuple[str, bool, datetime]]:
    """The rollup knows in which hours they are, so that few rows are read however many there are."""
    since = reading.own_rows(_SQL["hours_with_last_attempts"], count=NEWEST_ATTEMPTS)[0].since
    if since is None:
        return []
    rows = reading.rows(
        _SQL["last_attempts"],
        since=since, count=NEWEST_ATTEMPTS, left_out=list(NOT_COUNTED_AS_FAILURE),
    )  # fmt: skip
    return [(row.job_id, row.failed, row.execution_time) for row in rows]


def _usual(reading: Reading, last_ended_at: datetime | None, detection: Detection) -> Usual:
    """Learnt from the weeks before the last sign of life, so that no silence is ever learnt."""
    if last_ended_at is None:
        return learn([], date(2000, 1, 1), detection)
    last_day = last_ended_at.astimezone(ZoneInfo(detection.timezone)).date()
    since = last_ended_at - timedelta(weeks=detection.learned_weeks)
    rows = reading.own_rows(
        _SQL["usual"], since=since, until=last_ended_at, timezone=detection.timezone
    )
    counts = [
        (row.day, row.hour, row.counted, row.failed) for row in rows
        if since.astimezone(ZoneInfo(detection.timezone)).date() < row.day < last_day
    ]  # fmt: skip
    return learn(counts, last_day, detection, _longest_usual_seconds(reading, last_ended_at))


def _longest_usual_seconds(reading: Reading, last_ended_at: datetime) -> float:
    until = floor_hour(last_ended_at) + HOUR
    rows = reading.own_rows(
        _SQL["durations_by_period"],
        begins=[until - timedelta(days=7)], since=until - timedelta(days=7), until=until, minutes=60, by="stage", stages=["whole"],
        completed=[True],
    )  # fmt: skip
    if not rows:
        return 0.0
    return min(LONGEST_USUAL_SECONDS, percentile_seconds(rows[0].buckets, rows[0].counts, 99))
