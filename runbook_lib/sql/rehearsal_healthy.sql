-- What happened before scenes that only look alarming. Never run on a real system.

-- name: weeks_of_attempts
-- A job every so many hours for so many days, none within the last `gap_hours`, and none from then on until
-- three hours later `gap_days_ago` days ago.
WITH moments AS (
    SELECT now() - make_interval(secs => number * %(every_hours)s * 3600.0) AS moment
    FROM generate_series(1, (%(days)s * 24 / %(every_hours)s)::integer) AS number
), job AS (
    INSERT INTO content_jobs (topic, category, status, stage, attempt, completed_at, created_at, updated_at, post_id, post_status, source)
    SELECT 'Weekly garden ' || moment, 'News', 'completed', 'publish', 1, moment, moment - interval '20 seconds', moment, 200000, 'publish', 'rehearsal'
    FROM moments
    WHERE moment < now() - make_interval(secs => %(gap_hours)s * 3600.0)
        AND NOT (moment < now() - make_interval(days => %(gap_days_ago)s, hours => -3)
            AND moment > now() - make_interval(days => %(gap_days_ago)s, secs => %(gap_hours)s * 3600.0))
    RETURNING job_id, completed_at, category
)
INSERT INTO job_runs (job_id, attempt, status, job_status, execution_time, started_at, completed_at, worker, stage, tokens, write_seconds, category)
SELECT job_id, 1, 'completed', 'completed', completed_at, completed_at - interval '20 seconds', completed_at, 'earlier-worker', 'publish', 1200, 15, category
FROM job;

-- name: old_failures
-- So many jobs that ended in error so long ago.
WITH job AS (
    INSERT INTO content_jobs (topic, category, status, stage, attempt, lost_count, error_class, last_error, created_at, updated_at, source)
    SELECT 'Once ' || number, 'News', 'error', 'write', 1, %(lost_count)s, %(error_class)s, %(error_class)s,
        now() - make_interval(secs => %(hours)s * 3600.0 + 600), now() - make_interval(secs => %(hours)s * 3600.0), 'rehearsal'
    FROM generate_series(1, %(count)s) AS number
    RETURNING job_id, updated_at, category
)
INSERT INTO job_runs (job_id, attempt, status, job_status, execution_time, started_at, completed_at, worker, stage, error_class, error, charged, category)
SELECT job_id, 1, 'error', 'error', updated_at, updated_at - interval '2 seconds', updated_at, 'earlier-worker', 'write', %(error_class)s, %(error_class)s,
    true, category
FROM job;

-- name: jobs_for_later
-- Jobs that are to be written at a later time.
INSERT INTO content_jobs (topic, category, source, run_at)
SELECT 'For later ' || number, 'News', 'rehearsal', now() + make_interval(hours => %(hours)s)
FROM generate_series(1, %(count)s) AS number;

-- name: scheduler_at_a_long_report
-- A scheduler that is there, a long report that it began, and another one that has been due for some minutes.
WITH scheduler AS (
    INSERT INTO schedulers (scheduler, host, pid, boot_id, version, directory, started_at, heartbeat_at)
    VALUES ('reports', 'other', 1, 'boot', '0.1', '/schedules', now() - interval '2 days', now())
), running AS (
    INSERT INTO schedule_runs (schedule_id, due_at, claimed_at, claimed_by, outcome)
    VALUES ('weekly-review', now() - make_interval(mins => %(minutes)s + 5), now() - make_interval(mins => %(minutes)s + 5), 'reports', 'started')
)
INSERT INTO schedules (schedule_id, directory, procedure, cron, timezone, read_only, next_due_at, seen_by, seen_at)
VALUES ('weekly-review', '/schedules', 'weekly/performance_review', '0 6 * * 1', 'UTC', true, now() + interval '7 days', 'reports', now()),
    ('daily-health', '/schedules', 'daily/health_check', '5 6 * * *', 'UTC', true, now() - make_interval(mins => %(minutes)s), 'reports', now());

-- name: pending_ids
-- Jobs that wait.
SELECT job_id::text AS job_id
FROM content_jobs
WHERE status = 'pending'
ORDER BY job_id
LIMIT %(count)s;

-- name: read_every_job
-- A question that reads the whole table.
SELECT count(*)
FROM content_jobs
WHERE topic LIKE '%%a%%';

-- name: long_question
-- A report that takes its time and locks nothing.
SELECT count(*), pg_sleep(%(seconds)s)
FROM job_runs;

-- name: forget_statistics
-- As after a restart: no hit of the cache is counted yet.
SELECT pg_stat_reset();

-- name: pauses_ended
-- Pauses that a trial ended, as workers do; what they had put off keeps its time.
DELETE FROM provider_pauses;

-- name: workers_alive
-- Workers that gave a sign of life just now.
SELECT count(*)
FROM workers
WHERE stopped_at IS NULL AND heartbeat_at > now() - interval '10 seconds';

-- name: last_years_slots
-- What the rollup keeps of the year before: attempts each day, but for the day that was as quiet as this one.
INSERT INTO run_slots (minutes, begins, completed, error, lost, released, left_out, jobs_completed, jobs_failed, last_completed_at)
SELECT 60, date_trunc('hour', now()) - make_interval(days => day, hours => hour), 2, 0, 0, 0, 0, 2, 0,
    date_trunc('hour', now()) - make_interval(days => day, hours => hour) + interval '50 minutes'
FROM generate_series(36, 380) AS day, generate_series(0, 20, 4) AS hour
WHERE day NOT IN (363, 364)
ON CONFLICT DO NOTHING;
