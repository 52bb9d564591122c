-- name: one_snapshot
-- Lets all statements of the transaction see the same moment, so that the tables add up.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;

-- name: window
-- The days that are reviewed, and the moments at which they begin and end in the time zone. Without a
-- last day, or with one in the future, the last day is today.
SELECT
    first_day, last_day, today, now() AS taken_at,
    first_day::timestamp AT TIME ZONE %(time_zone)s AS since,
    (last_day + 1)::timestamp AT TIME ZONE %(time_zone)s AS until
FROM (SELECT (now() AT TIME ZONE %(time_zone)s)::date AS today) AS clock
CROSS JOIN LATERAL (SELECT least(coalesce(%(last_day)s::date, today), today) AS last_day) AS last
CROSS JOIN LATERAL (SELECT last_day - (%(days)s::integer - 1) AS first_day) AS first;

-- name: attempts_by_outcome
-- Attempts and jobs by outcome. `left_out` was ended by a person or by protection, `released` was handed
-- back by a stopped worker: neither is in the rates.
SELECT
    CASE WHEN status = 'error' AND error_class = ANY(%(left_out)s) THEN 'left_out' ELSE status END AS outcome,
    count(*) AS attempts,
    count(DISTINCT job_key) AS jobs
FROM runs
WHERE execution_time >= %(since)s
AND execution_time < %(until)s
GROUP BY 1
ORDER BY 2 DESC, 1;

-- name: attempts_by_day
-- One row for each day in the time zone, also for days without any attempt.
SELECT
    day::date AS day,
    coalesce(completed, 0) AS completed,
    coalesce(error, 0) AS error,
    coalesce(lost, 0) AS lost,
    coalesce(released, 0) AS released,
    coalesce(left_out, 0) AS left_out
FROM generate_series(%(first_day)s::date::timestamp, %(last_day)s::date::timestamp, interval '1 day') AS day
LEFT JOIN (
    SELECT
        (execution_time AT TIME ZONE %(time_zone)s)::date AS day,
        count(*) FILTER (WHERE status = 'completed') AS completed,
        count(*) FILTER (WHERE status = 'error' AND NOT coalesce(error_class = ANY(%(left_out)s), false)) AS error,
        count(*) FILTER (WHERE status = 'lost') AS lost,
        count(*) FILTER (WHERE status = 'released') AS released,
        count(*) FILTER (WHERE status = 'error' AND error_class = ANY(%(left_out)s)) AS left_out
    FROM runs
    WHERE execution_time >= %(since)s
    AND execution_time < %(until)s
    GROUP BY 1
) AS attempts USING (day)
ORDER BY day;

-- name: jobs_now
-- The jobs that had an attempt in these days, by what they are now.
SELECT jobs.status, count(*) AS jobs
FROM (
    SELECT DISTINCT job_key
    FROM runs
    WHERE execution_time >= %(since)s
    AND execution_time < %(until)s
) AS attempted
JOIN jobs USING (job_key)
GROUP BY 1
ORDER BY 2 DESC, 1;

-- name: durations
-- How long attempts that completed took, by stage: inside calls to OpenAI, inside calls to WordPress, the
-- rest of it, which is our own, and as a whole. An attempt that only published has no time of writing.
SELECT
    measured.stage, count(*) AS attempts, avg(seconds)::double precision AS average_seconds,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS p50_seconds,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) AS p95_seconds,
    percentile_cont(0.99) WITHIN GROUP (ORDER BY seconds) AS p99_seconds,
    max(seconds) AS longest_seconds
FROM runs
CROSS JOIN LATERAL (VALUES
    (1, 'writing', write_seconds),
    (2, 'publishing', publish_seconds),
    (3, 'own', greatest(0, extract(epoch FROM completed_at - started_at)::double precision - coalesce(write_seconds, 0) - coalesce(publish_seconds, 0))),
    (4, 'whole', extract(epoch FROM completed_at - started_at)::double precision)
) AS measured (position, stage, seconds)
WHERE execution_time >= %(since)s
AND execution_time < %(until)s
AND status = 'completed'
AND seconds IS NOT NULL
GROUP BY measured.position, measured.stage
ORDER BY measured.position;

-- name: failures_by_class
-- Attempts that did not complete, by class: how many, on how many jobs, and when last.
SELECT
    coalesce(error_class, 'unclassed') AS error_class,
    count(*) AS attempts,
    count(DISTINCT job_key) AS jobs,
    max(execution_time) AS last_seen
FROM runs
WHERE execution_time >= %(since)s
AND execution_time < %(until)s
AND status IN ('error', 'lost')
GROUP BY 1
ORDER BY 2 DESC, 1;

-- name: cost
-- Tokens and cost of all attempts, the failed ones too, by model. Attempts whose model has no known price
-- are counted beside the sum, which is then a lower bound.
SELECT
    coalesce(model, 'unknown') AS model,
    count(*) AS calls,
    coalesce(sum(prompt_tokens), 0) AS prompt_tokens,
    coalesce(sum(completion_tokens), 0) AS completion_tokens,
    coalesce(sum(tokens), 0) AS tokens,
    coalesce(sum(cost_usd), 0) AS cost_usd,
    count(*) FILTER (WHERE cost_usd IS NULL) AS calls_without_price
FROM runs
WHERE execution_time >= %(since)s
AND execution_time < %(until)s
AND tokens > 0
GROUP BY 1
ORDER BY 5 DESC, 1;

-- name: completed_jobs
-- Jobs that completed in these days.
SELECT count(DISTINCT job_key)
FROM runs
WHERE execution_time >= %(since)s
AND execution_time < %(until)s
AND status = 'completed';
