-- The worker's statements about content_jobs: claim, renew, settle, sweep. Each write about a claimed
-- job is guarded by (job_id, attempt, status = 'processing'), so that a late writer changes nothing.

-- name: claim_jobs
-- Claims up to `count` due jobs for a worker: paid articles first, then topics; oldest first within a
-- priority; resuming after the last claimed (priority, job_id), so that dead rows are not read again.
WITH publishing AS MATERIALIZED (
    SELECT job_id
    FROM content_jobs
    WHERE status = 'pending' AND run_at IS NULL AND stage = 'publish'
        AND (priority, job_id) > (%(publish_after_priority)s, %(publish_after_job_id)s::uuid)
    ORDER BY priority, job_id
    LIMIT %(publish_count)s
    FOR UPDATE SKIP LOCKED
), writing AS MATERIALIZED (
    SELECT job_id
    FROM content_jobs
    WHERE status = 'pending' AND run_at IS NULL AND stage = 'write'
        AND (priority, job_id) > (%(write_after_priority)s, %(write_after_job_id)s::uuid)
    ORDER BY priority, job_id
    LIMIT least(%(write_count)s, greatest(0, %(count)s - (SELECT count(*) FROM publishing)))
    FOR UPDATE SKIP LOCKED
)
UPDATE content_jobs
SET status = 'processing',
    attempt = attempt + 1,
    worker = %(worker)s,
    lease_until = now() + make_interval(secs => %(lease_seconds)s),
    started_at = now(),
    updated_at = now()
WHERE job_id = ANY (ARRAY(SELECT job_id FROM publishing UNION ALL SELECT job_id FROM writing))
RETURNING
    job_id::text,
    attempt,
    stage,
    left(topic, %(topic_characters)s) AS topic,
    category,
    keywords,
    audience,
    tone,
    requested_post_status,
    priority,
    retry_count,
    max_retries,
    lost_count,
    draft_requested_at,
    extract(epoch FROM now() - draft_requested_at)::float8 AS draft_age_seconds,
    post_id,
    now() AS claimed_at;

-- name: settle_attempts
-- Ends attempts: the job's next state and its row in job_runs in one statement. Returns the attempts
-- that were still ours; what is missing was swept or ended by somebody else meanwhile.
WITH ended AS (
    SELECT
        given.*,
        coalesce(given.run_status, 'completed') AS run_state,
        coalesce(given.job_status, 'completed') AS job_state,
        coalesce(given.charged, false) AS is_charged
    FROM jsonb_to_recordset(%(ended)s::jsonb) AS given (
        job_id uuid, attempt integer, run_status text, job_status text, charged boolean,
        delay_seconds float8, begun float8, ran float8, stage text,
        error text, error_class text, fingerprint text, exception_class text, provider text,
        http_status integer, provider_code text, sqlstate text, constraint_name text, request_id text,
        model text, prompt_tokens integer, completion_tokens integer, cost_usd numeric,
        write_seconds float8, publish_seconds float8, post_id bigint, post_url text, post_status text
    )
), settled AS (
    UPDATE content_jobs AS job
    SET status = ended.job_state,
        run_at = CASE
            WHEN ended.job_state = 'pending' AND ended.delay_seconds > 0
            THEN now() + make_interval(secs => ended.delay_seconds)
        END,
        retry_count = job.retry_count + ended.is_charged::integer,
        lost_count = 0,
        worker = NULL,
        lease_until = NULL,
        last_error = CASE ended.run_state WHEN 'error' THEN ended.error WHEN 'completed' THEN NULL ELSE job.last_error END,
        error_class = CASE ended.run_state WHEN 'error' THEN ended.error_class WHEN 'completed' THEN NULL ELSE job.error_class END,
        post_id = CASE WHEN ended.error_class = 'wordpress_post_gone' THEN NULL ELSE coalesce(ended.post_id, job.post_id) END,
        post_url = coalesce(ended.post_url, job.post_url),
        post_status = coalesce(ended.post_status, job.post_status),
        completed_at = CASE WHEN ended.job_state = 'completed' THEN now() END,
        updated_at = now()
    FROM ended
    WHERE job.job_id = ended.job_id AND job.attempt = ended.attempt AND job.status = 'processing'
    RETURNING job.job_id, job.attempt, job.stage, job.started_at, job.category
), recorded AS (
    INSERT INTO job_runs (
        job_id, attempt, status, started_at, completed_at, worker, stage, charged, error, error_class,
        fingerprint, exception_class, provider, http_status, provider_code, sqlstate, constraint_name,
        request_id, model, prompt_tokens, completion_tokens, tokens, cost_usd, write_seconds,
        publish_seconds, category, job_status
    )
    SELECT
        job_id, attempt, ended.run_state,
        settled.started_at + make_interval(secs => ended.begun),
        settled.started_at + make_interval(secs => ended.begun + ended.ran),
        %(worker)s, coalesce(ended.stage, settled.stage), ended.is_charged, ended.error, ended.error_class,
        ended.fingerprint, ended.exception_class, ended.provider, ended.http_status, ended.provider_code,
        ended.sqlstate, ended.constraint_name, ended.request_id, ended.model, ended.prompt_tokens,
        ended.completion_tokens, ended.prompt_tokens + ended.completion_tokens, ended.cost_usd,
        ended.write_seconds, ended.publish_seconds, settled.category, ended.job_state
    FROM ended
    JOIN settled USING (job_id, attempt)
)
SELECT job_id::text
FROM settled;

