"""What came out: failures, the last success, the expected volume, and how long things take.

All of it is read from the rollup, which is brought up to date first as far as the time allows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import psycopg2.errors

from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone
from runbook_lib.health import judgement
from runbook_lib.health.checks import Check
from runbook_lib.health.histogram import percentile_seconds
from runbook_lib.health.metrics import FEWEST_FOR_P95, FEWEST_FOR_P99, FRESH_SECONDS
from runbook_lib.health.periods import HOUR, floor_hour
from runbook_lib.health.registry import DeclaredCheck, View, with_procedure
from runbook_lib.health.rollup import refresh
from runbook_lib.health.situation import judge, read_situation

_HISTORY, _ROLLUP = load("history"), load("rollup")
# What is left for reading, and how long bringing the rollup up to date may take.
_READING_SECONDS, _REFRESH_SECONDS = 1.5, 3.0
# A rollup that nobody may bring up to date is still of use for so long.
STALE_SECONDS = 900.0
_DURATION_COLUMNS = (
    "runs.started_at", "runs.completed_at", "runs.write_seconds", "runs.publish_seconds",
)  # fmt: skip
DAY = timedelta(hours=24)


def outcomes(view: View) -> Iterator[Check]:
    """Failure rates per attempt and per job, failures in a row, the last success, the expected volume,
    and durations. One check for all of it, so that the rollup is brought up to date once."""
    now = _up_to_date(view)
    for check in judge(read_situation(view, now, view.policy), view.policy):
        yield check if check.procedure else with_procedure(check, judgement.HIGH_FAILURE_RATE)
    yield from _durations(view, now)


def _up_to_date(view: View) -> datetime:
    """The database's time, with a rollup of it. Raises `CouldNotBeDone` for one that is too old."""
    seconds = min(_REFRESH_SECONDS, view.deadline.remaining_seconds() - _READING_SECONDS)
    barred = None
    age = _age_seconds(view.own_row(_ROLLUP["state"]))
    if view.context.refreshes and seconds > 0 and (age is None or age > FRESH_SECONDS):
        try:
            refresh(view.context.sources, deadline_seconds=seconds)
        except (
            psycopg2.errors.InsufficientPrivilege,
            psycopg2.errors.ReadOnlySqlTransaction,
        ) as error:
            barred = error
    state = view.own_row(_ROLLUP["state"])
    age = _age_seconds(state)
    if age is None or age > STALE_SECONDS:
        if barred is not None:
            raise barred
        told = "was never made" if age is None else f"is {age / 60:.0f} minutes old"
        raise CouldNotBeDone(f"the rollup {told}; `runbook monitor` keeps it up to date.")
    now: datetime = state.now
    return now


def _age_seconds(state: Any) -> float | None:
    if state.refreshed_at is None:
        return None
    return float((state.now - state.refreshed_at).total_seconds())


def _durations(view: View, now: datetime) -> Iterator[Check]:
    """The pipeline's own time by the written runbook's limit, and the providers' by limits of their own."""
    missing = view.context.sources.missing(_DURATION_COLUMNS)
    if missing:
        words = f"This pipeline has no column for {', '.join(missing)}, so this cannot be told."
        for name in ("durations.own", "durations.openai", "durations.wordpress"):
            yield Check(name, "not_enough_data", words, source="the mapping", details={"missing": missing})  # fmt: skip
        return
    limits = view.policy.thresholds
    times = _times(view, now, "stage")
    models = _times(view, now, "model")
    for name, stage, of, figure, limit in (
        ("durations.own", "own", "pipeline's own time", "average", limits.processing_time_warning_seconds),
        ("durations.openai", "writing", "time inside OpenAI", "p95", limits.openai_p95_warning_seconds),
        ("durations.wordpress", "publishing", "time inside WordPress", "p95", limits.wordpress_p95_warning_seconds),
    ):  # fmt: skip
        found = times.get(stage, {})
        seconds, attempts = found.get(f"{figure}_seconds"), found.get("attempts", 0)
        check = judgement.duration(
            name, "completed attempts within 24 hours", seconds, attempts, limit,
            source=_HISTORY["durations_by_period"].source,
        )  # fmt: skip
        words = f"The {of} is {seconds:.2f} s ({figure} of {attempts} completed attempts within 24 hours)." if seconds is not None else check.message  # fmt: skip
        details = {**found, **({"models": models} if stage == "writing" else {})}
        yield replace(check, message=words, details=details)


def _times(view: View, now: datetime, by: str) -> dict[str, dict[str, Any]]:
    until = floor_hour(now) + HOUR
    stages = ["writing"] if by == "model" else ["own", "writing", "publishing", "whole"]
    rows = view.own_rows(
        _HISTORY["durations_by_period"],
        begins=[until - DAY], since=until - DAY, until=until, minutes=60, by=by, stages=stages, completed=[True],
    )  # fmt: skip
    return {row.name: _percentiles(row) for row in rows}


def _percentiles(row: Any) -> dict[str, Any]:
    def at(percent: float, fewest: int) -> float | None:
        if row.attempts < fewest:
            return None
        found = percentile_seconds(row.buckets, row.counts, percent)
        return found if math.isfinite(found) else None

    return {
        "attempts": int(row.attempts),
        "average_seconds": row.seconds / row.attempts,
        "p50_seconds": at(50, 1),
        "p95_seconds": at(95, FEWEST_FOR_P95),
        "p99_seconds": at(99, FEWEST_FOR_P99),
        "longest_seconds": row.longest,
    }


CHECKS: tuple[DeclaredCheck, ...] = (
    DeclaredCheck(
        "failures.now",
        "Failures, successes and volume are as usual.",
        outcomes,
        needs=("runs.status", "runs.execution_time", "jobs.status", "jobs.created_at"),
        also=("failures.in_a_row", "failures.attempts_of_day", "failures.jobs_of_day", "queue.last_success", "queue.throughput",
              "durations.own", "durations.openai", "durations.wordpress"),
    ),
)  # fmt: skip
