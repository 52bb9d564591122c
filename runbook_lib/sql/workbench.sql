-- What the demo says about its jobs.

-- name: count_jobs
-- How many jobs there are in each state, and how many of the posts everybody can see.
SELECT
    count(*) FILTER (WHERE status = 'completed') AS completed,
    count(*) FILTER (WHERE status = 'completed' AND post_status = 'publish') AS published,
    count(*) FILTER (WHERE status = 'error') AS error,
    count(*) FILTER (WHERE status IN ('pending', 'processing')) AS waiting
FROM content_jobs;

-- name: newest_posts
-- The newest posts, to show a few.
SELECT topic, category, post_url
FROM content_jobs
WHERE status = 'completed' AND post_status = 'publish'
ORDER BY completed_at DESC, job_id DESC
LIMIT %(count)s;

-- name: wanted_categories
-- The categories that jobs name, for the sandbox's site to have them.
SELECT DISTINCT category
FROM content_jobs
WHERE category IS NOT NULL
ORDER BY category;