-- name: record_late_attempt
-- An attempt that ended after its lease was taken away leaves a row `lost`, unless the sweeper left one.
INSERT INTO job_runs (job_id, attempt, status, worker, stage, error, error_class)
SELECT %(job_id)s::uuid, %(attempt)s, 'lost', %(worker)s, %(stage)s, %(error)s, 'worker_lost'
WHERE NOT EXISTS (
    SELECT FROM job_runs WHERE job_id = %(job_id)s::uuid AND attempt = %(attempt)s
);

-- name: store_article
-- Keeps the paid result and moves the job to the stage `publish`, if the attempt is still ours.
WITH job AS (
    UPDATE content_jobs
    SET stage = 'publish',
        lost_count = 0,
        updated_at = now()
    WHERE job_id = %(job_id)s::uuid AND attempt = %(attempt)s AND status = 'processing'
    RETURNING job_id
)
INSERT INTO articles (
    job_id, attempt, title, excerpt, body_markdown, tags, word_count, likeness_sketch, model,
    finish_reason, request_id, prompt_tokens, completion_tokens, cost_usd
)
SELECT
    job_id, %(attempt)s, %(title)s, %(excerpt)s, %(body_markdown)s, %(tags)s::text[], %(word_count)s,
    %(likeness_sketch)s::bigint[], %(model)s, %(finish_reason)s, %(request_id)s, %(prompt_tokens)s,
    %(completion_tokens)s, %(cost_usd)s
FROM job
ON CONFLICT (job_id) DO UPDATE
SET attempt = EXCLUDED.attempt,
    title = EXCLUDED.title,
    excerpt = EXCLUDED.excerpt,
    body_markdown = EXCLUDED.body_markdown,
    tags = EXCLUDED.tags,
    word_count = EXCLUDED.word_count,
    likeness_sketch = EXCLUDED.likeness_sketch,
    model = EXCLUDED.model,
    finish_reason = EXCLUDED.finish_reason,
    request_id = EXCLUDED.request_id,
    prompt_tokens = EXCLUDED.prompt_tokens,
    completion_tokens = EXCLUDED.completion_tokens,
    cost_usd = EXCLUDED.cost_usd,
    created_at = now()
RETURNING job_id;

-- name: request_draft
-- Notes, before anything is sent, that a draft may exist from now on.
UPDATE content_jobs
SET draft_requested_at = now(),
    updated_at = now()
WHERE job_id = %(job_id)s::uuid AND attempt = %(attempt)s AND status = 'processing'
RETURNING job_id;

-- name: store_draft
-- Keeps the id of the draft that is to be published.
UPDATE content_jobs
SET post_id = %(post_id)s,
    post_url = %(post_url)s,
    post_status = %(post_status)s,
    lost_count = 0,
    updated_at = now()
WHERE job_id = %(job_id)s::uuid AND attempt = %(attempt)s AND status = 'processing'
RETURNING job_id;

-- name: load_articles
-- The stored articles of jobs that were claimed at the stage `publish`.
SELECT job_id::text, title, excerpt, body_markdown, tags, finish_reason, word_count, likeness_sketch, model
FROM articles
WHERE job_id = ANY (%(job_ids)s::uuid[]);

-- name: recent_likeness_sketches
-- Sketches of the newest articles, to compare a new one with.
SELECT job_id::text, likeness_sketch
FROM articles
ORDER BY created_at DESC
LIMIT %(count)s;

-- name: renew_leases
-- Prolongs the leases of attempts in flight; returns those that are still ours.
UPDATE content_jobs AS job
SET lease_until = now() + make_interval(secs => %(lease_seconds)s)
FROM unnest(%(job_ids)s::uuid[], %(attempts)s::integer[]) AS mine (job_id, attempt)
WHERE job.job_id = mine.job_id AND job.attempt = mine.attempt AND job.status = 'processing'
RETURNING job.job_id::text;

