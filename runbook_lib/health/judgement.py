"""The rules by which history is judged: pure values in, a `Check` out, `now` given.

Small days must not page anybody and outages must. A rate is judged by its Wilson bound, over windows of
different lengths; what no rate can tell has rules of its own: failures in a row, no success while jobs
wait, and less output than is usual for this weekday and hour. How sure a rule has to be follows from how
often it is asked: at a hundred jobs an hour a coincidence of one in a million happens every year.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import NormalDist
from zoneinfo import ZoneInfo

from runbook_lib.health.checks import Check, Verdict
from runbook_lib.health.rates import Rate, failure_check, rate
from runbook_lib.policy import Detection, Thresholds

HIGH_FAILURE_RATE = "emergency/high_failure_rate"
SYSTEM_DOWN = "emergency/system_down"
SLOW_JOBS = "troubleshooting/slow_jobs"
WINDOW_SOURCE, TAIL_SOURCE, USUAL_SOURCE = (
    "history.windows",
    "history.last_attempts",
    "history.usual",
)
HOURS_OF_A_YEAR = 24 * 365
FEWEST_IN_A_ROW = 3
# Where too little history says what share usually fails.
ASSUMED_FAILURE_SHARE = 0.05
# A rhythm of this many days without a miss is one to rely on.
FEWEST_REGULAR_DAYS = 14
# Where every day has output, a day without any, and one more hour for what comes later than usual.
DAY, GRACE = timedelta(days=1), timedelta(hours=1)


@dataclass(frozen=True)
class Usual:
    """What is usual, learnt from whole days before the last sign of life.

    `expected` holds attempts by weekday (Monday is 0) and hour of the time zone, `active_days` and
    `days` of each weekday on how many days there was any. All empty: there is not enough history.
    """

    failure_share: float
    expected: Mapping[tuple[int, int], float]
    active_days: Mapping[int, int]
    days: Mapping[int, int]
    timezone: str = "UTC"
    longest_usual_seconds: float = 0.0

    @property
    def attempts_per_year(self) -> float:
        hours = 24 * sum(1 for count in self.days.values() if count)
        return sum(self.expected.values()) / hours * HOURS_OF_A_YEAR if hours else 0.0

    def expected_between(self, since: datetime, until: datetime) -> float:
        """How many attempts usually end between two moments."""
        zone, total, at = ZoneInfo(self.timezone), 0.0, since
        while at < until:
            into = timedelta(minutes=at.minute, seconds=at.second, microseconds=at.microsecond)
            end = min(until, at - into + timedelta(hours=1))
            local = at.astimezone(zone)
            share = (end - at) / timedelta(hours=1)
            total += share * self.expected.get((local.weekday(), local.hour), 0.0)
            at = end
        return total

    @property
    def is_regular(self) -> bool:
        """Whether each weekday always has output or never: then one day without it says something."""
        active = {day for day, count in self.active_days.items() if count}
        kept = all(self.active_days[day] == self.days.get(day, 0) for day in active)
        return kept and sum(self.active_days.values()) >= FEWEST_REGULAR_DAYS


def failing_now(windows: Mapping[int, Rate], thresholds: Thresholds, detection: Detection) -> Check:
    """Whether attempts fail more often than they may, by the window in which that is surest.

    `windows`: length in minutes → failed of counted attempts. There is a verdict only where even the
    lower bound of the true rate is above a threshold.
    """
    name, z = "failures.now", certainty_z(detection)
    surest = max(
        (window for window in windows if windows[window].part >= detection.fewest_failures),
        key=lambda window: lower_bound_percent(windows[window], z),
        default=None,
    )
    longest = windows[max(windows)] if windows else rate(0, 0)
    if longest.percent is None:
        return _too_little(
            name, "No attempt ended lately, so there is no rate. No data is not 100 % success."
        )
    if surest is None:
        return Check(
            name, "ok", f"{longest.part} of {longest.whole} attempts of the last {_long(max(windows))} failed.",
            round(longest.percent, 1), "percent", thresholds.failure_rate_critical_percent, WINDOW_SOURCE,
            "that jobs come in: see queue.throughput",
        )  # fmt: skip
    found = windows[surest]
    bound = lower_bound_percent(found, z)
    verdict = _above(
        bound, thresholds.failure_rate_warning_percent, thresholds.failure_rate_critical_percent
    )
    return Check(
        name, verdict,
        f"{found.part} of {found.whole} attempts of the last {_long(surest)} failed; "
        f"the true rate is hardly below {bound:.0f} %.",
        None if found.percent is None else round(found.percent, 1), "percent",
        thresholds.failure_rate_critical_percent, WINDOW_SOURCE, "whose fault it is: see failures.causes",
        "Look at the most frequent cause; `runbook pause` stops a provider meanwhile." if verdict != "ok" else None,
        HIGH_FAILURE_RATE if verdict != "ok" else None,
        details={"window_minutes": surest, "lower_bound_percent": round(bound, 1)},
    )  # fmt: skip


def failures_in_a_row(
    jobs_in_a_row: int, since: datetime | None, usual: Usual, detection: Detection
) -> Check:
    """Whether the newest attempts all failed, on more jobs than chance explains.

    `jobs_in_a_row`: distinct jobs of the attempts since the last success, so that one job that is tried
    again and again counts once.
    """
    name, most = "failures.in_a_row", most_in_a_row(usual, detection)
    if jobs_in_a_row < most:
        return Check(
            name, "ok",
            f"{jobs_in_a_row} jobs failed since the last success; {most} would be no chance." if jobs_in_a_row
            else "The newest attempt succeeded, or there is none.",
            jobs_in_a_row, "jobs", most, TAIL_SOURCE, "that jobs come in: see queue.throughput",
        )  # fmt: skip
    begun = f", since {since:%H:%M} UTC" if since else ""
    return Check(
        name, "critical", f"All attempts fail: {jobs_in_a_row} jobs in a row{begun}.",
        jobs_in_a_row, "jobs", most, TAIL_SOURCE, "whose fault it is: see failures.causes",
        "Nothing succeeds. See whether a provider or the database is at fault, and pause it.", SYSTEM_DOWN,
    )  # fmt: skip


def no_success(
    now: datetime, last_success_at: datetime | None, waiting_since: datetime | None, usual: Usual,
    detection: Detection,
) -> Check:  # fmt: skip
    """Whether jobs wait, or are in processing, while none succeeds for longer than one ever takes.

    `waiting_since`: since when the oldest job waits that may be begun, or is being worked on.
    """
    name, longest = "queue.last_success", longest_wait(usual, detection)
    silent = now - last_success_at if last_success_at else None
    words = (
        f"The last success was {_long(silent / timedelta(minutes=1))} ago"
        if silent
        else "There was no success yet"
    )
    if waiting_since is None:
        return Check(name, "ok" if silent else "not_enough_data", f"{words}; no job waits.",
                     _seconds(silent), "s", longest.total_seconds(), WINDOW_SOURCE,
                     "that jobs come in: see queue.throughput")  # fmt: skip
    waits = now - waiting_since
    stalled = waits >= longest and (silent is None or silent >= longest)
    return Check(
        name, "critical" if stalled else "ok",
        f"{words}; the oldest unfinished job waits for {_long(waits / timedelta(minutes=1))}.",
        _seconds(silent), "s", longest.total_seconds(), WINDOW_SOURCE,
        "why: no worker, a worker that is stuck, a paused provider, or a lock" if stalled else None,
        "Nothing finishes. See workers.alive, queue.pauses and database.blockers." if stalled else None,
        SYSTEM_DOWN if stalled else None,
        details={"waiting_seconds": waits.total_seconds()},
    )  # fmt: skip


def volume(
    now: datetime, last_ended_at: datetime | None, usual: Usual, detection: Detection, *, jobs_wait: bool
) -> Check:  # fmt: skip
    """Whether there is output where there usually is some at this weekday and hour.

    Silence is judged by what would usually have ended since the last attempt: beyond chance a warning,
    beyond twice of it critical. Where every such day had output so far, a whole day without is critical.
    """
    name = "queue.throughput"
    if not usual.expected or last_ended_at is None:
        return _too_little(
            name, f"There are less than {detection.fewest_weeks} weeks of history to compare with."
        )
    missed = usual.expected_between(last_ended_at, now)
    limit = most_missed(usual, detection)
    silent = now - last_ended_at
    verdict: Verdict = "ok"
    if silent >= timedelta(minutes=detection.silence_minutes):
        verdict = _above(missed, limit, 2 * limit)
    day_missed = silent >= DAY and usual.expected_between(last_ended_at, now - GRACE) >= 1
    if usual.is_regular and day_missed:
        verdict = "critical"
    words = f"The last attempt ended {_long(silent / timedelta(minutes=1))} ago; usually {missed:.1f} would have since."
    if verdict != "ok":
        words += (
            " Jobs wait: look at the workers."
            if jobs_wait
            else " No job waits: look at whatever adds them."
        )
    return Check(
        name, verdict, words, round(missed, 1), "attempts missed", round(limit, 1), USUAL_SOURCE,
        "that it is a fault: it may be a holiday" if verdict != "ok" else "that what comes out is good",
        "Ask who adds jobs, and look at the log of their last run." if verdict != "ok" and not jobs_wait
        else "See workers.alive." if verdict != "ok" else None,
        SYSTEM_DOWN if verdict != "ok" else None,
        details={"regular": usual.is_regular, "silent_seconds": silent.total_seconds()},
    )  # fmt: skip


def daily_failure_rate(failures: Rate, thresholds: Thresholds, *, per: str) -> Check:
    """The written runbook's daily rate, `per` attempt or job: critical above 20 %, warning above 10 %.

    Judged by the lower bound: 1 of 3 is no alarm, 3 of 3 is one of other rules.
    """
    return failure_check(
        f"failures.{per}s_of_day", failures, what=f"{per}s of the last 24 hours", source=WINDOW_SOURCE,
        thresholds=thresholds, certain=True,
    )  # fmt: skip


def duration(
    name: str, what: str, seconds: float | None, attempts: int, limit_seconds: float, *, source: str
) -> Check:  # fmt: skip
    """Whether something takes longer than it may."""
    if seconds is None or seconds != seconds:
        return _too_little(name, f"There are {attempts} {what}: too few for this figure.")
    slow = seconds > limit_seconds
    return Check(
        name, "warning" if slow else "ok", f"{seconds:.2f} s ({attempts} {what}).", round(seconds, 3), "s",
        limit_seconds, source, "which step is slow" if slow else None,
        "Compare the stages: own time is the database's and ours, the rest the providers'." if slow else None,
        SLOW_JOBS if slow else None,
    )  # fmt: skip


def lower_bound_percent(failures: Rate, z: float) -> float:
    """Wilson's lower bound at a certainty of z standard deviations, in percent; 0 where nothing is known."""
    return rate(failures.part, failures.whole, z=z).low_percent or 0.0


