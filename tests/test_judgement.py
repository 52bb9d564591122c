"""The rules: outages are noticed in time, quiet days raise no alarm, and silence is never taken for success.

The long form is `benchmarks/detection.py`: more onsets, and years of quiet days.
"""

from __future__ import annotations

import statistics
from datetime import UTC, date, datetime, timedelta

import pytest

from benchmarks.detection import FAULTS, minutes_to_alarm
from benchmarks.simulated_days import (
    BATCHES,
    SILENT_DAYS,
    alarms,
    silent_producer,
    silent_worker,
    simulate,
    usual,
)
from runbook_lib.health.judgement import (
    Usual,
    daily_failure_rate,
    duration,
    failing_now,
    failures_in_a_row,
    jobs_failed_in_a_row,
    most_in_a_row,
    most_missed,
    no_success,
    volume,
)
from runbook_lib.health.rates import rate
from runbook_lib.health.situation import learn
from runbook_lib.policy import Detection, Policy, Thresholds

NOW = datetime(2026, 5, 20, 12, tzinfo=UTC)  # a Wednesday
UNKNOWN = learn([], date(2026, 5, 20), Detection())
LIMITS, DETECTION = Thresholds(), Detection()


@pytest.mark.parametrize(
    ("fault", "jobs_per_hour"), [(fault, rate) for fault, (_, bars) in FAULTS.items() for rate in bars]
)  # fmt: skip
def test_an_outage_is_noticed_in_time(fault: str, jobs_per_hour: int) -> None:
    share, bars = FAULTS[fault]
    found = minutes_to_alarm(jobs_per_hour, share, trials=11)
    assert statistics.median(found) <= bars[jobs_per_hour], found


@pytest.mark.parametrize(("jobs_per_hour", "days"), [(5, 25), (20, 10), (100, 3)])
def test_quiet_days_raise_no_alarm(jobs_per_hour: int, days: int) -> None:
    known = usual(jobs_per_hour)
    attempts = simulate(jobs_per_hour, days, seed=7)
    assert sum(attempts.failed) > 2 * days  # there is something that a rule could stumble over
    assert alarms(attempts, days, known, LIMITS, DETECTION) == []


@pytest.mark.parametrize("name", BATCHES)
def test_a_producer_without_output_is_missed_on_the_first_day_and_on_every_one(name: str) -> None:
    silence = silent_producer(BATCHES[name])
    assert silence.first_alarm_hours <= 2
    assert silence.days_with_alarm == SILENT_DAYS
    assert silence.no_rate


def test_a_worker_without_output_is_missed_within_the_hour_and_for_as_long_as_it_lasts() -> None:
    silence = silent_worker()
    assert silence.first_alarm_hours <= 1
    assert silence.days_with_alarm == SILENT_DAYS
    assert silence.no_rate


@pytest.mark.parametrize(
    ("failed", "counted", "verdict"),
    [
        (0, 0, "not_enough_data"),
        (0, 3, "not_enough_data"),
        (1, 3, "not_enough_data"),  # the written runbook would page: 33 % of a small day
        (2, 3, "warning"),
        (3, 3, "critical"),
        (1, 8, "ok"),
        (6, 20, "warning"),
        (10, 20, "critical"),
        (28, 100, "warning"),  # 28 % may still be 20 %
        (300, 1000, "critical"),
    ],
)
def test_a_day_is_judged_by_the_lower_bound(failed: int, counted: int, verdict: str) -> None:
    found = daily_failure_rate(rate(failed, counted), LIMITS, per="job")
    assert (found.name, found.verdict) == ("failures.jobs_of_day", verdict)


def test_one_job_that_is_tried_again_and_again_is_one_failure_in_a_row() -> None:
    at = [NOW - timedelta(minutes=number) for number in range(6)]
    poison = [("a", True, moment) for moment in at]
    assert jobs_failed_in_a_row(poison) == (1, at[-1])
    assert jobs_failed_in_a_row([("a", True, at[0]), ("b", False, at[1]), ("c", True, at[2])]) == (
        1,
        at[0],
    )
    assert jobs_failed_in_a_row([]) == (0, None)


def test_more_failures_in_a_row_are_asked_for_where_coincidences_are_more_frequent() -> None:
    assert [most_in_a_row(usual(rate), DETECTION) for rate in (5, 100, 5000)] == [4, 5, 7]
    often = Usual(0.3, usual(20).expected, {}, dict.fromkeys(range(7), 8))
    assert most_in_a_row(often, DETECTION) > 8
    most = most_in_a_row(UNKNOWN, DETECTION)
    assert failures_in_a_row(most - 1, NOW, UNKNOWN, DETECTION).verdict == "ok"
    assert failures_in_a_row(most, NOW, UNKNOWN, DETECTION).verdict == "critical"


