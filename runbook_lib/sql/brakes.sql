-- The brakes as operators set them; workers read the same rows each turn (permits.sql).

-- name: read_pauses
-- The pauses that stand.
SELECT provider, paused_at, until, reason, error_class, paused_by, automatic
FROM provider_pauses
WHERE until IS NULL OR until > now() OR automatic
ORDER BY provider;

-- name: is_over
-- Whether a moment is past on the database's clock.
SELECT %(moment)s::timestamptz <= now();

-- name: pause
-- A pause by somebody; it replaces whatever pause stands. With minutes to a trial it ends as a worker's own.
INSERT INTO provider_pauses AS pause (provider, until, reason, paused_by, automatic)
VALUES (
    %(provider)s,
    coalesce(%(until)s, now() + make_interval(secs => 60 * %(trial_minutes)s)),
    %(reason)s,
    %(actor)s,
    %(trial_minutes)s::float8 IS NOT NULL
)
ON CONFLICT (provider) DO UPDATE
SET paused_at = now(),
    until = EXCLUDED.until,
    reason = EXCLUDED.reason,
    error_class = NULL,
    paused_by = EXCLUDED.paused_by,
    automatic = EXCLUDED.automatic,
    times = 1,
    trial_job_id = NULL,
    trial_until = NULL;

-- name: resume
-- Ends a pause, whoever made it.
DELETE FROM provider_pauses
WHERE provider = %(provider)s;

-- name: jobs_put_off
-- Jobs that a provider's own fault put off to a later time become due.
UPDATE content_jobs
SET run_at = NULL,
    updated_at = now()
WHERE job_id = ANY (ARRAY(
    SELECT job_id
    FROM content_jobs
    WHERE status = 'pending' AND run_at IS NOT NULL AND error_class = ANY (%(error_classes)s)
    FOR UPDATE SKIP LOCKED
));

-- name: provider_states
-- Limits, jobs in flight at the provider's stage, and today's usage (UTC).
SELECT
    limits.provider,
    limits.requests_per_minute,
    limits.burst_requests,
    limits.concurrency,
    limits.daily_tokens,
    limits.daily_cost_usd,
    (
        SELECT count(*)
        FROM content_jobs
        WHERE status = 'processing'
            AND stage = CASE limits.provider WHEN 'openai' THEN 'write' ELSE 'publish' END
    ) AS in_flight,
    coalesce(used.requests, 0) AS requests_today,
    coalesce(used.prompt_tokens + used.completion_tokens, 0) AS tokens_today,
    coalesce(used.cost_usd, 0) AS cost_usd_today
FROM provider_limits AS limits
LEFT JOIN provider_usage AS used
    ON used.provider = limits.provider AND used.usage_date = (now() AT TIME ZONE 'UTC')::date
ORDER BY limits.provider;

-- name: lock_limits_row
-- The limits of a provider, locked.
SELECT requests_per_minute, burst_requests, concurrency, daily_tokens, daily_cost_usd
FROM provider_limits
WHERE provider = %(provider)s
FOR UPDATE;

-- name: set_limits
-- Sets all limits of a provider; a new rate starts with a fresh bucket.
UPDATE provider_limits
SET bucket_requests = CASE
        WHEN requests_per_minute IS DISTINCT FROM %(requests_per_minute)s
            OR burst_requests IS DISTINCT FROM %(burst_requests)s THEN NULL
        ELSE bucket_requests
    END,
    bucket_filled_at = CASE
        WHEN requests_per_minute IS DISTINCT FROM %(requests_per_minute)s
            OR burst_requests IS DISTINCT FROM %(burst_requests)s THEN NULL
        ELSE bucket_filled_at
    END,
    requests_per_minute = %(requests_per_minute)s,
    burst_requests = %(burst_requests)s,
    concurrency = %(concurrency)s,
    daily_tokens = %(daily_tokens)s,
    daily_cost_usd = %(daily_cost_usd)s,
    updated_at = now(),
    updated_by = %(actor)s
WHERE provider = %(provider)s;

-- name: end_cap_pause
-- A pause because of a daily cap ends when the caps that stand now are not met.
DELETE FROM provider_pauses AS pause
USING provider_limits AS limits
LEFT JOIN provider_usage AS used
    ON used.provider = limits.provider AND used.usage_date = (now() AT TIME ZONE 'UTC')::date
WHERE pause.provider = %(provider)s
    AND limits.provider = pause.provider
    AND pause.error_class = 'daily_cap_reached'
    AND coalesce(coalesce(used.cost_usd, 0) < limits.daily_cost_usd, true)
    AND coalesce(coalesce(used.prompt_tokens + used.completion_tokens, 0) < limits.daily_tokens, true);

-- name: list_workers
-- Workers by their last sign of life; ages and times in seconds.
SELECT
    worker, host, pid, version, concurrency, prefetch, in_flight, finished_count, failed_count,
    CASE
        WHEN stopped_at IS NOT NULL THEN 'stopped'
        WHEN heartbeat_at < now() - interval '30 seconds' THEN 'silent'
        WHEN drain_requested_at IS NOT NULL THEN 'draining'
        ELSE 'running'
    END AS state,
    extract(epoch FROM now() - heartbeat_at)::float8 AS heartbeat_age_seconds,
    extract(epoch FROM now() - progress_at)::float8 AS progress_age_seconds,
    clock_offset_seconds, started_at, stopped_at, drain_requested_at, drain_requested_by
FROM workers
ORDER BY stopped_at IS NOT NULL, heartbeat_at DESC
LIMIT %(row_count)s;

-- name: running_workers
-- Running workers whose name begins so.
SELECT worker
FROM workers
WHERE stopped_at IS NULL AND starts_with(worker, %(name)s)
ORDER BY worker;

-- name: drain_worker
-- Asks a worker to finish what it has and to end.
UPDATE workers
SET drain_requested_at = coalesce(drain_requested_at, now()),
    drain_requested_by = coalesce(drain_requested_by, %(actor)s)
WHERE worker = %(worker)s
RETURNING worker, in_flight, drain_requested_at, drain_requested_by;

-- name: keep_worker
-- Takes back that a worker was asked to drain; one that still has jobs in hand goes on.
UPDATE workers
SET drain_requested_at = NULL,
    drain_requested_by = NULL
WHERE worker = %(worker)s AND stopped_at IS NULL;
