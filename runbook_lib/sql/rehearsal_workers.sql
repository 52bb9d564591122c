-- Workers and attempts of a staged past. Never run on a real system.

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