def test_the_window_that_is_surest_decides_and_no_attempts_are_no_success() -> None:
    windows = {60: rate(1, 10), 480: rate(60, 160)}
    found = failing_now(windows, LIMITS, DETECTION)
    assert (found.verdict, found.details["window_minutes"]) == ("critical", 480)
    assert failing_now({60: rate(5, 5)}, LIMITS, DETECTION).verdict == "ok"  # the row rule's matter
    assert failing_now({60: rate(0, 0)}, LIMITS, DETECTION).verdict == "not_enough_data"
    assert failing_now({60: rate(12, 30)}, LIMITS, DETECTION).verdict == "warning"


def test_silence_is_an_outage_only_while_jobs_wait() -> None:
    hour_ago, now = NOW - timedelta(hours=1), NOW
    assert no_success(now, hour_ago, None, UNKNOWN, DETECTION).verdict == "ok"
    assert no_success(now, hour_ago, hour_ago, UNKNOWN, DETECTION).verdict == "critical"
    assert no_success(now, None, hour_ago, UNKNOWN, DETECTION).verdict == "critical"
    assert no_success(now, None, None, UNKNOWN, DETECTION).verdict == "not_enough_data"
    # one job waits long, others succeed: another check's matter
    assert no_success(now, now, hour_ago, UNKNOWN, DETECTION).verdict == "ok"
    slow = Usual(0.05, {}, {}, {}, longest_usual_seconds=1500)
    assert no_success(now, hour_ago, hour_ago, slow, DETECTION).verdict == "ok"


def test_silence_is_judged_by_the_weekday_and_hour_in_the_time_zone() -> None:
    counts = [
        (date(2026, 3, 23) + timedelta(days=day), hour, 20, 1)
        for day in range(56) for hour in range(8, 18) if day % 7 < 5
    ]  # fmt: skip
    berlin = Detection(timezone="Europe/Berlin")
    known = learn(counts, date(2026, 5, 18), berlin)
    monday = datetime(2026, 5, 18, 6, tzinfo=UTC)  # 8:00 in Berlin
    assert known.expected_between(monday - timedelta(hours=60), monday) == 0  # the weekend
    assert known.expected_between(monday, monday + timedelta(minutes=90)) == pytest.approx(30)
    friday_evening = monday - timedelta(hours=62)
    at_nine, at_ten = monday + timedelta(hours=1), monday + timedelta(hours=2)
    assert known.is_regular
    assert volume(at_nine, friday_evening, known, berlin, jobs_wait=False).verdict == "warning"
    half_past = at_nine + timedelta(minutes=10)
    assert volume(half_past, friday_evening, known, berlin, jobs_wait=False).verdict == "critical"
    quiet = Usual(
        0.05, known.expected, dict(known.active_days) | {0: 7}, known.days, "Europe/Berlin"
    )
    assert not quiet.is_regular
    assert volume(monday, friday_evening, quiet, berlin, jobs_wait=False).verdict == "ok"
    assert volume(at_nine, friday_evening, quiet, berlin, jobs_wait=False).verdict == "warning"
    late = volume(at_ten, friday_evening, quiet, berlin, jobs_wait=True)
    assert late.verdict == "critical"
    assert "look at the workers" in late.message
    assert most_missed(quiet, berlin) < 20


def test_too_little_history_teaches_nothing_and_a_weekday_that_is_mostly_empty_is_expected_to_be() -> (
    None
):
    week = [(date(2026, 5, 11) + timedelta(days=day), 9, 5, 0) for day in range(7)]
    assert learn(week, date(2026, 5, 18), DETECTION).expected == {}
    assert (
        volume(
            NOW, NOW, learn(week, date(2026, 5, 18), DETECTION), DETECTION, jobs_wait=False
        ).verdict
        == "not_enough_data"
    )
    once = [(date(2026, 4, 5), 9, 50, 0)]  # one Sunday of six
    rest = [(date(2026, 3, 30) + timedelta(days=day), 9, 5, 0) for day in range(42) if day % 7 < 5]
    known = learn([*once, *rest], date(2026, 5, 11), DETECTION)
    assert (6, 9) not in known.expected
    assert known.expected[0, 9] == 5


def test_a_duration_that_is_not_known_is_not_good() -> None:
    assert duration("a.b", "attempts", None, 3, 2, source="s").verdict == "not_enough_data"
    assert duration("a.b", "attempts", 1.9, 300, 2, source="s").verdict == "ok"
    assert duration("a.b", "attempts", 2.1, 300, 2, source="s").verdict == "warning"


def test_the_thresholds_are_the_teams() -> None:
    strict = Policy.model_validate(
        {"thresholds": {"failure_rate_warning_percent": 1, "failure_rate_critical_percent": 2}}
    )
    found = daily_failure_rate(rate(10, 200), strict.thresholds, per="attempt")
    assert (found.verdict, found.threshold) == ("critical", 2)
