-- A past for a disposable system, and what the oracles of staged faults look at. Never run on a real one.

-- name: make_past
-- Attempts of the last hours that succeeded, evenly spread, with their jobs.
WITH job AS (
    INSERT INTO content_jobs (topic, category, status, stage, attempt, completed_at, created_at, updated_at, post_id, post_status, source)
    SELECT 'Garden work in week ' || number, CASE number %% 2 WHEN 0 THEN 'News' ELSE 'Guides' END, 'completed', 'publish', 1,
        moment, moment - interval '20 seconds', moment, 100000 + number, 'publish', 'rehearsal'
    FROM generate_series(1, %(count)s) AS number
    CROSS JOIN LATERAL (SELECT now() - make_interval(secs => %(newest_seconds)s + (number - 1) * %(span_seconds)s / greatest(1, %(count)s))) AS at (moment)
    RETURNING job_id, category, completed_at
)
INSERT INTO job_runs (job_id, attempt, status, job_status, execution_time, started_at, completed_at, worker, stage, model, prompt_tokens,
    completion_tokens, tokens, cost_usd, write_seconds, publish_seconds, category)
SELECT job_id, 1, 'completed', 'completed', completed_at, completed_at - make_interval(secs => %(write_seconds)s * (0.8 + 0.4 * random()) + 0.3),
    completed_at, 'earlier-worker', 'publish', 'gpt-4o-mini', 300, 900, 1200, 0.001,
    %(write_seconds)s * (0.8 + 0.4 * random()), 0.2 + 0.1 * random(), category
FROM job;

-- name: make_noise
-- Failures of the past that have nothing to do with anything: they were tried again and went well.
INSERT INTO job_runs (job_id, attempt, status, job_status, execution_time, started_at, completed_at, worker, stage, error, error_class, charged, category)
SELECT job_id, 0, 'error', 'pending', completed_at - interval '1 minute', completed_at - interval '2 minutes', completed_at - interval '1 minute',
    'earlier-worker', 'write', class || ': noise', class, true, category
FROM (
    SELECT job_id, completed_at, category,
        (ARRAY['openai_timeout', 'openai_overloaded', 'wordpress_timeout', 'content_too_short'])[1 + floor(random() * 4)::integer] AS class
    FROM content_jobs
    WHERE status = 'completed' AND random() * 100 < %(percent)s
) AS chosen;

-- name: add_jobs
-- Jobs that can be claimed at once.
INSERT INTO content_jobs (topic, category, source)
SELECT topic, %(category)s, 'rehearsal'
FROM unnest(%(topics)s::text[]) AS topic;

-- name: counts
-- Jobs by status, and what the oracles ask of the newest minutes.
SELECT count(*) FILTER (WHERE status = 'pending') AS pending,
    count(*) FILTER (WHERE status = 'processing') AS processing,
    count(*) FILTER (WHERE status = 'completed') AS completed,
    count(*) FILTER (WHERE status = 'error') AS error,
    count(*) FILTER (WHERE status = 'processing' AND lease_until < now()) AS expired
FROM content_jobs;

-- name: failed_as
-- How many attempts since a moment failed with a class.
SELECT count(*)
FROM job_runs
WHERE error_class = %(error_class)s AND execution_time >= %(since)s AND status IN ('error', 'lost');

-- name: held_by
-- How many jobs a worker's process has in its hands.
SELECT count(*)
FROM content_jobs
WHERE status = 'processing' AND worker LIKE '%%-' || %(pid)s || '-%%';

-- name: failures_since
-- How many attempts failed since a moment.
SELECT count(*)
FROM job_runs
WHERE execution_time >= %(since)s AND status IN ('error', 'lost');

-- name: completed_since
-- Jobs that completed since a moment.
SELECT count(*)
FROM content_jobs
WHERE status = 'completed' AND completed_at >= %(since)s;

-- name: seconds_since_completed
-- How long ago the newest job completed.
SELECT coalesce(extract(epoch FROM now() - max(completed_at)), 0)::double precision
FROM content_jobs
WHERE status = 'completed';