-- name: sweep_expired_leases
-- Takes jobs back whose lease ran out: pending again at once, or into quarantine when their workers
-- vanished too often in a row. Leaves the row `lost` of the attempt, with what its article cost. Only
-- these jobs, where some are named.
WITH expired AS MATERIALIZED (
    SELECT job_id, attempt, worker, stage, started_at, category, lost_count
    FROM content_jobs
    WHERE status = 'processing' AND lease_until < now()
        AND (%(job_ids)s::uuid[] IS NULL OR job_id = ANY (%(job_ids)s::uuid[]))
    ORDER BY lease_until
    LIMIT %(count)s
    FOR UPDATE SKIP LOCKED
), swept AS (
    UPDATE content_jobs AS job
    SET status = CASE WHEN job.lost_count + 1 >= %(quarantine_after)s THEN 'error' ELSE 'pending' END,
        run_at = NULL,
        lost_count = job.lost_count + 1,
        worker = NULL,
        lease_until = NULL,
        last_error = 'The worker ' || expired.worker || ' vanished during attempt ' || expired.attempt || '.',
        error_class = CASE WHEN job.lost_count + 1 >= %(quarantine_after)s THEN 'quarantined' ELSE 'worker_lost' END,
        updated_at = now()
    FROM expired
    WHERE job.job_id = expired.job_id
    RETURNING job.job_id, job.status
), recorded AS (
    INSERT INTO job_runs (
        job_id, attempt, status, started_at, completed_at, worker, stage, error, error_class, fingerprint, model,
        request_id, prompt_tokens, completion_tokens, tokens, cost_usd, category, job_status
    )
    SELECT
        expired.job_id, expired.attempt, 'lost', expired.started_at, now(), expired.worker, expired.stage,
        'The lease ran out; the worker vanished.',
        CASE WHEN expired.lost_count + 1 >= %(quarantine_after)s THEN 'quarantined' ELSE 'worker_lost' END,
        %(fingerprint)s,
        article.model, article.request_id, article.prompt_tokens, article.completion_tokens,
        article.prompt_tokens + article.completion_tokens, article.cost_usd, expired.category,
        CASE WHEN expired.lost_count + 1 >= %(quarantine_after)s THEN 'error' ELSE 'pending' END
    FROM expired
    LEFT JOIN articles AS article ON article.job_id = expired.job_id AND article.attempt = expired.attempt
)
SELECT swept.job_id::text, swept.status, expired.attempt, expired.worker
FROM swept
JOIN expired USING (job_id);

-- name: hand_back_strangers
-- Jobs that stand as ours but are not in flight here (a claim whose commit was never confirmed) go back
-- uncharged, with a row `released`.
WITH strangers AS MATERIALIZED (
    SELECT job_id, attempt, stage, started_at, category
    FROM content_jobs
    WHERE status = 'processing' AND worker = %(worker)s AND NOT job_id = ANY (%(in_flight)s::uuid[])
    FOR UPDATE SKIP LOCKED
), returned AS (
    UPDATE content_jobs AS job
    SET status = 'pending', run_at = NULL, worker = NULL, lease_until = NULL, updated_at = now()
    FROM strangers
    WHERE job.job_id = strangers.job_id
)
INSERT INTO job_runs (job_id, attempt, status, started_at, completed_at, worker, stage, error_class, category, job_status)
SELECT job_id, attempt, 'released', started_at, now(), %(worker)s, stage, 'worker_stopped', category, 'pending'
FROM strangers;

-- name: promote_deferred_jobs
-- Jobs whose time has come become due: from here on a claim sees them, and they count as waiting.
UPDATE content_jobs
SET run_at = NULL,
    updated_at = now()
WHERE job_id = ANY (ARRAY(
    SELECT job_id
    FROM content_jobs
    WHERE status = 'pending' AND run_at <= now()
    ORDER BY run_at
    LIMIT %(count)s
    FOR UPDATE SKIP LOCKED
));

-- name: queue_left
-- What is left: in processing anywhere, due now by stage, waiting for their time, in error.
SELECT
    (SELECT count(*) FROM content_jobs WHERE status = 'processing') AS processing,
    (SELECT count(*) FROM content_jobs WHERE status = 'pending' AND stage = 'write' AND (run_at IS NULL OR run_at <= now())) AS due_write,
    (SELECT count(*) FROM content_jobs WHERE status = 'pending' AND stage = 'publish' AND (run_at IS NULL OR run_at <= now())) AS due_publish,
    (SELECT count(*) FROM content_jobs WHERE status = 'pending' AND run_at > now()) AS deferred,
    (SELECT count(*) FROM content_jobs WHERE status = 'error') AS error,
    (SELECT extract(epoch FROM min(run_at) - now())::float8 FROM content_jobs WHERE status = 'pending' AND run_at > now()) AS next_due_seconds;

-- name: notify_workers
-- A hint to idle workers that there is something to claim; polling finds it without.
SELECT pg_notify('content_jobs', '');
