-- Jobs that were created twice, and what became of them.

-- name: jobs_with_one_topic
-- Topics of which there is more than one job in these days, whatever their case and spaces; `at_once` counts those
-- that came within `within_seconds` after another one, as a sender that tries again makes them.
SELECT
    min(topic) AS topic, count(*) AS jobs, count(*) FILTER (WHERE gap <= make_interval(secs => %(within_seconds)s)) AS at_once,
    count(*) FILTER (WHERE status = 'pending') AS pending, count(*) FILTER (WHERE status = 'completed') AS completed,
    count(*) FILTER (WHERE idempotency_key IS NULL) AS without_key,
    string_agg(DISTINCT coalesce(source, created_by, 'unknown'), ', ') AS producers,
    min(created_at) AS first_at, max(created_at) AS last_at,
    (array_agg(job_id ORDER BY created_at))[1] AS first_job,
    (array_agg(job_id ORDER BY created_at) FILTER (WHERE status = 'pending' AND gap IS NOT NULL))[1:5] AS later_pending
FROM (
    SELECT job_id, left(topic, 200) AS topic, status, source, created_by, idempotency_key, created_at, same,
        created_at - lag(created_at) OVER (PARTITION BY same ORDER BY created_at, job_id) AS gap
    FROM (
        SELECT *, lower(btrim(regexp_replace(left(topic, 1000), '\s+', ' ', 'g'))) AS same
        FROM jobs
        WHERE created_at >= %(since)s AND created_at < %(until)s
    ) AS written
) AS found
GROUP BY same
HAVING count(*) > 1
ORDER BY at_once DESC, jobs DESC, first_at
LIMIT %(row_count)s;

-- name: jobs_with_one_key
-- Idempotency keys that more than one job carries; where the column is unique there is none.
SELECT idempotency_key AS key, count(*) AS jobs, min(created_at) AS first_at, max(created_at) AS last_at,
    (array_agg(job_id ORDER BY created_at))[1:5] AS some_jobs
FROM jobs
WHERE idempotency_key IS NOT NULL AND created_at >= %(since)s AND created_at < %(until)s
GROUP BY idempotency_key
HAVING count(*) > 1
ORDER BY jobs DESC, key
LIMIT %(row_count)s;

-- name: jobs_of_days
-- How many jobs were created, how many of them carry a key, and how many were refused as too alike.
SELECT count(*) AS jobs, count(idempotency_key) AS with_key,
    count(*) FILTER (WHERE status = 'error' AND error_class = 'content_too_alike') AS refused_as_alike
FROM jobs
WHERE created_at >= %(since)s AND created_at < %(until)s;