def certainty_z(detection: Detection) -> float:
    """How many standard deviations it takes to be wrong once in so many times."""
    return NormalDist().inv_cdf(1 - 1 / detection.wrong_once_in)


def most_in_a_row(usual: Usual, detection: Detection) -> int:
    """So many failures in a row happen by chance less often than is allowed."""
    share = min(0.5, max(0.01, usual.failure_share))
    starts = max(HOURS_OF_A_YEAR, usual.attempts_per_year) * (1 - share)
    most = math.log(detection.false_alarms_per_year / starts) / math.log(share)
    return max(FEWEST_IN_A_ROW, math.ceil(most))


def most_missed(usual: Usual, detection: Detection) -> float:
    """So many expected attempts fail to end by chance less often than is allowed.

    Gaps between independent attempts are exponential; a third is added for what was learnt imprecisely.
    """
    gaps = max(HOURS_OF_A_YEAR, usual.attempts_per_year)
    return 4 / 3 * math.log(gaps / detection.false_alarms_per_year)


def longest_wait(usual: Usual, detection: Detection) -> timedelta:
    """How long a job may be unfinished: the setting, or three times what is long for this pipeline."""
    return max(
        timedelta(minutes=detection.no_success_minutes),
        timedelta(seconds=3 * usual.longest_usual_seconds),
    )


def jobs_failed_in_a_row(
    attempts: Sequence[tuple[str, bool, datetime]],
) -> tuple[int, datetime | None]:
    """Of attempts (job, failed, when), the newest first: distinct jobs since the last success, and since when."""
    jobs: set[str] = set()
    since = None
    for job, failed, ended_at in attempts:
        if not failed:
            break
        jobs.add(job)
        since = ended_at
    return len(jobs), since


def _above(value: float, warning: float, critical: float) -> Verdict:
    if value > critical:
        return "critical"
    return "warning" if value > warning else "ok"


def _too_little(name: str, message: str) -> Check:
    return Check(name, "not_enough_data", message, source=WINDOW_SOURCE)


def _seconds(length: timedelta | None) -> float | None:
    return None if length is None else round(length.total_seconds(), 1)


def _long(minutes: float) -> str:
    if minutes < 90:
        return f"{minutes:.0f} minutes"
    return f"{minutes / 60:.0f} hours" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days"
