-- What an operator asks of jobs.

-- name: list_jobs
-- The newest jobs by status, error class, category, time of their last change and a part of their texts.
SELECT
    job_id::text, status, left(topic, 4000) AS topic, retry_count, last_error, post_id, post_url,
    post_status, error_class, category, stage, priority, attempt, max_retries, worker, run_at, source,
    created_by, created_at, updated_at, completed_at
FROM content_jobs
WHERE (%(status)s::text IS NULL OR status = %(status)s)
    AND (%(error_class)s::text IS NULL OR error_class = %(error_class)s)
    AND (%(category)s::text IS NULL OR lower(category) = lower(%(category)s))
    AND (%(since)s::timestamptz IS NULL OR updated_at >= %(since)s)
    AND (%(search)s::text IS NULL OR topic ILIKE %(search)s OR last_error ILIKE %(search)s)
    AND (%(before)s::uuid IS NULL OR job_id < %(before)s::uuid)
ORDER BY job_id DESC
LIMIT %(row_count)s;

-- name: find_jobs
-- Jobs between two ids, two at most: enough to see whether the beginning of an id is unique.
SELECT job_id::text
FROM content_jobs
WHERE job_id BETWEEN %(first)s::uuid AND %(last)s::uuid
ORDER BY job_id
LIMIT 2;

-- name: show_job
-- One job, whole but for a very long topic.
SELECT
    job_id::text, status, stage, left(topic, 4000) AS topic, category, keywords, audience, tone,
    requested_post_status, priority, run_at, attempt, retry_count, max_retries, lost_count, worker,
    lease_until, last_error, error_class, post_id, post_url, post_status, draft_requested_at,
    idempotency_key, source, created_by, created_at, updated_at, started_at, completed_at
FROM content_jobs
WHERE job_id = %(job_id)s::uuid;

-- name: runs_of_job
-- Every attempt of a job that ended, oldest first.
SELECT
    attempt, status, started_at, completed_at, execution_time, worker, stage, charged, error,
    error_class, exception_class, provider, http_status, provider_code, sqlstate, constraint_name,
    request_id, model, tokens, cost_usd, write_seconds, publish_seconds
FROM job_runs
WHERE job_id = %(job_id)s::uuid
ORDER BY attempt, execution_time;

-- name: article_of_job
-- The article of a job without its body.
SELECT
    attempt, title, excerpt, tags, word_count, model, finish_reason, request_id, prompt_tokens,
    completion_tokens, cost_usd, created_at, length(body_markdown) AS body_characters
FROM articles
WHERE job_id = %(job_id)s::uuid;

-- name: events_of_job
-- What happened with a job, oldest first.
SELECT occurred_at, kind, level, message, worker, provider, details
FROM events
WHERE job_id = %(job_id)s::uuid
ORDER BY event_id;

-- name: lock_job
-- One job, locked, to decide whether it can be cancelled.
SELECT
    job_id::text, left(topic, 200) AS topic, status, error_class, attempt, worker, run_at::text,
    draft_requested_at, post_id
FROM content_jobs
WHERE job_id = %(job_id)s::uuid
FOR UPDATE;

-- name: cancel_job
-- A pending job ends without an attempt.
UPDATE content_jobs
SET status = 'error',
    error_class = 'cancelled',
    last_error = %(last_error)s,
    run_at = NULL,
    updated_at = now()
WHERE job_id = %(job_id)s::uuid AND status = 'pending';
