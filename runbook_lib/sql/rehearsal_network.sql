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

-- name: failed_at_the_site
-- How many attempts since a moment failed because the site was not reached, or its answer was lost on the way.
SELECT count(*)
FROM job_runs
WHERE execution_time >= %(since)s AND error_class IN ('wordpress_unreachable', 'wordpress_outcome_unknown');
