"""The weekly performance review: how many, how fast, how many failed and why, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.errors import InsufficientPrivilege

from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Transaction
from runbook_lib.database.statements import Statement, load
from runbook_lib.errors import RunbookError
from runbook_lib.health.answers import Answer
from runbook_lib.health.checks import Check
from runbook_lib.health.metrics import FEWEST_FOR_P95, FEWEST_FOR_P99
from runbook_lib.health.periods import zone_of
from runbook_lib.health.rates import Rate, failure_check, rate
from runbook_lib.health.sources import Sources
from runbook_lib.health.tables import Table
from runbook_lib.pipeline.failures import FAILURE_CLASSES, NOT_COUNTED_AS_FAILURE
from runbook_lib.policy import Thresholds, load_policy
from runbook_lib.settings import load_settings

if TYPE_CHECKING:
    import pandas

    from runbook_lib.health.charts import Chart

# The written runbook: the average processing time should be below 2 s. That can hold of the pipeline's own
# time, the stage `own`; writing an article takes a model longer.
AVERAGE_LIMIT_SECONDS = 2.0

_DURATION_NEEDS = ("runs.started_at", "runs.completed_at")
_COST_NEEDS = ("runs.tokens",)
_NO_ROWS: dict[str, list[str]] = {
    "by_outcome": ["outcome", "attempts", "jobs"],
    "by_day": ["day", "attempts", "completed", "error", "lost", "released", "left_out", "failures_percent"],
    "durations": ["stage", "attempts", "average_seconds", "p50_seconds", "p95_seconds", "p99_seconds", "longest_seconds"],
    "failures": ["error_class", "attempts", "share_percent", "jobs", "last_seen", "meaning", "advice"],
    "cost": ["model", "calls", "prompt_tokens", "completion_tokens", "tokens", "cost_usd", "calls_without_price"],
    "jobs_now": ["status", "jobs"],
}  # fmt: skip


@dataclass(frozen=True)
class Window:
    """The days of a review, and the moments at which they begin and end in the time zone."""

    first_day: date
    last_day: date
    today: date
    taken_at: datetime
    since: datetime
    until: datetime
    time_zone: str

    @property
    def words(self) -> str:
        so_far = " (today, so far)" if self.last_day == self.today else ""
        return f"{self.first_day} to {self.last_day}{so_far}, {self.time_zone}"


@dataclass(frozen=True, repr=False)
class PerformanceReview(Answer):
    """The review's tables; each has its DataFrame in `.frame`. Shown in a notebook, it is the answer.

    `problem` is set, and the tables are empty, when the figures could not be had.
    """

    check: Check
    window: Window | None
    failure_rate: Rate
    completed_jobs: int
    by_outcome: Table
    by_day: Table
    durations: Table
    failures: Table
    cost: Table
    jobs_now: Table
    problem: str | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)

    def runs_by_day_chart(self) -> Chart:
        """Attempts by day and outcome, and the share of failures with its thresholds."""
        from runbook_lib.health.charts import runs_by_day

        return runs_by_day(self.by_day.frame, self.thresholds)

    def durations_chart(self) -> Chart:
        """Percentiles of the durations by stage, with the written runbook's limit."""
        from runbook_lib.health.charts import durations

        return durations(self.durations.frame, AVERAGE_LIMIT_SECONDS)

    def results(self) -> dict[str, Any]:
        """Every figure of the review, by name and unit, for the record."""
        window = self.window
        return {
            "first_day": window.first_day if window else None,
            "last_day": window.last_day if window else None,
            "time_zone": window.time_zone if window else None,
            "attempts": _by(self.by_outcome.frame, "outcome", "attempts"),
            "completed_jobs": self.completed_jobs,
            "jobs_now": _by(self.jobs_now.frame, "status", "jobs"),
            "failures": self.failure_rate.part,
            "counted_attempts": self.failure_rate.whole,
            "failures_percent": _rounded(self.failure_rate.percent),
            "failures_low_percent": _rounded(self.failure_rate.low_percent),
            "failures_high_percent": _rounded(self.failure_rate.high_percent),
            "failures_by_class": _by(self.failures.frame, "error_class", "attempts"),
            "durations": {row.pop("stage"): row for row in self.durations.frame.to_dict("records")},
            "days": self.by_day.frame.to_dict("records"),
            "tokens": _sum(self.cost.frame, "tokens"),
            "cost_usd": _sum(self.cost.frame, "cost_usd"),
            "calls_without_price": _sum(self.cost.frame, "calls_without_price"),
            "problem": self.problem,
        }

    def sentences(self) -> list[str]:
        if self.window is None:
            return []
        waiting = _by(self.jobs_now.frame, "status", "jobs")
        unfinished = ", ".join(
            f"{count} {status}" for status, count in waiting.items() if status != "completed"
        )
        lines = [f"{self.completed_jobs} jobs completed, {self.window.words}."]
        if unfinished:
            lines.append(f"Of the jobs attempted in these days, not completed now: {unfinished}.")
        return lines


