-- What is looked at after a first action: whether jobs flow again, and what became of those that were struck.

-- name: fresh_completed
-- Of the jobs that came in after the action, those that are published.
SELECT count(*)
FROM content_jobs
WHERE starts_with(topic, %(topic)s) AND status = 'completed';

-- name: unfinished
-- Jobs that are not published, by status and class.
SELECT status, error_class, count(*) AS jobs
FROM content_jobs
WHERE status <> 'completed'
GROUP BY 1, 2
ORDER BY 1, 2;
