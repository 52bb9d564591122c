-- What an incident did to jobs, posts and the bill. Windows are half open: from `since` until `until`.

-- name: attempts
-- Attempts that ended, jobs that failed at least once and what became of them, tokens and cost.
WITH window_runs AS (
    SELECT job_key, status, tokens, cost_usd
    FROM runs
    WHERE execution_time >= %(since)s AND execution_time < %(until)s
    AND status <> 'released' AND error_class IS DISTINCT FROM 'cancelled'
), failed AS (
    SELECT DISTINCT job_key
    FROM window_runs
    WHERE status IN ('error', 'lost')
), outcomes AS (
    SELECT
        count(*) AS failed_jobs,
        count(*) FILTER (WHERE status = 'completed') AS recovered_jobs,
        count(*) FILTER (WHERE status IN ('pending', 'processing')) AS waiting_jobs,
        count(*) FILTER (WHERE status = 'error') AS given_up_jobs
    FROM failed
    JOIN jobs USING (job_key)
)
SELECT
    count(job_key) AS attempts, count(*) FILTER (WHERE status IN ('error', 'lost')) AS failed_attempts,
    max(failed_jobs) AS failed_jobs, max(recovered_jobs) AS recovered_jobs, max(waiting_jobs) AS waiting_jobs,
    max(given_up_jobs) AS given_up_jobs, sum(tokens) AS tokens, sum(cost_usd) AS cost_usd,
    sum(cost_usd) FILTER (WHERE status IN ('error', 'lost')) AS failed_cost_usd
FROM outcomes
LEFT JOIN window_runs ON true;

-- name: causes
-- What attempts failed of, the most frequent first.
SELECT
    coalesce(error_class, 'not classed') AS error_class, provider, count(*) AS attempts,
    count(DISTINCT job_key) AS jobs, min(execution_time) AS first_at, max(execution_time) AS last_at
FROM runs
WHERE execution_time >= %(since)s AND execution_time < %(until)s
AND status IN ('error', 'lost') AND error_class IS DISTINCT FROM 'cancelled'
GROUP BY 1, 2
ORDER BY attempts DESC, error_class
LIMIT 10;

-- name: late_jobs
-- Jobs that were published in the window, or wait at its end, longer after they were made than allowed.
SELECT count(*) AS late_jobs, max(extract(epoch FROM coalesce(completed_at, %(until)s) - created_at)) AS longest_seconds
FROM jobs
WHERE created_at < %(until)s
AND (
    (status = 'completed' AND completed_at >= %(since)s AND completed_at < %(until)s)
    OR status IN ('pending', 'processing')
)
AND coalesce(completed_at, %(until)s) - created_at > make_interval(secs => %(late_seconds)s);

-- name: doubled_posts
-- Posts beyond the first on the same topic, where at least one of them was published in the window.
SELECT coalesce(sum(posts - 1), 0) AS doubled_posts
FROM (
    SELECT count(*) AS posts
    FROM jobs
    WHERE status = 'completed' AND coalesce(post_status, 'publish') = 'publish'
    AND completed_at >= %(since)s - interval '30 days' AND completed_at < %(until)s
    GROUP BY lower(btrim(topic))
    HAVING count(*) > 1 AND bool_or(completed_at >= %(since)s)
) AS topics;

-- name: posts_taken_back
-- Posts that were unpublished or trashed by a change since it began: what went out wrong, as far as it was found.
SELECT count(*) AS wrong_posts
FROM change_rows
JOIN changes USING (change_id)
WHERE kind IN ('posts.unpublish', 'posts.trash') AND outcome = 'changed' AND acted_at >= %(since)s;

-- name: requests_of_vendor
-- Attempts that failed at one provider, with what its support asks for; the newest first.
SELECT
    execution_time, started_at, completed_at, job_id, attempt, stage, status, http_status, provider_code,
    request_id, error_class, model, error
FROM runs
WHERE execution_time >= %(since)s AND execution_time < %(until)s
AND status IN ('error', 'lost') AND provider = %(provider)s
ORDER BY execution_time DESC
LIMIT %(limit)s;

-- name: requests_of_database
-- Attempts that failed at the database, likewise.
SELECT
    execution_time, started_at, completed_at, job_id, attempt, stage, status, NULL::integer AS http_status,
    sqlstate AS provider_code, constraint_name AS request_id, error_class, NULL::text AS model, error
FROM runs
WHERE execution_time >= %(since)s AND execution_time < %(until)s
AND status IN ('error', 'lost') AND sqlstate IS NOT NULL
ORDER BY execution_time DESC
LIMIT %(limit)s;

-- name: attempts_of_vendor
-- How many attempts there were meanwhile, and how many of them succeeded.
SELECT count(*) AS attempts, count(*) FILTER (WHERE status = 'completed') AS completed
FROM runs
WHERE execution_time >= %(since)s AND execution_time < %(until)s AND status <> 'released';
