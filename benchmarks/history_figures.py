"""The written runbook's monitoring questions at ten million runs: through the rollup, and its own queries."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.figures import percentile, report
from benchmarks.scratch import Server, server
from runbook_lib.database import Database
from runbook_lib.health.context import Context
from runbook_lib.health.metrics import History
from runbook_lib.health.rollup import refresh
from runbook_lib.health.sources import Sources
from runbook_lib.policy import Policy
from runbook_lib.settings import Settings

MANY, FEW = int(os.environ.get("RUNS", 10_000_000)), 100_000
DAYS = 90
# The queries about jobs read content_jobs: a tenth as many jobs as runs, which favours them.
JOBS_SHARE = 10
READINGS, SEED_READINGS = 30, 3
NEW_RUNS, REFRESHES = 10_000, 9
DEADLINE_SECONDS = 900.0

_PARTITION = """
DO $body$
DECLARE week timestamptz;
BEGIN
    FOR week IN SELECT generate_series(date_trunc('week', now() - interval '98 days', 'UTC'), date_trunc('week', now(), 'UTC') - interval '7 days', interval '7 days') LOOP
        EXECUTE format('CREATE TABLE job_runs_%%s PARTITION OF job_runs FOR VALUES FROM (%%L) TO (%%L)', to_char(week AT TIME ZONE 'UTC', 'IYYY_"w"IW'), week, week + interval '7 days');
    END LOOP;
END
$body$
"""
# One day of runs: 85 of 100 complete, the others fail in one of forty ways with a text of their own each.
_RUNS = """
INSERT INTO job_runs (job_id, attempt, status, execution_time, started_at, completed_at, worker, stage, charged, error,
    error_class, fingerprint, model, prompt_tokens, completion_tokens, tokens, cost_usd, write_seconds, publish_seconds, category, job_status)
SELECT gen_random_uuid(), 1, CASE WHEN ok THEN 'completed' WHEN chance > 0.997 THEN 'lost' ELSE 'error' END, at,
    at - make_interval(secs => 1 + write_seconds * 1.1), at, 'worker-1', 'write', NOT ok,
    CASE WHEN NOT ok THEN 'Request req_' || md5(number::text || %(day)s) || ' failed: error ' || number %% 40 || ' at the provider' END,
    CASE WHEN NOT ok THEN 'openai_overloaded' END, CASE WHEN NOT ok THEN 'fingerprint' || number %% 40 END, 'gpt-4o-mini',
    1000, 500, 1500, 0.002, write_seconds, 0.4 + random(), 'news', CASE WHEN ok THEN 'completed' ELSE 'pending' END
FROM (
    SELECT number, chance, chance < 0.85 AS ok, 5 + 10 * random() + 20 * (random() ^ 4) AS write_seconds,
        %(begins)s::timestamptz + number * (interval '1 day' / %(count)s) AS at
    FROM generate_series(0, %(count)s - 1) AS number CROSS JOIN LATERAL (SELECT random() + number * 0 AS chance) AS drawn
) AS drawn
"""
_FORGET = "DELETE FROM job_runs WHERE execution_time >= %(begins)s"
_JOBS = """
INSERT INTO content_jobs (topic, status, last_error, error_class, created_at, updated_at, completed_at)
SELECT 'topic', CASE WHEN number %% 7 = 0 THEN 'error' ELSE 'completed' END,
    CASE WHEN number %% 7 = 0 THEN 'Request req_' || md5(number::text) || ' failed' END, CASE WHEN number %% 7 = 0 THEN 'openai_overloaded' END,
    now() - number * (interval '90 days' / %(count)s), now(), now()
FROM generate_series(0, %(count)s - 1) AS number
"""
# As the written runbook has them.
SEED_QUERIES = {
    "daily success rate, 7 days": "SELECT DATE(execution_time) as date, COUNT(*) FILTER (WHERE status = 'completed') * 100.0 / COUNT(*) as success_rate FROM job_runs WHERE execution_time >= NOW() - INTERVAL '7 days' GROUP BY DATE(execution_time) ORDER BY date DESC",
    "performance trend, 30 days": "SELECT DATE(execution_time) as date, AVG(EXTRACT(EPOCH FROM (completed_at - started_at))) as avg_processing_time FROM job_runs WHERE status = 'completed' AND execution_time >= NOW() - INTERVAL '30 days' GROUP BY DATE(execution_time) ORDER BY date DESC",
    "failure patterns, 7 days": "SELECT DATE(execution_time) as date, status, COUNT(*) as count FROM job_runs WHERE execution_time >= NOW() - INTERVAL '7 days' GROUP BY DATE(execution_time), status ORDER BY date DESC",
    "common errors, 24 hours": "SELECT last_error, COUNT(*) as frequency FROM content_jobs WHERE status = 'error' AND created_at >= NOW() - INTERVAL '24 hours' GROUP BY last_error ORDER BY frequency DESC",
    "processing times, 7 days": "SELECT AVG(EXTRACT(EPOCH FROM (completed_at - started_at))) as avg_seconds, MAX(EXTRACT(EPOCH FROM (completed_at - started_at))) as max_seconds FROM job_runs WHERE status = 'completed' AND execution_time >= NOW() - INTERVAL '7 days'",
    "old runs": "SELECT COUNT(*) as total_runs, COUNT(*) FILTER (WHERE execution_time < NOW() - INTERVAL '30 days') as old_runs FROM job_runs",
}  # fmt: skip
OURS: dict[str, Callable[[History], Any]] = {
    "daily success rate, 7 days": lambda history: history.by_day(7),
    "performance trend, 30 days": lambda history: history.by_day(30),
    "failure patterns, 7 days": lambda history: history.by_day(7),
    "common errors, 24 hours": lambda history: history.failures(_ago(1)),
    "processing times, 7 days": lambda history: history.durations(_ago(7)),
    "old runs": lambda history: history.stored_runs(30),
}


def main() -> None:
    """Fills two databases, reads both in turns, and lets the seed's queries run beside."""
    with server() as running:
        many, few = filled(running, MANY), filled(running, FEW)
        with opened(many) as at_many, opened(few) as at_few:
            at_many.refresh()
            at_few.refresh()
            for question, ours in OURS.items():
                answer(question, ours, at_many, at_few, many)
        size(many)
        refreshing(many)


