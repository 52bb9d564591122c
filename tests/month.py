"""Thirty days of known history up to now, for the scenes that run every notebook with its defaults.

Each of the 30 days before today (UTC) has 40 attempts that completed and 4 that failed; today begins quiet
and has an hour of trouble just now: 12 attempts of 6 jobs failed, 24 completed. Three jobs wait, two are in
processing: one is held by a worker that runs, one was left by a worker that fell silent.
"""

from __future__ import annotations

from runbook_lib.database import Database

DAYS, COMPLETED_A_DAY, FAILED_A_DAY = 30, 40, 4
COMPLETED_NOW, FAILED_NOW, FAILED_JOBS_NOW = 24, 12, 6
LIVING_WORKER, LOST_WORKER = "host-a:100:living", "host-b:200:lost"
# Failed attempts of a usual day belong to jobs that completed later.
FAILED_JOBS = FAILED_JOBS_NOW

_STATEMENTS = (
    # completed jobs of each day, every ten minutes from 08:00 on, each with an article's cost
    """
    INSERT INTO content_jobs (job_id, topic, category, status, created_at, started_at, completed_at, updated_at, stage, attempt)
    SELECT md5('day ' || day || ' ' || n)::uuid, 'Topic ' || day || ' ' || n, (ARRAY['News', 'Guides'])[1 + n %% 2], 'completed',
        at - interval '1 minute', at - interval '20 seconds', at, at, 'publish', 1
    FROM generate_series(1, %(days)s) AS day
    CROSS JOIN generate_series(1, %(completed)s) AS n
    CROSS JOIN LATERAL (SELECT (now() AT TIME ZONE 'UTC')::date::timestamp AT TIME ZONE 'UTC' - day * interval '1 day'
        + interval '8 hours' + n * interval '10 minutes' AS at) AS clock
    """,
    """
    INSERT INTO job_runs (job_id, attempt, status, execution_time, started_at, completed_at, worker, stage, write_seconds,
        publish_seconds, model, prompt_tokens, completion_tokens, tokens, cost_usd, category, job_status)
    SELECT job_id, 1, 'completed', completed_at, started_at, completed_at, %(living)s, 'publish', 15, 1, 'gpt-4o-mini', 1000, 500,
        1500, 0.002, category, 'completed'
    FROM content_jobs
    """,
    # the first of each day's jobs were overloaded once before
    """
    INSERT INTO job_runs (job_id, attempt, status, execution_time, started_at, completed_at, worker, stage, error, error_class,
        provider, http_status, category, job_status)
    SELECT md5('day ' || day || ' ' || n)::uuid, 0, 'error', at, at - interval '5 seconds', at, %(living)s, 'write',
        'OpenAI answered 503.', 'openai_overloaded', 'openai', 503, 'News', 'pending'
    FROM generate_series(1, %(days)s) AS day
    CROSS JOIN generate_series(1, %(failed)s) AS n
    CROSS JOIN LATERAL (SELECT (now() AT TIME ZONE 'UTC')::date::timestamp AT TIME ZONE 'UTC' - day * interval '1 day'
        + interval '8 hours' + n * interval '1 minute' AS at) AS clock
    """,
    # just now: the site is in trouble
    """
    INSERT INTO content_jobs (job_id, topic, category, status, stage, attempt, retry_count, last_error, error_class,
        created_at, started_at, completed_at, updated_at)
    SELECT md5('now ' || n)::uuid, 'Topic of now ' || n, 'News', CASE WHEN n <= %(completed_now)s THEN 'completed' ELSE 'error' END,
        'publish', 2, 2, CASE WHEN n > %(completed_now)s THEN 'The site answered 503.' END,
        CASE WHEN n > %(completed_now)s THEN 'wordpress_unavailable' END,
        now() - interval '50 minutes', now() - interval '45 minutes',
        CASE WHEN n <= %(completed_now)s THEN now() - interval '40 minutes' END, now() - interval '20 minutes'
    FROM generate_series(1, %(completed_now)s + %(failed_jobs)s) AS n
    """,
    """
    INSERT INTO job_runs (job_id, attempt, status, execution_time, started_at, completed_at, worker, stage, error, error_class,
        provider, http_status, category, job_status)
    SELECT md5('now ' || n)::uuid, attempt, CASE WHEN n <= %(completed_now)s THEN 'completed' ELSE 'error' END, at,
        at - interval '10 seconds', at, CASE WHEN n <= %(completed_now)s THEN %(living)s ELSE %(lost)s END, 'publish',
        CASE WHEN n > %(completed_now)s THEN 'The site answered 503.' END,
        CASE WHEN n > %(completed_now)s THEN 'wordpress_unavailable' END,
        CASE WHEN n > %(completed_now)s THEN 'wordpress' END, CASE WHEN n > %(completed_now)s THEN 503 END, 'News',
        CASE WHEN n <= %(completed_now)s THEN 'completed' WHEN attempt = 2 THEN 'error' ELSE 'pending' END
    FROM generate_series(1, %(completed_now)s + %(failed_jobs)s) AS n
    CROSS JOIN generate_series(1, 2) AS attempt
    CROSS JOIN LATERAL (SELECT now() - interval '30 minutes' + attempt * interval '5 minutes' AS at) AS clock
    WHERE n > %(completed_now)s OR attempt = 2
    """,
    """
    INSERT INTO workers (worker, host, pid, version, concurrency, prefetch, started_at, heartbeat_at, progress_at, in_flight)
    VALUES (%(living)s, 'host-a', 100, '0.1.0', 4, 4, now() - interval '1 hour', now() + interval '1 hour', now() + interval '1 hour', 1),
        (%(lost)s, 'host-b', 200, '0.1.0', 4, 4, now() - interval '1 hour', now() - interval '10 minutes', now() - interval '11 minutes', 1)
    """,
    """
    INSERT INTO content_jobs (job_id, topic, category, status, stage, attempt, worker, lease_until, started_at, created_at)
    VALUES (md5('held')::uuid, 'Held', 'News', 'processing', 'write', 1, %(living)s, now() + interval '1 hour', now(), now()),
        (md5('left')::uuid, 'Left', 'News', 'processing', 'write', 1, %(lost)s, now() - interval '9 minutes',
            now() - interval '10 minutes', now() - interval '20 minutes')
    """,
    "INSERT INTO content_jobs (topic, category) SELECT 'Waits ' || n, 'News' FROM generate_series(1, 3) AS n",
)


def seed_month(database: Database) -> None:
    """Writes the month into an empty, migrated database."""
    binds = {
        "days": DAYS, "completed": COMPLETED_A_DAY, "failed": FAILED_A_DAY,
        "completed_now": COMPLETED_NOW, "failed_jobs": FAILED_JOBS_NOW,
        "living": LIVING_WORKER, "lost": LOST_WORKER,
    }  # fmt: skip
    with database.transaction() as transaction:
        for statement in _STATEMENTS:
            transaction.run(statement, **binds)
