-- Jobs whose category the site does not have get another one, as a planned change, and their own back.

-- name: jobs_without_category
-- Jobs that ended since the site lacks their category; where one is named, those that wait with it as well.
SELECT job_id::text, left(topic, 120) AS topic, category, status, error_class, stage, attempt, retry_count, lost_count,
    updated_at, count(*) OVER () AS total
FROM content_jobs
WHERE (
        (status = 'error' AND error_class = 'wordpress_category_missing')
        OR (status = 'pending' AND %(missing)s::text IS NOT NULL)
    )
    AND (%(missing)s::text IS NULL OR lower(category) = lower(%(missing)s))
    AND lower(category) IS DISTINCT FROM lower(%(category)s)
ORDER BY priority, job_id
LIMIT %(row_count)s;

-- name: use_category
-- Gives jobs that nobody works on another category.
UPDATE content_jobs
SET category = %(category)s,
    updated_at = now()
WHERE job_id = ANY (%(job_ids)s::uuid[]) AND status IN ('pending', 'error');

-- name: jobs_given_category
-- The jobs that a change gave another category and that no worker has claimed since.
SELECT job.job_id::text, left(job.topic, 120) AS topic, job.created_at, made.before, count(*) OVER () AS total
FROM change_rows AS made
JOIN content_jobs AS job ON job.job_id = made.row_key::uuid
WHERE made.change_id = %(change_id)s::uuid AND made.outcome = 'changed'
    AND job.status = 'pending' AND job.attempt = (made.before ->> 'attempt')::integer
    AND job.category = made.after ->> 'category'
ORDER BY made.position
LIMIT %(row_count)s;

-- name: own_category
-- Gives each job its own category back.
UPDATE content_jobs AS job
SET category = earlier.category,
    updated_at = now()
FROM unnest(%(job_ids)s::uuid[], %(categories)s::text[]) AS earlier (job_id, category)
WHERE job.job_id = earlier.job_id AND job.status = 'pending';
