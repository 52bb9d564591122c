-- Errors of the database: what attempts met, who runs long, and ending one session.

-- name: failed_attempts
-- Texts and SQLSTATEs of attempts that failed lately, the most frequent first.
SELECT sqlstate, left(error, 300) AS error, count(*) AS attempts, min(execution_time) AS first_seen,
    max(execution_time) AS last_seen
FROM runs
WHERE execution_time >= now() - make_interval(mins => %(minutes)s) AND status IN ('error', 'lost')
GROUP BY 1, 2
ORDER BY 3 DESC
LIMIT 500;

-- name: long_statements
-- Statements that run longer than this and wait for no lock, the longest first.
SELECT pid, usename AS role, application_name AS application,
    extract(epoch FROM clock_timestamp() - query_start)::double precision AS seconds,
    wait_event_type, wait_event, left(query, 200) AS query, query = '<insufficient privilege>' AS hidden
FROM pg_stat_activity
WHERE state = 'active'
    AND backend_type = 'client backend'
    AND pid <> pg_backend_pid()
    AND wait_event_type IS DISTINCT FROM 'Lock'
    AND query_start < clock_timestamp() - make_interval(secs => %(seconds)s)
ORDER BY query_start
LIMIT 20;

-- name: session
-- One session of a client in this database, as it stands.
SELECT pid, usename AS role, application_name AS application, client_addr::text AS address, state, backend_start, xact_start,
    extract(epoch FROM clock_timestamp() - xact_start)::double precision AS transaction_seconds,
    left(query, 200) AS query, pid = pg_backend_pid() AS ours,
    (SELECT count(*) FROM pg_stat_activity AS waiting WHERE activity.pid = ANY (pg_blocking_pids(waiting.pid))) AS directly_waiting
FROM pg_stat_activity AS activity
WHERE pid = %(pid)s AND backend_type = 'client backend' AND datname = current_database();

-- name: cancel
-- Ends what a session does now; the session stays.
SELECT pg_cancel_backend(%(pid)s);

-- name: terminate
-- Ends a session; its transaction is rolled back.
SELECT pg_terminate_backend(%(pid)s);