def performance_review(
    sources: Sources,
    *,
    days: int = 7,
    time_zone: str = "UTC",
    last_day: date | None = None,
    thresholds: Thresholds | None = None,
) -> PerformanceReview:
    """Reviews whole days in a time zone, the last one being today unless `last_day` is given.

    Judged by the thresholds of RUNBOOK_CONFIG unless others are given. Reads only, in one snapshot, of our
    own pipeline or of one that is not ours. Does not raise for a database that is away, not migrated or closed to
    this role: the review then says so, and its verdict is `not_enough_data`. Raises `UsageError` for
    a time zone that does not exist.
    """
    zone_of(time_zone)
    try:
        sql = {name: sources.reading(each) for name, each in load("performance").items()}
        limits = thresholds or load_policy(load_settings()).thresholds
        with sources.pipeline.transaction(read_only=True) as transaction:
            return _review(transaction, sql, sources, days, time_zone, last_day, limits)
    except (RunbookError, InsufficientPrivilege, psycopg2.OperationalError) as error:
        return _without_figures(one_line(str(error), 500))


def _review(
    transaction: Transaction,
    sql: Mapping[str, Statement],
    sources: Sources,
    days: int,
    time_zone: str,
    last_day: date | None,
    thresholds: Thresholds,
) -> PerformanceReview:
    transaction.run(sql["one_snapshot"])
    window = _window(transaction, days, time_zone, last_day)
    within = {"since": window.since, "until": window.until}
    left_out = list(NOT_COUNTED_AS_FAILURE)
    by_outcome = transaction.frame(sql["attempts_by_outcome"], left_out=left_out, **within)
    by_day = transaction.frame(
        sql["attempts_by_day"], left_out=left_out, time_zone=time_zone,
        first_day=window.first_day, last_day=window.last_day, **within,
    )  # fmt: skip
    failures = _overall_rate(by_outcome)
    return PerformanceReview(
        check=failure_check(
            "performance.failure_rate", failures,
            what=f"attempts from {window.first_day} to {window.last_day}",
            source=sql["attempts_by_outcome"].source,
            thresholds=thresholds,
        ),
        thresholds=thresholds,
        window=window,
        failure_rate=failures,
        completed_jobs=transaction.value(sql["completed_jobs"], **within),
        by_outcome=Table(by_outcome, empty="No attempt ended in these days."),
        by_day=Table(_with_daily_rates(by_day), absent="no data"),
        durations=Table(
            _with_percentiles_that_hold(transaction.frame(sql["durations"], **within)),
            absent="too few", decimals=_seconds(2), empty=_empty(sources, _DURATION_NEEDS, "No attempt completed in these days."),
        ),
        failures=Table(
            _with_meanings(transaction.frame(sql["failures_by_class"], **within), time_zone),
            empty="No attempt failed in these days.",
        ),
        cost=Table(_plain_numbers(transaction.frame(sql["cost"], **within)),
                   decimals={"cost_usd": 4},
                   empty=_empty(sources, _COST_NEEDS, "Nothing was spent in these days.")),
        jobs_now=Table(transaction.frame(sql["jobs_now"], **within)),
    )  # fmt: skip


