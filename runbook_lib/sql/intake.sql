-- Taking jobs in.

-- name: lock_intake
-- Intakes add their batches one after another: two that hold the same keys in another order would wait
-- for each other for ever, and sorting by key would lose the file's order.
SELECT pg_advisory_xact_lock(hashtext('content_jobs intake'));

-- name: insert_jobs
-- Adds the jobs whose key is not there yet; returns those. A `run_at` that is over is at once (NULL).
INSERT INTO content_jobs (
    topic, category, keywords, audience, tone, requested_post_status, priority, run_at,
    idempotency_key, source, created_by
)
SELECT
    topic,
    category,
    ARRAY(SELECT json_array_elements_text(keywords)),
    audience,
    tone,
    post_status,
    coalesce(priority, 100),
    CASE WHEN run_at > now() THEN run_at END,
    idempotency_key,
    source,
    %(created_by)s
FROM json_to_recordset(%(jobs)s::json) AS given (
    line bigint, topic text, category text, keywords json, audience text, tone text,
    post_status text, priority integer, run_at timestamptz, idempotency_key text, source text
)
ORDER BY line
ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING job_id::text, idempotency_key;

-- name: jobs_of_keys
-- The jobs that have these keys already.
SELECT idempotency_key, job_id::text, status, post_url, source, created_at
FROM content_jobs
WHERE idempotency_key = ANY (%(keys)s);
