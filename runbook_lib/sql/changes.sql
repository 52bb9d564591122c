-- Planned changes and their rows.

-- name: add_plan
-- Keeps a plan: what it would touch, and the digest of what was seen.
INSERT INTO changes (kind, parameters, planned_by, row_count, row_limit, oldest, newest, sample, digest)
VALUES (
    %(kind)s, %(parameters)s::jsonb, %(actor)s, %(row_count)s, %(row_limit)s, %(oldest)s, %(newest)s,
    %(sample)s::json, %(digest)s
)
RETURNING *;

-- name: find_plans
-- Plans whose id begins so; two are enough to see that it is not unique.
SELECT *
FROM changes
WHERE change_id::text LIKE %(prefix)s || '%%'
ORDER BY change_id
LIMIT 2;

-- name: list_changes
-- The newest plans, optionally of one kind or status.
SELECT *
FROM changes
WHERE (%(kind)s::text IS NULL OR kind = %(kind)s)
    AND (%(status)s::text IS NULL OR status = %(status)s)
ORDER BY change_id DESC
LIMIT %(row_count)s;

-- name: lock_change
-- Takes the change for applying; no row when somebody else has it right now.
SELECT status, applying_until > now() AS taken, applied_by, applied_at
FROM changes
WHERE change_id = %(change_id)s::uuid
FOR UPDATE SKIP LOCKED;

-- name: add_rows
-- The rows of a change as they were seen, all still to be done.
INSERT INTO change_rows (change_id, row_key, position, seen)
SELECT %(change_id)s::uuid, row_key, position, seen
FROM unnest(%(keys)s::text[], %(seen)s::jsonb[]) WITH ORDINALITY AS given (row_key, seen, position);

-- name: add_changed_rows
-- The rows of a change that was applied in one transaction, with before and after.
INSERT INTO change_rows (change_id, row_key, position, outcome, before, after, acted_at)
SELECT
    %(change_id)s::uuid, row_key, position, CASE WHEN changed THEN 'changed' ELSE 'unchanged' END,
    before, after, now()
FROM unnest(%(keys)s::text[], %(changed)s::boolean[], %(before)s::jsonb[], %(after)s::jsonb[])
    WITH ORDINALITY AS given (row_key, changed, before, after, position);

-- name: take_change
-- This action applies the change from now on, until nothing was recorded for `seconds`.
UPDATE changes
SET status = 'applying',
    applied_by = %(actor)s,
    applying_action = %(action_id)s::uuid,
    applying_until = now() + make_interval(secs => %(seconds)s)
WHERE change_id = %(change_id)s::uuid;

-- name: rows_left
-- What a stepwise change still has to do, in the order of the plan.
SELECT row_key, seen
FROM change_rows
WHERE change_id = %(change_id)s::uuid AND outcome IN ('left', 'failed')
ORDER BY position;

-- name: keep_change
-- Prolongs our hold on a change; no row when somebody else took it over.
UPDATE changes
SET applying_until = now() + make_interval(secs => %(seconds)s)
WHERE change_id = %(change_id)s::uuid AND applying_action = %(action_id)s::uuid AND status = 'applying'
RETURNING change_id;

-- name: record_row
-- What became of one row of a stepwise change.
UPDATE change_rows
SET outcome = %(outcome)s,
    before = %(before)s::jsonb,
    after = %(after)s::jsonb,
    error = %(error)s,
    acted_at = now()
WHERE change_id = %(change_id)s::uuid AND row_key = %(key)s;

-- name: count_rows
-- How many rows of a change stand at each outcome.
SELECT outcome, count(*)::integer AS rows
FROM change_rows
WHERE change_id = %(change_id)s::uuid
GROUP BY outcome;

-- name: failed_rows
-- The rows that failed, and why.
SELECT row_key, error
FROM change_rows
WHERE change_id = %(change_id)s::uuid AND outcome = 'failed'
ORDER BY position
LIMIT %(row_count)s;

-- name: rows_changed
-- The rows that a change really changed, with before and after.
SELECT row_key, before, after
FROM change_rows
WHERE change_id = %(change_id)s::uuid AND outcome = 'changed'
ORDER BY position;

-- name: end_change
-- Ends applying: applied, or failed and to be gone on with.
UPDATE changes
SET status = %(status)s,
    applied_at = clock_timestamp(),
    applied_by = %(actor)s,
    applying_action = NULL,
    applying_until = NULL,
    result = %(result)s::jsonb,
    undo = nullif(%(undo)s::jsonb, 'null')
WHERE change_id = %(change_id)s::uuid
    AND applying_action IS NOT DISTINCT FROM %(held_by)s::uuid;
