-- Retrying failed jobs, and taking that back.

-- name: retryable_jobs
-- Failed jobs by id, class, category and the time they failed; each row carries how many there are.
SELECT
    job_id::text, left(topic, 120) AS topic, category, status, error_class, stage, attempt, retry_count,
    lost_count, updated_at, count(*) OVER () AS total
FROM content_jobs
WHERE status = 'error'
    AND (%(job_ids)s::uuid[] IS NULL OR job_id = ANY (%(job_ids)s::uuid[]))
    AND (%(error_class)s::text IS NULL OR error_class = %(error_class)s)
    AND (%(category)s::text IS NULL OR lower(category) = lower(%(category)s))
    AND (%(since)s::timestamptz IS NULL OR updated_at >= %(since)s::timestamptz)
    AND (%(until)s::timestamptz IS NULL OR updated_at < %(until)s::timestamptz)
    AND coalesce(error_class <> ALL (%(left_out)s::text[]), true)
ORDER BY priority, job_id
LIMIT %(row_count)s;

-- name: lock_jobs
-- Locks jobs in the order of their ids, so that two changes cannot wait for each other.
SELECT job_id
FROM content_jobs
WHERE job_id = ANY (%(job_ids)s::uuid[])
ORDER BY job_id
FOR UPDATE;

-- name: retry_jobs
-- Failed jobs become pending: the first ones at once, then one every so many seconds, jittered.
WITH placed AS (
    SELECT job_id, row_number() OVER (ORDER BY priority, job_id) - 1 - %(at_once)s AS place
    FROM content_jobs
    WHERE job_id = ANY (%(job_ids)s::uuid[]) AND status = 'error'
)
UPDATE content_jobs AS job
SET status = 'pending',
    retry_count = 0,
    lost_count = 0,
    run_at = CASE
        WHEN placed.place >= 0
        THEN now() + make_interval(secs => (placed.place + random()) * %(seconds_between)s)
    END,
    updated_at = now()
FROM placed
WHERE job.job_id = placed.job_id
RETURNING job.job_id::text, job.run_at::text;

-- name: retried_jobs
-- Jobs of a retry that no worker has claimed since, with how they were before.
SELECT
    job.job_id::text, left(job.topic, 120) AS topic, job.created_at, changed.before,
    count(*) OVER () AS total
FROM change_rows AS changed
JOIN content_jobs AS job ON job.job_id = changed.row_key::uuid
WHERE changed.change_id = %(change_id)s::uuid
    AND changed.outcome = 'changed'
    AND job.status = 'pending'
    AND job.attempt = (changed.before->>'attempt')::integer
ORDER BY changed.position
LIMIT %(row_count)s;

-- name: unretry_jobs
-- Puts jobs back into error with the counts that they had; last_error and error_class were kept.
UPDATE content_jobs AS job
SET status = 'error',
    run_at = NULL,
    retry_count = earlier.retry_count,
    lost_count = earlier.lost_count,
    updated_at = now()
FROM unnest(%(job_ids)s::uuid[], %(retry_counts)s::integer[], %(lost_counts)s::integer[])
    AS earlier (job_id, retry_count, lost_count)
WHERE job.job_id = earlier.job_id AND job.status = 'pending';

-- name: lowest_limit
-- The lowest limit on requests a minute that is set, of either provider.
SELECT min(requests_per_minute)::float8
FROM provider_limits;
