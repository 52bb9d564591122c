-- Jobs that seem to be left by their worker, of any pipeline.

-- name: count_stuck
-- Jobs in processing, and those that seem stuck: their lease ran out or, where there are no leases, they
-- were begun long ago and may still be running.
SELECT count(*) AS processing,
    count(*) FILTER (WHERE CASE
        WHEN %(has_leases)s THEN lease_until < now()
        ELSE started_at < now() - make_interval(secs => %(older_than_seconds)s)
    END) AS stuck
FROM jobs
WHERE status = 'processing';

-- name: stuck_jobs
-- Jobs that seem stuck, the longest first.
SELECT job_id, left(topic, 200) AS topic, status, attempt, worker, stage, started_at, lease_until,
    extract(epoch FROM now() - started_at)::double precision AS age_seconds
FROM jobs
WHERE status = 'processing'
    AND CASE
        WHEN %(has_leases)s THEN lease_until < now()
        ELSE started_at < now() - make_interval(secs => %(older_than_seconds)s)
    END
ORDER BY coalesce(lease_until, started_at), job_id
LIMIT %(row_count)s;

-- name: job_now
-- What one job is now.
SELECT job_id, status, started_at
FROM jobs
WHERE job_key = %(job_id)s;

-- name: ended_lately
-- Attempts that ended within so many minutes.
SELECT count(*)
FROM runs
WHERE execution_time > now() - make_interval(mins => %(minutes)s) AND execution_time <= now();
