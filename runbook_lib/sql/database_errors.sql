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

-- name: look_afresh
-- Forgets what this transaction has seen of the sessions: the server shows it the same picture until its end.
SELECT pg_stat_clear_snapshot();

-- name: cancel
-- Ends what a session does now; the session stays.
SELECT pg_cancel_backend(%(pid)s);

-- name: terminate
-- Ends a session; its transaction is rolled back.
SELECT pg_terminate_backend(%(pid)s);

-- name: idle_sessions
-- Sessions of one program in this database that are idle, in no transaction, since before a moment and for at least so
-- long by the server's own clock, the longest idle first; and whether the role that asks may end each.
SELECT activity.pid, activity.usename::text AS role, activity.application_name AS application, activity.client_addr::text AS address,
    activity.backend_start, activity.state_change,
    extract(epoch FROM clock_timestamp() - activity.state_change)::double precision AS idle_seconds,
    asker.rolsuper
        OR pg_has_role(activity.usesysid, 'USAGE')
        OR (pg_has_role('pg_signal_backend', 'USAGE') AND NOT owner.rolsuper) AS may_end,
    count(*) OVER () AS all_of_them
FROM pg_stat_activity AS activity
JOIN pg_roles AS owner ON owner.oid = activity.usesysid
JOIN pg_roles AS asker ON asker.rolname = current_user
WHERE activity.datname = current_database()
    AND activity.backend_type = 'client backend'
    AND activity.pid <> pg_backend_pid()
    AND activity.state = 'idle'
    AND activity.application_name = %(application)s
    AND (%(role)s::text IS NULL OR activity.usename = %(role)s)
    AND activity.state_change < least(%(before)s::timestamptz, clock_timestamp() - make_interval(secs => %(idle_seconds)s))
ORDER BY activity.state_change
LIMIT %(row_count)s;

-- name: hidden_sessions
-- How many sessions of one program the role that asks may not look into.
SELECT count(*)
FROM pg_stat_activity
WHERE datname = current_database() AND application_name = %(application)s AND state IS NULL
    AND coalesce(backend_type, 'client backend') = 'client backend';

-- name: terminate_idle
-- Ends a session that is still the one that was seen, and as idle as it was then; no row where it is not.
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE pid = %(pid)s AND state = 'idle' AND backend_start = %(backend_start)s::timestamptz AND state_change = %(state_change)s::timestamptz;
