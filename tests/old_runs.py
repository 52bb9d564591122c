"""Runs of known weeks, old and young, for the tests of the clean-up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from runbook_lib.database import Database

# Texts that a file of values could get wrong.
AWKWARD = 'said "no",\nthen \\N and nothing; ünïcode — 𝔘'
_RUN = """
INSERT INTO job_runs (
    job_id, attempt, status, execution_time, started_at, completed_at, error, model, tokens, cost_usd, write_seconds,
    publish_seconds, charged, http_status
)
SELECT
    gen_random_uuid(), 1 + number %% 3, CASE WHEN number %% 4 = 0 THEN 'error' ELSE 'completed' END,
    %(begins)s::timestamptz + number * interval '7 minutes 0.123456 seconds', NULL, %(begins)s,
    CASE number %% 5 WHEN 0 THEN %(awkward)s WHEN 1 THEN '' WHEN 2 THEN '\\N' END, 'gpt-4o-mini', number, 0.002 * number,
    number / 7.0, CASE WHEN number %% 6 = 0 THEN 'NaN'::double precision END, number %% 2 = 0, 200 + number
FROM generate_series(0, %(count)s - 1) AS number
"""
_PARTITION = """
DO $body$
DECLARE week timestamptz := date_trunc('week', now() - make_interval(weeks => %(weeks)s), 'UTC');
BEGIN
    EXECUTE format('CREATE TABLE %%I PARTITION OF job_runs FOR VALUES FROM (%%L) TO (%%L)',
        'job_runs_' || to_char(week AT TIME ZONE 'UTC', 'IYYY_"w"IW'), week, week + interval '7 days');
END
$body$
"""


def week_begins(weeks_ago: int) -> datetime:
    """The Monday of so many weeks ago, in UTC."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=today.weekday(), weeks=weeks_ago)


def add_week(database: Database, weeks_ago: int, runs: int, *, partition: bool = True) -> datetime:
    """Puts runs into the first days of a week; without a partition they go to the default one."""
    begins = week_begins(weeks_ago)
    with database.transaction() as transaction:
        if partition:
            transaction.run(_PARTITION, weeks=weeks_ago)
        transaction.run(_RUN, begins=begins, count=runs, awkward=AWKWARD)
    return begins
