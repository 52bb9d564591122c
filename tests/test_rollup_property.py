"""For any history, in any time zone, the rollup's answers are the rows' answers."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as some

from runbook_lib.database import Database
from runbook_lib.health.context import open_context
from runbook_lib.health.histogram import LARGEST_ERROR_PERCENT
from runbook_lib.health.metrics import History, records
from runbook_lib.settings import Settings

# Around the end of summer time in Europe and North America, and of two weeks' partitions.
FIRST, LAST = date(2026, 10, 23), date(2026, 11, 3)
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/Havana", "Australia/Lord_Howe", "Pacific/Apia")  # fmt: skip
MINUTES = 12 * 24 * 60
_INSERT = """
INSERT INTO job_runs (job_id, attempt, status, execution_time, started_at, completed_at, error_class, job_status, write_seconds)
VALUES (%(job)s::uuid, %(attempt)s, %(status)s, %(at)s, %(at)s - make_interval(secs => %(seconds)s), %(at)s,
    %(error_class)s, %(job_status)s, %(seconds)s / 2)
"""
_ORACLE = """
SELECT
    (execution_time AT TIME ZONE %(timezone)s)::date AS day,
    count(*) AS attempts,
    count(*) FILTER (WHERE status = 'completed') AS completed,
    count(*) FILTER (WHERE status = 'error' AND error_class IS DISTINCT FROM 'cancelled') AS error,
    count(*) FILTER (WHERE status = 'lost') AS lost,
    count(*) FILTER (WHERE status = 'released') AS released,
    count(*) FILTER (WHERE job_status = 'error' AND status IN ('error', 'lost') AND error_class IS DISTINCT FROM 'cancelled') AS jobs_failed,
    avg(extract(epoch FROM completed_at - started_at)) FILTER (WHERE status = 'completed')::double precision AS average_seconds,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM completed_at - started_at)::double precision)
        FILTER (WHERE status = 'completed') AS p50_seconds,
    max(execution_time) FILTER (WHERE status = 'completed') AS last_completed_at
FROM job_runs
GROUP BY 1
"""
_CAUSES = """
SELECT coalesce(error_class, 'unclassed') AS error_class, count(*) AS attempts, count(DISTINCT job_id) AS jobs,
    min(execution_time) AS first_seen, max(execution_time) AS last_seen
FROM job_runs
WHERE status IN ('error', 'lost')
GROUP BY 1
"""

attempt = some.fixed_dictionaries({
    "minute": some.integers(0, MINUTES - 1),
    "job": some.integers(1, 9),
    "status": some.sampled_from(["completed", "completed", "error", "lost", "released"]),
    "error_class": some.sampled_from([None, "openai_timeout", "cancelled", "quarantined_x"]),
    "job_status": some.sampled_from([None, "pending", "error"]),
    "seconds": some.floats(0, 5000, allow_nan=False),
})  # fmt: skip
step = some.one_of(
    some.lists(attempt, min_size=1, max_size=8),  # rows with any execution time
    some.just("refresh"),
    some.sampled_from(["delete", "drop", "partition"]),
)


AN_ATTEMPT = {"minute": 6060, "job": 1, "status": "completed", "error_class": None,
              "job_status": None, "seconds": 1.0}  # fmt: skip


@settings(
    max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # every step is a transaction: shrinking would take minutes
)  # fmt: skip
# A partition that is made late and dropped before a refresh saw it takes its rows along.
@example(steps=[[AN_ATTEMPT], "refresh", "partition", "drop"], timezone="UTC")
@given(steps=some.lists(step, min_size=1, max_size=8), timezone=some.sampled_from(ZONES))
def test_the_rollup_answers_as_the_rows_do(
    steps: list[Any], timezone: str, database: Database, home: Any
) -> None:
    _empty(database)
    known = Settings(database_url=database.url, runbook_home=home)
    with open_context(known) as context, History(context) as history:
        for number, each in enumerate(steps):
            if each == "refresh":
                history.refresh()
            else:
                _change(database, each, number)
        _bring_up_to_date(history)
        _compare_days(database, history, timezone)
        _compare_causes(database, history)


def _bring_up_to_date(history: History) -> None:
    """On a loaded machine the time for one refresh may be over before every hour is made again."""
    for _ in range(100):
        done = history.refresh()
        if done is not None and done.complete:
            return
    raise AssertionError("the rollup never was complete")


def _empty(database: Database) -> None:
    with database.transaction() as transaction:
        transaction.run("TRUNCATE job_runs")


def _change(database: Database, change: Any, number: int) -> None:
    with database.transaction() as transaction:
        if change == "delete":
            transaction.run("DELETE FROM job_runs WHERE extract(day FROM execution_time)::integer %% 2 = 0")  # fmt: skip
        elif change == "drop":
            transaction.run("DROP TABLE IF EXISTS job_runs_2026_w44")
        elif change == "partition":
            transaction.value("SELECT make_job_runs_partitions()")
        else:
            for position, row in enumerate(change):
                at = datetime(2026, 10, 23, tzinfo=UTC) + timedelta(minutes=row["minute"])
                failed = row["status"] in ("error", "lost")
                transaction.run(
                    _INSERT,
                    job=f"00000000-0000-0000-0000-{row['job']:012d}", attempt=100 * number + position,
                    status=row["status"], at=at, seconds=row["seconds"],
                    error_class=row["error_class"] if failed else None, job_status=row["job_status"],
                )  # fmt: skip


def _compare_days(database: Database, history: History, timezone: str) -> None:
    with database.transaction(read_only=True) as transaction:
        expected = {row.day: row for row in transaction.rows(_ORACLE, timezone=timezone)}
    days = history.by_day((LAST - FIRST).days + 5, timezone, last_day=LAST + timedelta(days=2))
    assert set(expected) <= set(days["day"])
    for found in days.to_dict("records"):
        row = expected.get(found["day"])
        if row is None:
            assert found["attempts"] == 0
            assert math.isnan(found["success_percent"])
            continue
        for name in ("attempts", "completed", "error", "lost", "released", "jobs_failed"):
            assert found[name] == getattr(row, name), (name, found, row)
        if row.completed:
            assert math.isclose(
                found["average_seconds"], row.average_seconds, rel_tol=1e-6, abs_tol=1e-6
            )
            stated = row.p50_seconds * LARGEST_ERROR_PERCENT / 100 + 0.001
            assert abs(found["p50_seconds"] - row.p50_seconds) <= stated + 1e-6
            assert found["last_completed_at"] == row.last_completed_at.astimezone(
                ZoneInfo(timezone)
            )


def _compare_causes(database: Database, history: History) -> None:
    with database.transaction(read_only=True) as transaction:
        expected = {row.error_class: row._asdict() for row in transaction.rows(_CAUSES)}
    since = datetime(2026, 10, 22, tzinfo=UTC)
    found = {row["error_class"]: row for row in history.failures(since).to_dict("records")}
    assert set(found) == set(expected)
    for name, row in expected.items():
        for column, value in row.items():
            assert found[name][column] == value, (name, column)
    assert (
        records(history.stored_runs())[0]["runs"]
        == history.by_day(40, last_day=LAST + timedelta(days=3))["attempts"].sum()
    )
