-- Weeks of a pipeline's past, so that what is usual at an hour can be told. Never run on a real system.

-- name: forget_runs
-- The past that the system had before.
DELETE FROM job_runs;

-- name: forget_jobs
-- The jobs of that past.
DELETE FROM content_jobs;

-- name: weeks_of_work
-- Attempts of weeks that went well but for a few, more by day than by night, up to so many hours ago. In `gaps`
-- (seconds before now: from, to) nothing came.
WITH hour AS (
    SELECT number, %(jobs_an_hour)s * (1 + 0.5 * sin((extract(hour FROM begins AT TIME ZONE 'UTC')::float8 - 9) / 24 * 2 * pi())) AS expected,
        begins
    FROM generate_series(floor(%(silent_hours)s)::integer, %(weeks)s * 168) AS number
    CROSS JOIN LATERAL (SELECT now() - make_interval(hours => number + 1) AS begins) AS at
), moment AS (
    SELECT begins + make_interval(secs => random() * 3600) AS moment, row_number() OVER () AS number
    FROM hour
    -- Whole jobs, so that they are as many as expected on average.
    CROSS JOIN LATERAL generate_series(1, floor(expected + random())::integer)
), kept AS (
    SELECT moment, number
    FROM moment
    WHERE moment < now() - make_interval(secs => %(silent_hours)s * 3600)
        AND NOT EXISTS (
            SELECT
            FROM unnest(%(gaps_from)s::float8[], %(gaps_to)s::float8[]) AS gap (since, until)
            WHERE moment >= now() - make_interval(secs => since) AND moment < now() - make_interval(secs => until)
        )
), job AS (
    INSERT INTO content_jobs (topic, category, status, stage, attempt, completed_at, created_at, updated_at, post_id, post_status, source)
    SELECT 'Garden work of day ' || number, CASE number %% 2 WHEN 0 THEN 'News' ELSE 'Guides' END, 'completed', 'publish', 1,
        moment, moment - interval '20 seconds', moment, 100000 + number, 'publish', 'rehearsal'
    FROM kept
    RETURNING job_id, category, completed_at
)
INSERT INTO job_runs (job_id, attempt, status, job_status, execution_time, started_at, completed_at, worker, stage, model, prompt_tokens,
    completion_tokens, tokens, cost_usd, write_seconds, publish_seconds, category)
SELECT job_id, 1, 'completed', 'completed', completed_at, completed_at - interval '2 seconds', completed_at, 'earlier-worker', 'publish',
    'gpt-4o-mini', 300, 900, 1200, 0.001, 0.8 + 0.4 * random(), 0.2 + 0.1 * random(), category
FROM job;

-- name: partitions_of_the_past
-- The weekly partitions of what was put into the past.
SELECT make_job_runs_partitions(4);

-- name: forget_partition_events
-- That partitions were made late is told; here they were not late, but the past was made by hand.
DELETE FROM events
WHERE kind = 'job_runs_without_partition';
