-- What was published, and what our books say of it: for the review of content.

-- name: posts_of_ended_jobs
-- Ended jobs that have a post, by the time they ended, newest first; each row carries how many there are.
SELECT
    job_id, status, left(topic, 200) AS topic, category, post_id, post_url, post_status,
    coalesce(completed_at, updated_at, created_at) AS ended_at, count(*) OVER () AS total
FROM jobs
WHERE post_id IS NOT NULL
    AND status IN ('completed', 'error')
    AND coalesce(completed_at, updated_at, created_at) >= %(since)s
    AND coalesce(completed_at, updated_at, created_at) < %(until)s
ORDER BY ended_at DESC, job_id DESC
LIMIT %(row_count)s;

-- name: articles_of_jobs
-- The articles of these jobs as they were written.
SELECT job_id::text, title, body_markdown, finish_reason, model
FROM articles
WHERE job_id = ANY (%(job_ids)s::uuid[]);

-- name: earlier_sketches
-- Likeness sketches of articles that went out before these days, the newest first.
SELECT articles.job_id::text, articles.likeness_sketch
FROM articles
JOIN content_jobs USING (job_id)
WHERE content_jobs.status = 'completed'
    AND content_jobs.post_status IN ('publish', 'future')
    AND articles.created_at >= %(since)s::timestamptz - make_interval(days => %(days)s)
    AND content_jobs.completed_at < %(since)s
ORDER BY articles.created_at DESC
LIMIT %(row_count)s;

-- name: taken_off
-- Posts that a change of ours took off the site and that nobody brought back since: when, and by whom.
SELECT DISTINCT ON (change_rows.row_key)
    change_rows.row_key AS job_id, changes.kind, changes.applied_by, change_rows.acted_at
FROM change_rows
JOIN changes USING (change_id)
WHERE changes.kind IN ('posts.unpublish', 'posts.trash', 'posts.republish', 'posts.restore')
    AND change_rows.outcome = 'changed'
    AND change_rows.row_key = ANY (%(job_ids)s)
ORDER BY change_rows.row_key, change_rows.acted_at DESC;
