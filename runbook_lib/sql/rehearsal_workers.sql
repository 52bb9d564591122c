-- Workers and attempts of a staged past, and faults of workers that are staged by rows. Never run on a real system.

-- name: past_runs
-- So many attempts of a worker on jobs that completed, so many seconds apart: completed, or failed with a class.
INSERT INTO job_runs (job_id, attempt, status, job_status, execution_time, started_at, completed_at, worker, stage, error_class, error, tokens,
    write_seconds, category)
SELECT job_id, 100 + number, CASE WHEN failed THEN 'error' ELSE 'completed' END, %(job_status)s, moment, moment - interval '2 seconds', moment,
    %(worker)s, CASE WHEN failed THEN 'write' ELSE 'publish' END, %(error_class)s, %(error_class)s, CASE WHEN NOT failed THEN 900 END,
    CASE WHEN NOT failed THEN 1.0 END, category
FROM (
    SELECT job_id, category, row_number() OVER () AS number, %(error_class)s::text IS NOT NULL AS failed,
        now() - make_interval(secs => %(newest_seconds)s + %(seconds)s * row_number() OVER ()) AS moment
    FROM (SELECT job_id, category FROM content_jobs WHERE status = 'completed' ORDER BY random() LIMIT %(count)s) AS completed
) AS chosen;

-- name: add_worker
-- A worker's row, begun and heard of so many seconds ago.
INSERT INTO workers (worker, host, pid, version, concurrency, prefetch, settings_digest, started_at, heartbeat_at, in_flight, clock_offset_seconds,
    progress_at)
VALUES (%(worker)s, %(host)s, %(pid)s, %(version)s, 4, 0, %(settings_digest)s, now() - make_interval(secs => %(started_seconds_ago)s),
    now() - make_interval(secs => %(heard_seconds_ago)s), %(in_flight)s, %(clock_offset_seconds)s, now());

-- name: stop_worker
-- A worker that stopped in order, at its last sign of life.
UPDATE workers
SET stopped_at = heartbeat_at
WHERE worker = %(worker)s;

-- name: age_signs_of_life
-- Every worker was last heard of a minute earlier than it says: as long ago as it takes to be sure.
UPDATE workers
SET heartbeat_at = heartbeat_at - interval '1 minute', progress_at = progress_at - interval '1 minute';

-- name: poison_job
-- A job at which three workers were lost, one after the other.
WITH job AS (INSERT INTO content_jobs (topic, category, lost_count, attempt) VALUES ('poison', 'News', 3, 3) RETURNING job_id)
INSERT INTO job_runs (job_id, attempt, status, job_status, execution_time, worker, stage, error_class)
SELECT job_id, number, 'lost', 'pending', now() - make_interval(secs => 40 * (4 - number)), 'dead-' || number, 'write', 'worker_lost'
FROM job, generate_series(1, 3) AS number;

-- name: overlapping_attempts
-- Jobs that one worker was said to have lost while it still worked, and that a second published meanwhile.
WITH chosen AS (SELECT job_id, category FROM content_jobs WHERE status = 'completed' ORDER BY random() LIMIT 5)
INSERT INTO job_runs (job_id, attempt, status, job_status, execution_time, started_at, completed_at, worker, stage, error_class, tokens, write_seconds)
SELECT job_id, 50, 'lost', 'pending', now() - interval '100 seconds', now() - interval '160 seconds', now() - interval '90 seconds', 'first',
    'write', 'worker_lost', NULL, NULL
FROM chosen
UNION ALL
SELECT job_id, 51, 'completed', 'completed', now() - interval '60 seconds', now() - interval '120 seconds', now() - interval '60 seconds', 'second',
    'publish', NULL, 900, 50
FROM chosen;

-- name: scheduler_gone
-- A scheduler that was last heard of an hour ago and did not say that it stops.
INSERT INTO schedulers (scheduler, host, pid, boot_id, version, directory, started_at, heartbeat_at)
VALUES ('gone', 'other', 1, 'boot', '0.1', '/schedules', now() - interval '1 day', now() - interval '1 hour');
