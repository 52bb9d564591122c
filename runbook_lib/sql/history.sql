-- What the history says, read from the rollup: periods follow each other and are given as the moments at
-- which they begin and the one at which the last one ends; `minutes` is the width of their slots.

-- name: attempts_by_period
-- Attempts by outcome and ended jobs, of each period that had any.
SELECT
    width_bucket(begins, %(begins)s::timestamptz[]) AS position,
    sum(completed)::bigint AS completed,
    sum(error)::bigint AS error,
    sum(lost)::bigint AS lost,
    sum(released)::bigint AS released,
    sum(left_out)::bigint AS left_out,
    sum(jobs_completed)::bigint AS jobs_completed,
    sum(jobs_failed)::bigint AS jobs_failed,
    max(last_completed_at) AS last_completed_at
FROM run_slots
WHERE minutes = %(minutes)s AND begins >= %(since)s AND begins < %(until)s
GROUP BY 1;

-- name: durations_by_period
-- Durations of each period by stage or model, on the logarithmic scale: counts of the same bucket add up.
WITH slot AS MATERIALIZED (
    SELECT
        width_bucket(begins, %(begins)s::timestamptz[]) AS position,
        CASE %(by)s WHEN 'model' THEN model ELSE stage END AS name,
        attempts, seconds, longest, buckets, counts
    FROM run_slot_durations
    WHERE minutes = %(minutes)s AND begins >= %(since)s AND begins < %(until)s
        AND stage = ANY (%(stages)s) AND completed = ANY (%(completed)s)
), total AS (
    SELECT position, name, sum(attempts)::bigint AS attempts, sum(seconds) AS seconds, max(longest)::double precision AS longest
    FROM slot
    GROUP BY 1, 2
), bucket AS (
    SELECT position, name, bucket, sum(count)::bigint AS count
    FROM slot
    CROSS JOIN LATERAL unnest(buckets, counts) AS held (bucket, count)
    GROUP BY 1, 2, 3
), scale AS (
    SELECT position, name, array_agg(bucket ORDER BY bucket) AS buckets, array_agg(count ORDER BY bucket) AS counts
    FROM bucket
    GROUP BY 1, 2
)
SELECT position, name, attempts, seconds, longest, buckets, counts
FROM total
JOIN scale USING (position, name)
ORDER BY position, name;

-- name: failures
-- Attempts that failed in whole hours, by class and cause, the most frequent first; the hashes of their
-- jobs, to count distinct ones.
WITH cause AS (
    SELECT
        error_class, fingerprint,
        sum(attempts)::bigint AS attempts,
        min(first_seen) AS first_seen,
        max(last_seen) AS last_seen
    FROM run_hour_failures
    WHERE begins >= %(since)s AND begins < %(until)s
    GROUP BY 1, 2
), job AS (
    SELECT error_class, fingerprint, array_agg(DISTINCT hash) AS hashes, max(cardinality(job_hashes)) AS longest
    FROM run_hour_failures
    CROSS JOIN LATERAL unnest(job_hashes) AS hash
    WHERE begins >= %(since)s AND begins < %(until)s
    GROUP BY 1, 2
)
SELECT
    error_class, fingerprint, attempts, first_seen, last_seen, sample_job, sample, longest,
    cardinality(hashes) AS hash_count,
    (ARRAY(SELECT hash FROM unnest(hashes) AS hash ORDER BY hash LIMIT 64))[64] AS sixty_fourth
FROM cause
JOIN job USING (error_class, fingerprint)
LEFT JOIN failure_samples USING (error_class, fingerprint)
ORDER BY attempts DESC, error_class, fingerprint;

-- name: cost_by_period
-- Calls, tokens and cost of each period by model, of all attempts, the failed ones too.
SELECT
    width_bucket(begins, %(begins)s::timestamptz[]) AS position, model,
    sum(calls)::bigint AS calls,
    sum(prompt_tokens)::bigint AS prompt_tokens,
    sum(completion_tokens)::bigint AS completion_tokens,
    sum(tokens)::bigint AS tokens,
    sum(cost_usd)::double precision AS cost_usd,
    sum(calls_without_price)::bigint AS calls_without_price