-- name: written_slowly
-- Jobs that completed since a moment, of which the writing alone took so long.
SELECT count(*)
FROM job_runs
WHERE status = 'completed' AND execution_time >= %(since)s AND write_seconds >= %(seconds)s;

-- name: now
-- The database's time.
SELECT now();

-- name: record_rehearsal
-- How a rehearsal ended, in the workbench's own database and not in the disposable one.
INSERT INTO rehearsals (fault, procedure, actor, begun_at, result, found, truth, seconds_to_found, details)
VALUES (%(fault)s, %(procedure)s, %(actor)s, %(begun_at)s, %(result)s, %(found)s, %(truth)s, %(seconds_to_found)s, %(details)s::jsonb);

-- name: rehearsals
-- The newest rehearsals.
SELECT fault, procedure, actor, begun_at, ended_at, result, found, truth, seconds_to_found,
    extract(epoch FROM ended_at - begun_at)::double precision / 60 AS minutes,
    coalesce((details ->> 'hints')::integer, 0) AS hints,
    coalesce(details -> 'procedures', to_jsonb(ARRAY[procedure])) AS procedures,
    coalesce(details -> 'harm', '[]') AS harm
FROM rehearsals
ORDER BY ended_at DESC
LIMIT %(count)s;

-- name: last_proven
-- Of each procedure the newest rehearsal that passed and in which it was run: when, by whom, in how many minutes.
SELECT DISTINCT ON (used.procedure) used.procedure, rehearsals.fault, rehearsals.actor, rehearsals.ended_at,
    extract(epoch FROM rehearsals.ended_at - rehearsals.begun_at)::double precision / 60 AS minutes,
    extract(epoch FROM now() - rehearsals.ended_at)::double precision / 86400 AS days
FROM rehearsals
CROSS JOIN LATERAL (
    SELECT jsonb_array_elements_text(rehearsals.details -> 'procedures') AS procedure
    UNION
    SELECT rehearsals.procedure
    WHERE NOT rehearsals.details ? 'procedures'
) AS used
WHERE rehearsals.result = 'passed'
ORDER BY used.procedure, rehearsals.ended_at DESC;

-- name: actions_since
-- What was done by people in the disposable system, with what a planned change did to its rows.
SELECT action, target, outcome, actor, before, after,
    (
        SELECT jsonb_agg(jsonb_build_object('key', row_key, 'before', before, 'after', after))
        FROM change_rows
        WHERE change_rows.change_id = admin_actions.change_id AND change_rows.outcome = 'changed'
    ) AS changed
FROM admin_actions
WHERE acted_at >= %(since)s AND actor <> 'rehearsal'
ORDER BY acted_at;

-- name: procedures_run_since
-- Which procedures were run whole in the disposable system.
SELECT DISTINCT procedure
FROM notebook_runs
WHERE started_at >= %(since)s AND status = 'succeeded' AND trigger <> 'schedule'
ORDER BY procedure;

-- name: limits_there
-- The limits as they are.
SELECT provider, requests_per_minute, burst_requests, concurrency
FROM provider_limits;

-- name: ended_in_error
-- Jobs that ended in error since a moment, by class.
SELECT coalesce(error_class, 'unknown') AS error_class, count(*) AS jobs
FROM content_jobs
WHERE status = 'error' AND coalesce(error_class, '') <> 'cancelled' AND updated_at >= %(since)s
GROUP BY 1
ORDER BY 2 DESC;

-- name: standing
-- What still stands in the way: pauses, and whether a worker gives a sign of life.
SELECT (SELECT count(*) FROM provider_pauses) AS pauses,
    (SELECT count(*) FROM workers WHERE stopped_at IS NULL AND heartbeat_at > now() - interval '15 seconds') AS workers,
    (SELECT count(*) FROM content_jobs) AS jobs,
    (SELECT count(*) FROM job_runs WHERE status = 'completed' AND execution_time > now() - interval '20 seconds') AS lately;
