-- What a worker reads and writes each turn about its providers: pauses, limits, usage, itself.

-- name: read_brakes
-- Pauses, limits and today's usage of each provider, and whether this worker was asked to drain.
SELECT
    limits.provider,
    limits.requests_per_minute,
    limits.burst_requests,
    limits.concurrency,
    limits.daily_tokens,
    limits.daily_cost_usd,
    pause.provider IS NOT NULL AS pause_stands,
    pause.automatic,
    pause.until,
    pause.error_class AS pause_class,
    coalesce(pause.until <= now(), false) AS pause_time_is_over,
    extract(epoch FROM pause.until - now())::float8 AS pause_left_seconds,
    coalesce(pause.trial_until > now(), false) AS trial_runs,
    coalesce(used.prompt_tokens + used.completion_tokens, 0) AS tokens_today,
    coalesce(used.cost_usd, 0) AS cost_usd_today,
    (SELECT drain_requested_at IS NOT NULL FROM workers WHERE worker = %(worker)s) AS drain
FROM provider_limits AS limits
LEFT JOIN provider_pauses AS pause USING (provider)
LEFT JOIN provider_usage AS used
    ON used.provider = limits.provider AND used.usage_date = (now() AT TIME ZONE 'UTC')::date;

-- name: lock_limits
-- Locks the limits of providers that have some, so that workers count one after another; refills the
-- token bucket by the time since it was last filled.
SELECT
    provider,
    least(
        coalesce(burst_requests, greatest(1, requests_per_minute / 10)),
        coalesce(bucket_requests, coalesce(burst_requests, greatest(1, requests_per_minute / 10)))
            -- A bucket that was never filled gains nothing: two readings of the clock would differ by a microsecond.
            + coalesce(greatest(extract(epoch FROM clock_timestamp() - bucket_filled_at), 0) * requests_per_minute / 60.0, 0)
    )::float8 AS bucket_requests
FROM provider_limits
WHERE provider = ANY (%(providers)s)
ORDER BY provider
FOR UPDATE;

-- name: save_bucket
-- Writes the token bucket back after requests were taken from it.
UPDATE provider_limits
SET bucket_requests = %(bucket_requests)s,
    bucket_filled_at = clock_timestamp()
WHERE provider = %(provider)s;

-- name: count_in_flight
-- Jobs in processing by stage, for limits on concurrency across all workers.
SELECT stage, count(*) AS jobs
FROM content_jobs
WHERE status = 'processing'
GROUP BY stage;

-- name: lock_trial
-- Takes the one trial after an automatic pause, if nobody else runs it.
SELECT provider
FROM provider_pauses
WHERE provider = %(provider)s AND automatic AND until <= now() AND (trial_until IS NULL OR trial_until <= now())
FOR UPDATE SKIP LOCKED;

-- name: start_trial
-- Notes which job tries the provider first after an automatic pause.
UPDATE provider_pauses
SET trial_job_id = %(job_id)s::uuid,
    trial_until = now() + make_interval(secs => %(trial_seconds)s)
WHERE provider = %(provider)s AND automatic;

-- name: end_trial
-- A trial that was handed back without an answer lets the next job try.
UPDATE provider_pauses
SET trial_job_id = NULL,
    trial_until = NULL
WHERE provider = %(provider)s AND trial_job_id = %(job_id)s::uuid;

-- name: pause_provider
-- Pauses a provider after its own fault. A pause by a person stands as it is; an automatic one that
-- came to its trial is prolonged, each time twice as long.
INSERT INTO provider_pauses AS pause (provider, until, reason, error_class, paused_by, automatic)
VALUES (
    %(provider)s,
    now() + make_interval(secs => %(seconds)s),
    %(reason)s,
    %(error_class)s,
    %(worker)s,
    true
)
ON CONFLICT (provider) DO UPDATE
SET until = greatest(
        pause.until,
        now() + make_interval(secs => least(%(maximum_seconds)s, %(seconds)s * power(2, least(pause.times, 20))))
    ),
    times = pause.times + 1,
    reason = EXCLUDED.reason,
    error_class = EXCLUDED.error_class,
    trial_job_id = NULL,
    trial_until = NULL
