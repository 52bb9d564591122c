-- The posts of ended jobs, and what became of them.

-- name: posts_of_jobs
-- Ended jobs that have a post, by id, category and the time they ended, oldest first; each row carries
-- how many there are. Jobs that a worker has or may take are left out: their posts are still its own.
SELECT
    job_id::text, post_id, post_url, left(topic, 120) AS topic, category,
    coalesce(completed_at, updated_at) AS ended_at, count(*) OVER () AS total
FROM content_jobs
WHERE post_id IS NOT NULL
    AND status IN ('completed', 'error')
    AND (%(job_ids)s::uuid[] IS NULL OR job_id = ANY (%(job_ids)s::uuid[]))
    AND (%(category)s::text IS NULL OR lower(category) = lower(%(category)s))
    AND (%(since)s::timestamptz IS NULL OR coalesce(completed_at, updated_at) >= %(since)s::timestamptz)
    AND (%(until)s::timestamptz IS NULL OR coalesce(completed_at, updated_at) < %(until)s::timestamptz)
ORDER BY coalesce(completed_at, updated_at), job_id
LIMIT %(row_count)s;

-- name: store_post_status
-- A post stands at the site under another status now, and perhaps under another address.
UPDATE content_jobs
SET post_status = %(post_status)s,
    post_url = %(post_url)s,
    updated_at = now()
WHERE job_id = %(job_id)s::uuid AND post_id = %(post_id)s;
