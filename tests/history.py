"""A week of known history, for the tests of reports: every figure below is worked out by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from runbook_lib.database import Database

FIRST_DAY, LAST_DAY = date(2026, 10, 26), date(2026, 11, 1)

# What a review of these seven days in UTC has to say.
EXPECTED: dict[str, Any] = {
    "first_day": "2026-10-26",
    "last_day": "2026-11-01",
    "time_zone": "UTC",
    "attempts": {"completed": 120, "error": 14, "lost": 2, "left_out": 2, "released": 4},
    "completed_jobs": 120,
    "jobs_now": {"completed": 120, "error": 2, "pending": 5},
    # 16 of 136: error and lost of those, completed, error and lost; released and left out are neither.
    "failures": 16,
    "counted_attempts": 136,
    "failures_percent": 11.76,
    "failures_low_percent": 7.37,
    "failures_high_percent": 18.26,
    "failures_by_class": {
        "openai_overloaded": 10,
        "wordpress_timeout": 3,
        "worker_lost": 2,
        "cancelled": 1,
        "mystery": 1,
        "quarantined": 1,
    },
    "tokens": 180_000 + 3_000,
    "cost_usd": 0.24,
    "calls_without_price": 2,
    "problem": None,
}
# Whole attempts of 0.1, 0.2 … 12.0 s; writing takes half of it; 12 of them say how long publishing took.
EXPECTED_DURATIONS: dict[str, dict[str, Any]] = {
    "whole": {"attempts": 120, "average_seconds": 6.05, "p50_seconds": 6.05, "p95_seconds": 11.405,
              "p99_seconds": 11.881, "longest_seconds": 12.0},
    "writing": {"attempts": 120, "average_seconds": 3.025, "p50_seconds": 3.025, "p95_seconds": 5.7025,
                "p99_seconds": 5.9405, "longest_seconds": 6.0},
    # Twelve attempts say that publishing took as long as the whole: nothing of it was our own.
    "own": {"attempts": 120, "average_seconds": 2.9925, "p50_seconds": 3.025, "p95_seconds": 5.7025,
            "p99_seconds": 5.9405, "longest_seconds": 6.0},
    "publishing": {"attempts": 12, "average_seconds": 0.65, "p50_seconds": 0.65, "p95_seconds": None,
                   "p99_seconds": None, "longest_seconds": 1.2},
}  # fmt: skip
# completed, error, lost, released, left out, failures in percent; None: no data
EXPECTED_DAYS: dict[str, tuple[int, int, int, int, int, float | None]] = {
    "2026-10-26": (60, 0, 0, 0, 0, 0.0),
    "2026-10-27": (40, 10, 0, 0, 0, 20.0),
    "2026-10-28": (0, 0, 0, 0, 0, None),
    "2026-10-29": (19, 3, 2, 0, 0, 20.8),
    "2026-10-30": (0, 0, 0, 4, 2, None),
    "2026-10-31": (1, 1, 0, 0, 0, 50.0),
    "2026-11-01": (0, 0, 0, 0, 0, None),
}

_INSERT_JOB = """
INSERT INTO content_jobs (job_id, topic, status, completed_at)
VALUES (%(job_id)s, 'topic', %(status)s, CASE WHEN %(status)s = 'completed' THEN now() END)
"""
_INSERT_RUN = """
INSERT INTO job_runs (
    job_id, attempt, status, execution_time, started_at, completed_at, error_class, write_seconds,
    publish_seconds, model, prompt_tokens, completion_tokens, tokens, cost_usd
)
VALUES (
    %(job_id)s, %(attempt)s, %(status)s, %(at)s, %(started_at)s, %(completed_at)s, %(error_class)s,
    %(write_seconds)s, %(publish_seconds)s, %(model)s, %(prompt)s, %(completion)s, %(tokens)s, %(cost)s
)
"""


def seed_history(database: Database) -> None:
    """Writes the week into `content_jobs` and `job_runs`, and an attempt on either side of it."""
    with database.transaction() as transaction:
        for number in range(1, 128):
            status = "completed" if number <= 120 else "error" if number <= 122 else "pending"
            transaction.run(_INSERT_JOB, job_id=_job(number), status=status)
        for row in _runs():
            transaction.run(_INSERT_RUN, **row)


def _runs() -> list[dict[str, Any]]:
    rows = [_completed(number) for number in range(1, 121)]
    # five jobs, each overloaded twice; number 121 and 122 ended in error, the others wait
    for count in range(10):
        rows.append(_failed(123 + count % 5, 1 + count // 5, "openai_overloaded", day=27))
    rows += [_failed(121, 1 + count, "wordpress_timeout", day=29) for count in range(3)]
    rows += [_failed(122, 1 + count, "worker_lost", day=29, status="lost") for count in range(2)]
    rows.append(_failed(121, 9, "quarantined", day=30))
    rows.append(_failed(122, 9, "cancelled", day=30))
    rows += [_failed(1, 50 + n, "worker_stopped", day=30, status="released") for n in range(4)]
    # half an hour before midnight in UTC: already November in Berlin
    rows.append(_failed(2, 50, "mystery", day=31, hour=23, minute=30))
    # two calls to a model without a known price
    rows[120].update(model="in-house", prompt=1000, completion=500, tokens=1500)
    rows[121].update(model="in-house", prompt=1000, completion=500, tokens=1500)
    outside = [_failed(3, 50, "outside", day=25, hour=23, minute=59)]
    return rows + outside


def _completed(number: int) -> dict[str, Any]:
    day = 26 if number <= 60 else 27 if number <= 100 else 29 if number <= 119 else 31
    at = datetime(2026, 10, day, 9, number % 60, tzinfo=UTC)
    return {
        **_failed(number, 1, None, day=day, status="completed"),
        "at": at,
        "started_at": at - timedelta(seconds=number / 10),
        "completed_at": at,
        "write_seconds": number / 20,
        "publish_seconds": number / 10 if number <= 12 else None,
        "model": "gpt-4o-mini",
        "prompt": 1000,
        "completion": 500,
        "tokens": 1500,
        "cost": "0.002",
    }


def _failed(
    number: int, attempt: int, error_class: str | None, *, day: int, hour: int = 12, minute: int = 0,
    status: str = "error",
) -> dict[str, Any]:  # fmt: skip
    at = datetime(2026, 10, day, hour, minute, tzinfo=UTC)
    return {
        "job_id": _job(number), "attempt": attempt, "status": status, "at": at, "started_at": None,
        "completed_at": None, "error_class": error_class, "write_seconds": None,
        "publish_seconds": None, "model": None, "prompt": None, "completion": None, "tokens": None,
        "cost": None,
    }  # fmt: skip


def _job(number: int) -> UUID:
    return UUID(int=number)
