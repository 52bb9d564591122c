-- Setting one job aside as a planned change, and letting it go again.

-- name: job_to_set_aside
-- One job, with whoever works on it and whether that worker was heard of lately.
SELECT job.job_id::text, left(job.topic, 120) AS topic, job.category, job.status, job.stage, job.error_class, job.attempt,
    job.retry_count, job.lost_count, left(job.last_error, 2000) AS last_error, job.worker, job.updated_at,
    extract(epoch FROM job.lease_until - now())::double precision AS lease_left_seconds,
    coalesce(worker.stopped_at IS NULL AND worker.heartbeat_at > now() - make_interval(secs => %(silent_seconds)s), false) AS worker_lives
FROM content_jobs AS job
LEFT JOIN workers AS worker ON worker.worker = job.worker
WHERE job.job_id = %(job_id)s::uuid;

-- name: set_aside
-- A job that nobody works on ends in quarantine; retrying many jobs at once leaves it out from now on.
UPDATE content_jobs
SET status = 'error',
    error_class = 'quarantined',
    last_error = %(last_error)s,
    run_at = NULL,
    updated_at = now()
WHERE job_id = %(job_id)s::uuid AND attempt = %(attempt)s AND status IN ('pending', 'error')
RETURNING job_id;

-- name: jobs_set_aside
-- The jobs that a change set aside and that are still so: nobody retried them since.
SELECT job.job_id::text, left(job.topic, 120) AS topic, job.attempt, job.created_at, made.before
FROM change_rows AS made
JOIN content_jobs AS job ON job.job_id = made.row_key::uuid
WHERE made.change_id = %(change_id)s::uuid AND made.outcome = 'changed'
    AND job.status = 'error' AND job.error_class = 'quarantined'
    AND job.attempt = (made.after ->> 'attempt')::integer;

-- name: let_go
-- A job as it was before it was set aside; one that was in somebody's hands waits again.
UPDATE content_jobs
SET status = %(status)s,
    error_class = %(error_class)s,
    last_error = %(last_error)s,
    lost_count = %(lost_count)s,
    updated_at = now()
WHERE job_id = %(job_id)s::uuid AND attempt = %(attempt)s AND status = 'error' AND error_class = 'quarantined';