FROM run_slot_costs
WHERE minutes = %(minutes)s AND begins >= %(since)s AND begins < %(until)s
GROUP BY 1, 2
ORDER BY 1, 2;

-- name: stored_runs
-- How many runs there are, how many are older than a moment, and when the oldest and the newest ended, to
-- the hour.
SELECT
    coalesce(sum(attempts), 0)::bigint AS runs,
    coalesce(sum(attempts) FILTER (WHERE begins < %(before)s), 0)::bigint AS old_runs,
    min(begins) AS oldest, max(begins) AS newest
FROM (
    SELECT begins, completed + error + lost + released + left_out AS attempts
    FROM run_slots
    WHERE minutes = 60
) AS hours;

-- name: queue
-- What waits and what is being worked on: how many, since when the oldest, by state. `due` may be claimed
-- now, `deferred` later, `expired` lost its worker. Three questions, since each has an index of its own: one
-- for all of them would read every job that ever was.
SELECT state, count(*) AS jobs, min(since) AS oldest_at, extract(epoch FROM now() - min(since))::double precision AS oldest_seconds
FROM (
    SELECT 'due' AS state, created_at AS since
    FROM jobs
    WHERE status = 'pending' AND run_at IS NULL
    UNION ALL
    SELECT CASE WHEN run_at <= now() THEN 'due' ELSE 'deferred' END, greatest(run_at, created_at)
    FROM jobs
    WHERE status = 'pending' AND run_at IS NOT NULL
    UNION ALL
    SELECT CASE WHEN lease_until < now() THEN 'expired' ELSE 'processing' END, started_at
    FROM jobs
    WHERE status = 'processing'
) AS waiting
GROUP BY 1;

-- name: windows
-- Failed and counted attempts and jobs of the last so many minutes, for each of some lengths, to the
-- quarter of an hour.
SELECT
    length AS minutes,
    coalesce(sum(error + lost), 0)::integer AS failed,
    coalesce(sum(completed + error + lost), 0)::integer AS counted,
    coalesce(sum(jobs_failed), 0)::integer AS jobs_failed,
    coalesce(sum(jobs_completed + jobs_failed), 0)::integer AS jobs_ended
FROM unnest(%(lengths)s::integer[]) AS length
LEFT JOIN run_slots ON run_slots.minutes = 15
    AND begins >= date_bin('15 minutes', %(now)s - make_interval(mins => length), '2000-01-01 00:00+00')
GROUP BY 1
ORDER BY 1;

-- name: last_success
-- When an attempt completed last.
SELECT last_completed_at
FROM run_slots
WHERE run_slots.minutes = 60 AND completed > 0
ORDER BY begins DESC
LIMIT 1;

-- name: hours_with_last_attempts
-- Since which hour at least so many attempts ended, or the oldest hour there is.
SELECT min(begins) AS since
FROM (
    SELECT begins, sum(completed + error + lost) OVER (ORDER BY begins DESC) - (completed + error + lost) AS newer
    FROM run_slots
    WHERE run_slots.minutes = 60 AND completed + error + lost > 0
) AS hours
WHERE newer < %(count)s;

-- name: last_attempts
-- The newest attempts that count, the newest first.
SELECT job_id, status <> 'completed' AS failed, execution_time
FROM runs
WHERE execution_time >= %(since)s
    AND status IN ('completed', 'error', 'lost')
    AND NOT (status = 'error' AND coalesce(error_class = ANY (%(left_out)s), false))
ORDER BY execution_time DESC
LIMIT %(count)s;

-- name: usual
-- Counted and failed attempts by day and hour of a time zone, of hours that had any.
SELECT
    (begins AT TIME ZONE %(timezone)s)::date AS day,
    extract(hour FROM begins AT TIME ZONE %(timezone)s)::integer AS hour,
    sum(completed + error + lost)::integer AS counted,
    sum(error + lost)::integer AS failed
FROM run_slots
WHERE run_slots.minutes = 60
    AND begins >= %(since)s
    AND begins < %(until)s
    AND completed + error + lost > 0
GROUP BY 1, 2;
