-- Credentials by handle: who uses which, since when, and what was done with them. No value is here.

-- name: users
-- Workers that run, and by which handle each knows a credential; times in seconds.
SELECT
    worker, host, in_flight,
    credentials -> %(name)s ->> 'handle' AS handle,
    credentials -> %(name)s ->> 'origin' AS origin,
    to_timestamp((credentials -> %(name)s ->> 'used_at')::double precision) AS used_at,
    extract(epoch FROM now() - heartbeat_at)::double precision AS silent_seconds
FROM workers
WHERE stopped_at IS NULL
    AND heartbeat_at > now() - make_interval(secs => %(silent_seconds)s)
    AND credentials ? %(name)s
ORDER BY host, worker;

-- name: first_seen
-- Since when each credential of a handle has been in use.
SELECT name, handle, first_seen_at
FROM credential_handles
WHERE name = ANY (%(names)s);

-- name: last_used
-- When a worker last made a request with each credential, by handle.
SELECT entry.name, entry.used ->> 'handle' AS handle,
    max(to_timestamp((entry.used ->> 'used_at')::double precision)) AS used_at
FROM workers CROSS JOIN jsonb_each(workers.credentials) AS entry (name, used)
GROUP BY entry.name, entry.used ->> 'handle';

-- name: activations
-- When each handle was activated, the newest first.
SELECT target AS name, after ->> 'handle' AS handle, ended_at, actor
FROM admin_actions
WHERE action = 'secrets.activate' AND outcome = 'done'
ORDER BY ended_at DESC
LIMIT 1000;

-- name: role_valid_until
-- When the role of this session may no longer log in; NULL: never.
SELECT rolname AS role, nullif(rolvaliduntil, 'infinity') AS valid_until
FROM pg_roles
WHERE rolname = current_user;
