-- Jobs of any pipeline as `jobs` and `runs` show them, one job or counts.

-- name: jobs_by_status
-- How many jobs there are of each status.
SELECT coalesce(status, 'unknown') AS status, count(*) AS jobs
FROM jobs
GROUP BY 1
ORDER BY 2 DESC, 1;

-- name: job
-- One job.
SELECT *
FROM jobs
WHERE job_key = %(job_id)s;

-- name: runs_of_job
-- The attempts of one job, the newest first.
SELECT *
FROM runs
WHERE job_key = %(job_id)s
ORDER BY execution_time DESC
LIMIT %(row_count)s;