WHERE pause.automatic AND pause.until <= now()
RETURNING provider, times, until;

-- name: end_automatic_pause
-- A success ends an automatic pause whose time is over.
DELETE FROM provider_pauses
WHERE provider = %(provider)s AND automatic AND until <= now()
RETURNING provider, reason;

-- name: end_expired_pauses
-- Pauses by people end at the time that they named; so does the daily cap's, at midnight UTC.
DELETE FROM provider_pauses
WHERE until <= now() AND (NOT automatic OR error_class = 'daily_cap_reached')
RETURNING provider, reason;

-- name: pause_until_tomorrow
-- The daily cap is met: nothing more is spent until midnight UTC. Returns a row to the one who paused.
INSERT INTO provider_pauses (provider, until, reason, error_class, paused_by, automatic)
VALUES (
    %(provider)s,
    (date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day') AT TIME ZONE 'UTC',
    %(reason)s,
    'daily_cap_reached',
    %(worker)s,
    true
)
ON CONFLICT (provider) DO NOTHING
RETURNING provider;

-- name: add_usage
-- Adds what was used to the day's account (UTC).
INSERT INTO provider_usage AS used (provider, usage_date, requests, prompt_tokens, completion_tokens, cost_usd)
VALUES (
    %(provider)s, (now() AT TIME ZONE 'UTC')::date, %(requests)s, %(prompt_tokens)s, %(completion_tokens)s, %(cost_usd)s
)
ON CONFLICT (provider, usage_date) DO UPDATE
SET requests = used.requests + EXCLUDED.requests,
    prompt_tokens = used.prompt_tokens + EXCLUDED.prompt_tokens,
    completion_tokens = used.completion_tokens + EXCLUDED.completion_tokens,
    cost_usd = used.cost_usd + EXCLUDED.cost_usd;

-- name: add_event
-- Something that `health` delivers or a person reads.
INSERT INTO events (kind, level, message, worker, job_id, provider, details)
VALUES (%(kind)s, %(level)s, %(message)s, %(worker)s, %(job_id)s::uuid, %(provider)s, %(details)s::jsonb);

-- name: beat
-- The worker's sign of life. `progress_at` moves only when an attempt ended or came a step further.
INSERT INTO workers AS worker (
    worker, host, pid, version, concurrency, prefetch, settings_digest, heartbeat_at, progress_at, in_flight,
    finished_count, failed_count, credentials, clock_offset_seconds
)
VALUES (
    %(worker)s, %(host)s, %(pid)s, %(version)s, %(concurrency)s, %(prefetch)s, %(settings_digest)s, now(), now(),
    %(in_flight)s, %(finished_count)s, %(failed_count)s, %(credentials)s::jsonb,
    %(unix_seconds)s - extract(epoch FROM clock_timestamp())::float8
)
ON CONFLICT (worker) DO UPDATE
SET heartbeat_at = now(),
    progress_at = CASE WHEN %(progressed)s THEN now() ELSE worker.progress_at END,
    in_flight = EXCLUDED.in_flight,
    finished_count = EXCLUDED.finished_count,
    failed_count = EXCLUDED.failed_count,
    credentials = EXCLUDED.credentials,
    clock_offset_seconds = EXCLUDED.clock_offset_seconds,
    stopped_at = CASE WHEN %(stopped)s THEN now() END;

-- name: note_handle
-- Since when a credential of this handle has been in use; locks nothing when it is known already.
INSERT INTO credential_handles (name, handle)
SELECT %(name)s, %(handle)s
WHERE NOT EXISTS (SELECT FROM credential_handles WHERE name = %(name)s AND handle = %(handle)s)
ON CONFLICT (name, handle) DO NOTHING;

-- name: make_partitions
-- Weekly partitions of job_runs, made ahead.
SELECT make_job_runs_partitions(4);

-- name: drop_repeated_run_marks
-- One mark an hour is enough for the rollup, where nobody refreshes it.
SELECT drop_repeated_run_marks();
