-- The statements of this procedure. Each begins with its name and says what it answers; binds are
-- %(name)s, and a literal percent sign is doubled. `jobs` and `runs` are the pipeline's, whatever its own
-- tables are called; other tables go by their own names. Every statement runs in a transaction that only reads.

-- name: failed_jobs
-- Jobs that ended in error in these days. The first figure of the first row is what is judged.
SELECT count(*) AS failed_jobs
FROM jobs
WHERE status = 'error' AND created_at >= now() - make_interval(days => %(days)s);

-- name: by_class
-- The same jobs by class, the most frequent first.
SELECT coalesce(error_class, 'unclassed') AS error_class, count(*) AS failed_jobs
FROM jobs
WHERE status = 'error' AND created_at >= now() - make_interval(days => %(days)s)
GROUP BY 1
ORDER BY 2 DESC;
