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

-- name: sessions_of_program
-- Sessions of one program in this database, the longest idle first: what each does, whether it keeps something while it
-- is idle (a lock of the session, a channel that it listens on), and whether the role that asks may look and may end it.
SELECT activity.pid, activity.usename::text AS role, activity.application_name AS application,
    coalesce(host(activity.client_addr), 'this machine') AS client,
    activity.backend_start, activity.state, activity.state_change,
    extract(epoch FROM clock_timestamp() - activity.state_change)::double precision AS seconds_in_state,
    EXISTS (SELECT 1 FROM pg_locks AS held WHERE held.pid = activity.pid AND held.locktype = 'advisory') AS holds_a_lock,
    activity.query ~* '^\s*listen\y' AS listens,
    coalesce(owner.rolsuper, true) AS superuser,
    pg_has_role(activity.usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE') AS may_end,
    activity.query = %(hidden)s AS hidden
FROM pg_stat_activity AS activity
LEFT JOIN pg_roles AS owner ON owner.oid = activity.usesysid
WHERE activity.datname = current_database()
    AND coalesce(activity.backend_type, 'client backend') = 'client backend'
    AND activity.pid <> pg_backend_pid()
    AND activity.application_name = %(application)s
    AND (%(role)s::text IS NULL OR activity.usename = %(role)s)
ORDER BY activity.state_change, activity.pid;

-- name: terminate_idle
-- Ends a session that is still the one that was seen, and has not been used since; no row where it is not.
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE pid = %(pid)s
    AND backend_start = %(backend_start)s::timestamptz
    AND state = 'idle'
    AND state_change = %(idle_since)s::timestamptz;
