-- What the score compares before and after a first action, on disposable systems only.

-- name: jobs
-- Every job, and what it came to.
SELECT job_id::text AS job_id, status, error_class, post_id
FROM content_jobs;

-- name: topics
-- What the jobs are about: a request to OpenAI that is about nothing of these was not made by a worker.
SELECT topic
FROM content_jobs;

-- name: sessions_there
-- Which of these sessions are still there.
SELECT pid
FROM pg_stat_activity
WHERE pid = ANY (%(pids)s);