def answer(
    question: str, ours: Callable[[History], Any], many: History, few: History, database: Database
) -> None:  # fmt: skip
    samples: dict[str, list[float]] = {"many": [], "few": []}
    for _ in range(READINGS):
        samples["many"].append(_milliseconds(lambda: ours(many)))
        samples["few"].append(_milliseconds(lambda: ours(few)))
    value = percentile(samples["many"], 95)
    ratio = statistics.median(samples["many"]) / statistics.median(samples["few"])
    report(f"{question}, {MANY:,} runs", value, "ms (p95)", bar="≤ 50 ms", met=value <= 50, samples=samples)  # fmt: skip
    report(f"{question}, {MANY:,} runs beside {FEW:,}", statistics.median(samples["many"]), "ms (median)",
           ratio=ratio, against=f"itself at {FEW:,} runs", bar="≤ 1.5 ×", met=ratio <= 1.5, samples=samples)  # fmt: skip
    theirs = [_milliseconds(lambda: seed_query(database, question)) for _ in range(SEED_READINGS)]
    faster = statistics.median(theirs) / statistics.median(samples["many"])
    report(f"{question}, the written runbook's own query", statistics.median(theirs), "ms (median)",
           ratio=faster, against="ours", bar="≥ 20 ×", met=faster >= 20, samples=theirs)  # fmt: skip


def size(database: Database) -> None:
    with database.transaction(deadline_seconds=DEADLINE_SECONDS) as transaction:
        sizes = {
            name: transaction.value("SELECT pg_total_relation_size(%(name)s::regclass)", name=name)
            for name in ("run_slots", "run_slot_durations", "run_hour_failures", "run_slot_costs", "failure_samples", "dirty_run_hours")
        }  # fmt: skip
        runs = transaction.value("SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('job_runs')")  # fmt: skip
    share = 100 * sum(sizes.values()) / float(runs)
    report("size of the rollup", share, "% of job_runs", bar="≤ 1 %", met=share <= 1, samples={**sizes, "job_runs": int(runs)})  # fmt: skip


def refreshing(database: Database) -> None:
    sources = Sources(database, database)
    samples, begins = [], datetime.now(UTC) - timedelta(minutes=50)
    for number in range(REFRESHES):
        with database.transaction(deadline_seconds=DEADLINE_SECONDS) as transaction:
            transaction.run(
                _RUNS.replace("interval '1 day'", "interval '50 minutes'"),
                begins=begins, count=NEW_RUNS, day=f"new{number}",
            )  # fmt: skip
        samples.append(_milliseconds(lambda: refresh(sources)))
        # The next round has these hours for itself.
        with database.transaction(deadline_seconds=DEADLINE_SECONDS) as transaction:
            transaction.run(_FORGET, begins=begins)
        refresh(sources)
    value = statistics.median(samples)
    report(f"refresh after {NEW_RUNS:,} new runs at {MANY:,}", value, "ms (median)", bar="≤ 200 ms", met=value <= 200, samples=samples)  # fmt: skip


def filled(running: Server, runs: int) -> Database:
    """A database with so many runs over 90 days, its rollup made, and everything vacuumed."""
    database = running.new_database()
    database.deadline_seconds = DEADLINE_SECONDS
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with database.transaction() as transaction:
        transaction.run(_PARTITION)
    for number in range(DAYS):
        with database.transaction() as transaction:
            day = today - timedelta(days=DAYS - number)
            transaction.run(_RUNS, begins=day, count=runs // DAYS, day=str(day))
    with database.transaction() as transaction:
        transaction.run(_JOBS, count=runs // JOBS_SHARE)
    refresh(Sources(database, database), deadline_seconds=DEADLINE_SECONDS)
    with database.connect() as connection, connection.raw.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    return database


def opened(database: Database) -> History:
    return History(Context(Settings(), Policy(), replace(Sources(database, database))))


def seed_query(database: Database, question: str) -> None:
    with database.transaction(read_only=True) as transaction:
        transaction.rows(SEED_QUERIES[question])


def _ago(days: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def _milliseconds(measured: Callable[[], Any]) -> float:
    started = time.perf_counter()
    measured()
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    main()
