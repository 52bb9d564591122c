-- What the oracles of staged network faults look at. Never run on a real system.

-- name: silent_seconds
-- For how long the worker that was heard of last has been silent.
SELECT coalesce(extract(epoch FROM now() - max(heartbeat_at)), 0)::double precision
FROM workers;

-- name: open_sessions
-- How many sessions of workers the server still holds open.
SELECT count(*)
FROM pg_stat_activity
WHERE application_name = 'runbook-worker' AND datname = current_database();

-- name: broken_connections
-- How many attempts since a moment failed because a connection broke, or its answer was lost on the way: at OpenAI
-- and at the site; and how long it was between the first and the last.
SELECT count(*) FILTER (WHERE error_class = 'openai_unreachable') AS at_openai,
    count(*) FILTER (WHERE error_class <> 'openai_unreachable') AS at_the_site,
    coalesce(extract(epoch FROM max(execution_time) - min(execution_time)), 0)::double precision AS between_seconds
FROM job_runs
WHERE execution_time >= %(since)s AND http_status IS NULL
    AND error_class IN ('openai_unreachable', 'wordpress_unreachable', 'wordpress_outcome_unknown');
