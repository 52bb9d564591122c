-- Who called the console and the functions.

-- name: add_entries
-- Keeps requests, many at once.
INSERT INTO access_log (at, client, token, actor, method, route, status, outcome, milliseconds)
VALUES %s;

-- name: forget_old_entries
-- Drops what is older than it has to be kept, a thousand rows at most.
DELETE FROM access_log
WHERE access_id IN (
    SELECT access_id
    FROM access_log
    WHERE at < now() - make_interval(days => %(keep_days)s)
    ORDER BY at
    LIMIT 1000
);

-- name: recent_entries
-- The newest requests.
SELECT at, client, token, actor, method, route, status, outcome, milliseconds
FROM access_log
ORDER BY access_id DESC
LIMIT %(row_count)s;
