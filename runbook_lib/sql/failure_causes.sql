-- What fails in the last hours, since when, and where: of `jobs` and `runs`, ours or any pipeline's.

-- name: window
-- The hours that are looked at, up to now by the database's clock.
SELECT now() - make_interval(hours => %(hours)s::integer) AS since, now() AS until;

-- name: outcomes
-- Attempts and distinct jobs of the window by outcome; `left_out` was ended by a person or by protection.
SELECT
    CASE WHEN status = 'error' AND error_class = ANY(%(left_out)s) THEN 'left_out' ELSE status END AS outcome,
    count(*) AS attempts,
    count(DISTINCT job_key) AS jobs,
    max(execution_time) AS last_at
FROM runs
WHERE execution_time >= %(since)s AND execution_time < %(until)s
GROUP BY 1;

-- name: jobs_ended
-- Jobs of the window that ended, by how: the rate of jobs, where one that was tried five times counts once.
SELECT
    count(*) FILTER (WHERE jobs.status = 'completed') AS completed,
    count(*) FILTER (WHERE jobs.status = 'error' AND NOT coalesce(jobs.error_class = ANY(%(left_out)s), false)) AS failed
FROM (
    SELECT DISTINCT job_key
    FROM runs
    WHERE execution_time >= %(since)s AND execution_time < %(until)s
) AS attempted
JOIN jobs USING (job_key);

-- name: causes
-- Failed attempts by class, or by text where a pipeline stores no classes: how many, on how many jobs, since
-- when, and the newest text.
SELECT
    error_class,
    CASE WHEN error_class IS NULL THEN left(error, 300) END AS text,
    count(*) AS attempts,
    count(DISTINCT job_key) AS jobs,
    min(execution_time) AS first_seen,
    max(execution_time) AS last_seen,
    (array_agg(left(error, 300) ORDER BY execution_time DESC))[1] AS sample
FROM runs
WHERE execution_time >= %(since)s AND execution_time < %(until)s
    AND status IN ('error', 'lost')
    AND NOT (status = 'error' AND coalesce(error_class = ANY(%(left_out)s), false))
GROUP BY 1, 2
ORDER BY attempts DESC, 1, 2
LIMIT %(row_count)s;

-- name: places
-- Failed of counted attempts by stage, model, category and worker, to see whether one of them stands out.
SELECT
    CASE
        WHEN grouping(stage) = 0 THEN 'stage'
        WHEN grouping(model) = 0 THEN 'model'
        WHEN grouping(category) = 0 THEN 'category'
        ELSE 'worker'
    END AS by_what,
    coalesce(
        CASE
            WHEN grouping(stage) = 0 THEN stage
            WHEN grouping(model) = 0 THEN model
            WHEN grouping(category) = 0 THEN category
            ELSE worker
        END,
        'not known'
    ) AS which,
    count(*) FILTER (WHERE status <> 'completed') AS failed,
    count(*) AS attempts
FROM runs
WHERE execution_time >= %(since)s AND execution_time < %(until)s
    AND status IN ('completed', 'error', 'lost')
    AND NOT (status = 'error' AND coalesce(error_class = ANY(%(left_out)s), false))
GROUP BY GROUPING SETS ((stage), (model), (category), (worker))
ORDER BY 1, failed DESC, attempts DESC, 2
LIMIT %(row_count)s;

-- name: hours
-- One row an hour of UTC, also for hours without any attempt.
SELECT
    hour,
    coalesce(completed, 0) AS completed,
    coalesce(error, 0) AS error,
    coalesce(lost, 0) AS lost,
    coalesce(released, 0) AS released,
    coalesce(left_out, 0) AS left_out
FROM generate_series(
    date_trunc('hour', %(since)s::timestamptz, 'UTC'), date_trunc('hour', %(until)s::timestamptz, 'UTC'), interval '1 hour'
) AS hour
LEFT JOIN (
    SELECT
        date_trunc('hour', execution_time, 'UTC') AS hour,
        count(*) FILTER (WHERE status = 'completed') AS completed,
        count(*) FILTER (WHERE status = 'error' AND NOT coalesce(error_class = ANY(%(left_out)s), false)) AS error,
        count(*) FILTER (WHERE status = 'lost') AS lost,
        count(*) FILTER (WHERE status = 'released') AS released,
        count(*) FILTER (WHERE status = 'error' AND error_class = ANY(%(left_out)s)) AS left_out
    FROM runs
    WHERE execution_time >= %(since)s AND execution_time < %(until)s
    GROUP BY 1
) AS attempts USING (hour)
ORDER BY hour;

-- name: failed_jobs
-- Jobs that stand in error now, by class: those that can be retried.
SELECT
    coalesce(error_class, 'unclassed') AS error_class,
    count(*) AS jobs,
    count(*) FILTER (WHERE stage = 'publish') AS written,
    min(coalesce(updated_at, completed_at, created_at)) AS oldest,
    max(coalesce(updated_at, completed_at, created_at)) AS newest
FROM jobs
WHERE status = 'error'
GROUP BY 1
ORDER BY 2 DESC, 1
LIMIT %(row_count)s;

-- name: since_then
-- What happened in the last minutes: attempts that failed of one class, those that completed, and all others
-- that failed. No class: all failures.
SELECT
    count(*) FILTER (WHERE failed AND (%(error_class)s::text IS NULL OR error_class = %(error_class)s)) AS failed,
    count(*) FILTER (WHERE NOT failed) AS completed
FROM (
    SELECT status <> 'completed' AS failed, error_class
    FROM runs
    WHERE execution_time >= now() - make_interval(mins => %(minutes)s::integer)
        AND status IN ('completed', 'error', 'lost')
) AS lately;
