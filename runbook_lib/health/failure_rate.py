"""The daily failure rate: how many attempts and jobs of a day failed, when, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from math import ceil
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.errors import InsufficientPrivilege

from runbook_lib.credentials.masking import one_line
from runbook_lib.errors import RunbookError
from runbook_lib.health.answers import Answer
from runbook_lib.health.checks import Check, worst_verdict
from runbook_lib.health.context import Context
from runbook_lib.health.metrics import History, records
from runbook_lib.health.periods import HOUR, days_until, zone_of
from runbook_lib.health.rates import Rate, failure_check, rate
from runbook_lib.health.sources import Sources
from runbook_lib.health.tables import Table
from runbook_lib.policy import Thresholds, load_policy
from runbook_lib.settings import load_settings

if TYPE_CHECKING:
    import pandas

    from runbook_lib.health.charts import Chart

SOURCE = "history.attempts_by_period"
PROCEDURE = "emergency/high_failure_rate"
# Hours are shown for a day that is not further back than this.
MOST_HOURS = 24 * 32
_COUNTS = ["attempts", "completed", "error", "lost", "released", "left_out", "failures_percent"]
_JOBS = ["jobs_completed", "jobs_failed", "jobs_failed_percent"]
_SHOWN = ["day", "attempts", "completed", "error", "lost", "failures_percent", "jobs_failed", "jobs_failed_percent"]  # fmt: skip
_CAUSES = ["error_class", "attempts", "share_percent", "jobs", "counted", "last_seen", "meaning", "advice"]  # fmt: skip


@dataclass(frozen=True, repr=False)
class FailureRate(Answer):
    """A day's failures beside the days before it. Shown in a notebook, it is the answer.

    `attempts` and `jobs` are the day's rates; `check` is the worse of both. `problem` is set, and the
    tables are empty, when the figures could not be had.
    """

    check: Check
    day: date | None
    time_zone: str
    attempts: Rate
    jobs: Rate
    hours: pandas.DataFrame
    days: pandas.DataFrame
    causes: Table
    thresholds: Thresholds
    problem: str | None = None

    @property
    def by_day(self) -> Table:
        """The day and those before it, in figures."""
        empty = f"No figures: {self.problem}"
        return Table(self.days[_SHOWN], absent="no data", empty=empty)

    def by_hour_chart(self) -> Chart:
        """The day's attempts by hour and outcome, and the share of failures with its thresholds."""
        from runbook_lib.health.charts import runs_by_hour

        return runs_by_hour(self.hours, self.thresholds)

    def by_day_chart(self) -> Chart:
        """The days before it: whether this day is an exception or a trend."""
        from runbook_lib.health.charts import runs_by_day

        return runs_by_day(self.days, self.thresholds)

    def results(self) -> dict[str, Any]:
        """The day's figures, for the record."""
        return {
            "day": self.day,
            "time_zone": self.time_zone,
            **_figures("attempts", self.attempts),
            **_figures("jobs", self.jobs),
            "causes": {
                row["error_class"]: row["attempts"] for row in self.causes.frame.to_dict("records")
            },
            "days": records(self.days),
            "problem": self.problem,
        }


def failure_rate(
    sources: Sources, *, days: int = 7, time_zone: str = "UTC", last_day: date | None = None
) -> FailureRate:
    """The failure rate of one day, and of the days before it.

    The day is the last one that is over, unless another is given. Judged by the thresholds of
    RUNBOOK_CONFIG; few attempts only as far as that is certain. Does not raise for a database that is
    away or closed to this role: the verdict then is `not_enough_data`, and says why.
    """
    zone = zone_of(time_zone)
    try:
        settings = load_settings()
        context = Context(settings, load_policy(settings), sources)
        with History(context) as history:
            day = last_day or _yesterday(history, time_zone)
            period = days_until(day, 1, zone)[0]
            by_day = history.by_day(days, time_zone, last_day=day)
            return _judged(
                day, time_zone, by_day, _hours_of(history, day, time_zone),
                history.failures(period.since, period.until), context.policy.thresholds,
            )  # fmt: skip
    except (RunbookError, InsufficientPrivilege, psycopg2.OperationalError) as error:
        return _without_figures(one_line(str(error), 500), time_zone)


