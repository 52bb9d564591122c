-- The queue and its workers. `jobs` is ours, or that of a pipeline that is not ours.

-- name: queue
-- Jobs by what they wait for, and since when the oldest that is due waits. Each count has an index of
-- its own in our schema; a job whose time came counts from then on.
SELECT
    (SELECT count(*) FROM jobs WHERE status = 'pending' AND run_at IS NULL) AS due,
    (SELECT count(*) FROM jobs WHERE status = 'pending' AND run_at IS NOT NULL) AS deferred,
    (SELECT count(*) FROM jobs WHERE status = 'processing') AS processing,
    (SELECT count(*) FROM jobs WHERE status = 'error') AS error,
    extract(epoch FROM now() - (
        SELECT min(coalesce(updated_at, created_at)) FROM jobs WHERE status = 'pending' AND run_at IS NULL
    ))::double precision AS oldest_due_seconds,
    extract(epoch FROM now() - (
        SELECT min(run_at) FROM jobs WHERE status = 'pending' AND run_at IS NOT NULL
    ))::double precision AS longest_overdue_seconds;

-- name: expired_leases
-- Jobs in processing, those whose lease ran out, and since when the longest did.
SELECT count(*) AS processing,
    count(*) FILTER (WHERE lease_until < now()) AS expired,
    extract(epoch FROM now() - min(lease_until))::double precision AS expired_for_seconds
FROM jobs
WHERE status = 'processing';

-- name: long_in_processing
-- Jobs in processing, and those that were begun before a time: where there are no leases, they may be stuck.
SELECT count(*) AS processing,
    count(*) FILTER (WHERE started_at < now() - make_interval(secs => %(seconds)s)) AS old,
    count(*) FILTER (WHERE started_at IS NULL) AS without_start,
    extract(epoch FROM now() - min(started_at))::double precision AS oldest_seconds
FROM jobs
WHERE status = 'processing';

-- name: workers
-- Workers that did not say that they stopped and were heard of within a day: ages in seconds.
SELECT worker, host, pid, version, settings_digest, concurrency + prefetch AS capacity, in_flight,
    clock_offset_seconds,
    extract(epoch FROM now() - heartbeat_at)::double precision AS silent_seconds,
    extract(epoch FROM now() - greatest(progress_at, started_at))::double precision AS without_progress_seconds
FROM workers
WHERE stopped_at IS NULL AND heartbeat_at > now() - interval '1 day'
ORDER BY heartbeat_at DESC;

-- name: credentials_in_use
-- By which handles running workers know each credential, and how many know it so. `settled`: the newest has
-- been in use for a minute, so that a rotation under way is not taken for workers that differ.
SELECT entry.name, entry.used ->> 'handle' AS handle, count(*) AS workers,
    (array_agg(workers.worker ORDER BY workers.worker))[1:3] AS some,
    coalesce((SELECT max(first_seen_at) < now() - interval '1 minute' FROM credential_handles AS known WHERE known.name = entry.name), true) AS settled
FROM workers CROSS JOIN jsonb_each(workers.credentials) AS entry (name, used)
WHERE workers.stopped_at IS NULL AND workers.heartbeat_at > now() - make_interval(secs => %(silent_seconds)s)
GROUP BY entry.name, entry.used ->> 'handle'
ORDER BY entry.name, workers DESC, handle;

-- name: pauses
-- Pauses that stand, and for how long they have.
SELECT provider, reason, error_class, automatic, paused_by, paused_at, until,
    extract(epoch FROM now() - paused_at)::double precision AS seconds
FROM provider_pauses
WHERE until IS NULL OR until > now() OR automatic
ORDER BY paused_at;

-- name: in_flight_by_provider
-- Jobs in processing at each provider's stage, and how many may be.
SELECT limits.provider, limits.concurrency AS most,
    (
        SELECT count(*)
        FROM content_jobs
        WHERE status = 'processing'
            AND stage = CASE limits.provider WHEN 'openai' THEN 'write' ELSE 'publish' END
    ) AS in_flight
FROM provider_limits AS limits
ORDER BY limits.provider;

-- name: spent_today
-- What was spent today (UTC), and what may be.
SELECT limits.provider, limits.daily_cost_usd, limits.daily_tokens,
    coalesce(used.cost_usd, 0) AS cost_usd,
    coalesce(used.prompt_tokens + used.completion_tokens, 0) AS tokens
FROM provider_limits AS limits
LEFT JOIN provider_usage AS used
    ON used.provider = limits.provider AND used.usage_date = (now() AT TIME ZONE 'UTC')::date
ORDER BY limits.provider;