def _window(transaction: Transaction, days: int, time_zone: str, last_day: date | None) -> Window:
    row = transaction.row(
        load("performance")["window"], days=days, time_zone=time_zone, last_day=last_day
    )
    assert row is not None
    return Window(**row._asdict(), time_zone=time_zone)


def _empty(sources: Sources, needs: tuple[str, ...], words: str) -> str:
    """What a table without rows says: that there was nothing, or that it cannot be known."""
    missing = sources.missing(needs)
    return f"Not known: this pipeline has no {', '.join(missing)}." if missing else words


def _without_figures(problem: str) -> PerformanceReview:
    import pandas

    tables = {
        name: Table(pandas.DataFrame(columns=columns), empty=f"No figures: {problem}")
        for name, columns in _NO_ROWS.items()
    }
    check = failure_check(
        "performance.failure_rate", rate(0, 0), what="attempts", source="performance"
    )
    return PerformanceReview(
        check=replace(check, message=f"There are no figures. {problem}"),
        window=None, failure_rate=rate(0, 0), completed_jobs=0, problem=problem,
        thresholds=Thresholds(), **tables,
    )  # fmt: skip


def _overall_rate(by_outcome: pandas.DataFrame) -> Rate:
    counts = _by(by_outcome, "outcome", "attempts")
    failed = counts.get("error", 0) + counts.get("lost", 0)
    return rate(failed, failed + counts.get("completed", 0))


def _with_daily_rates(by_day: pandas.DataFrame) -> pandas.DataFrame:
    failed = by_day["error"] + by_day["lost"]
    counted = failed + by_day["completed"]
    everything = counted + by_day["released"] + by_day["left_out"]
    by_day.insert(1, "attempts", everything)
    return by_day.assign(failures_percent=(100 * failed / counted.where(counted > 0)).round(1))


def _with_percentiles_that_hold(durations: pandas.DataFrame) -> pandas.DataFrame:
    for column, fewest in (("p95_seconds", FEWEST_FOR_P95), ("p99_seconds", FEWEST_FOR_P99)):
        durations[column] = durations[column].where(durations["attempts"] >= fewest)
    return durations


def _with_meanings(failures: pandas.DataFrame, time_zone: str) -> pandas.DataFrame:
    known = [FAILURE_CLASSES.get(name) for name in failures["error_class"]]
    shares = (100 * failures["attempts"] / max(1, failures["attempts"].sum())).round(1)
    failures.insert(2, "share_percent", shares)
    if not failures.empty:
        failures["last_seen"] = failures["last_seen"].dt.tz_convert(time_zone)
    return failures.assign(
        meaning=[each.meaning if each else "Not in the catalogue of failures." for each in known],
        advice=[
            each.advice if each else "Read the message: `runbook jobs show`." for each in known
        ],
    )


def _plain_numbers(cost: pandas.DataFrame) -> pandas.DataFrame:
    kinds = dict.fromkeys(("prompt_tokens", "completion_tokens", "tokens"), "int64")
    return cost.astype({**kinds, "cost_usd": "float64"})


def _seconds(digits: int) -> dict[str, int]:
    return {name: digits for name in _NO_ROWS["durations"] if name.endswith("_seconds")}


def _by(frame: pandas.DataFrame, name: str, count: str) -> dict[str, int]:
    return {str(key): int(value) for key, value in zip(frame[name], frame[count], strict=True)}


def _sum(frame: pandas.DataFrame, column: str) -> float:
    return round(float(frame[column].sum()), 6) if len(frame) else 0


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