def _judged(
    day: date, time_zone: str, by_day: pandas.DataFrame, by_hour: pandas.DataFrame,
    causes: pandas.DataFrame, thresholds: Thresholds,
) -> FailureRate:  # fmt: skip
    today = by_day.iloc[-1]
    failed = int(today["error"] + today["lost"])
    attempts = rate(failed, failed + int(today["completed"]))
    jobs = rate(int(today["jobs_failed"]), int(today["jobs_failed"] + today["jobs_completed"]))
    return FailureRate(
        check=_overall(day, attempts, jobs, thresholds), day=day, time_zone=time_zone,
        attempts=attempts, jobs=jobs, thresholds=thresholds,
        hours=by_hour[["hour", *_COUNTS]], days=by_day[["day", *_COUNTS, *_JOBS]],
        causes=Table(_told(causes, time_zone), empty="No attempt failed on this day."),
    )  # fmt: skip


def _overall(day: date, attempts: Rate, jobs: Rate, thresholds: Thresholds) -> Check:
    checks = [
        failure_check(
            "failures.of_day", each, what=f"{noun} of {day:%A, %-d %B %Y}", source=SOURCE,
            thresholds=thresholds,
        )
        for noun, each in (("attempts", attempts), ("jobs", jobs))
    ]  # fmt: skip
    verdict = worst_verdict(checks)
    worst = next(check for check in checks if check.verdict == verdict)
    other = "" if attempts.whole == 0 else f" {_words(jobs, 'jobs')}" if worst is checks[0] else f" {_words(attempts, 'attempts')}"  # fmt: skip
    procedure = PROCEDURE if verdict in ("warning", "critical") else None
    return replace(worst, message=worst.message + other, procedure=procedure)


def _words(part: Rate, noun: str) -> str:
    return f"Of {part.whole} {noun} that ended, {part.part} failed."


def _yesterday(history: History, time_zone: str) -> date:
    # The database's clock decides what day it is, as it did when the attempts ended.
    found: date = history.by_day(2, time_zone)["day"].iloc[0]
    return found


def _hours_of(history: History, day: date, time_zone: str) -> pandas.DataFrame:
    zone = zone_of(time_zone)
    since = days_until(day, 1, zone)[0].since
    hours = ceil((datetime.now(UTC) - since) / HOUR) + 1
    found = history.by_hour(min(max(hours, 1), MOST_HOURS), time_zone)
    of_day = [each.astimezone(zone).date() == day for each in found["hour"]]
    return found[of_day].reset_index(drop=True)


def _told(causes: pandas.DataFrame, time_zone: str) -> pandas.DataFrame:
    """One row a class: what fingerprints tell apart is for whoever looks for the cause."""
    if causes.empty:
        return causes[_CAUSES]
    grouped = causes.groupby("error_class", sort=False).agg(
        attempts=("attempts", "sum"), share_percent=("share_percent", "sum"), jobs=("jobs", "sum"),
        counted=("counted", "first"), last_seen=("last_seen", "max"), meaning=("meaning", "first"),
        advice=("advice", "first"),
    ).reset_index()  # fmt: skip
    zone = zone_of(time_zone)
    last_seen = [each.astimezone(zone) for each in grouped["last_seen"]]
    grouped = grouped.assign(last_seen=last_seen)
    return grouped.sort_values("attempts", ascending=False, kind="stable")[_CAUSES]


def _without_figures(problem: str, time_zone: str) -> FailureRate:
    import pandas

    none = rate(0, 0)
    check = failure_check("failures.of_day", none, what="attempts", source=SOURCE)
    return FailureRate(
        check=replace(check, message=f"There are no figures. {problem}"), day=None,
        time_zone=time_zone, attempts=none, jobs=none,
        hours=pandas.DataFrame(columns=["hour", *_COUNTS]),
        days=pandas.DataFrame(columns=["day", *_COUNTS, *_JOBS]),
        causes=Table(pandas.DataFrame(columns=_CAUSES), empty=f"No figures: {problem}"),
        thresholds=Thresholds(), problem=problem,
    )  # fmt: skip


def _figures(noun: str, part: Rate) -> dict[str, Any]:
    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 2)

    return {
        noun: part.whole,
        f"{noun}_failed": part.part,
        f"{noun}_failed_percent": rounded(part.percent),
        f"{noun}_failed_low_percent": rounded(part.low_percent),
        f"{noun}_failed_high_percent": rounded(part.high_percent),
    }
