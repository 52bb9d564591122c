-- What operators did: opened before anything happens, closed in the transaction of the effect.

-- name: open_action
-- Records that an action starts; past `expected_by` it counts as failed if nobody closed it.
INSERT INTO admin_actions (actor, host, action, target, reason, change_id, expected_by)
VALUES (
    %(actor)s, %(host)s, %(action)s, %(target)s, %(reason)s, %(change_id)s::uuid,
    now() + make_interval(secs => %(deadline_seconds)s)
)
RETURNING action_id::text;

-- name: extend_action
-- A long action is still under way.
UPDATE admin_actions
SET expected_by = now() + make_interval(secs => %(seconds)s)
WHERE action_id = %(action_id)s::uuid AND outcome = 'started';

-- name: close_action
-- Closes an action with what was before and after, as far as that is known. One that was closed as
-- stale is corrected.
UPDATE admin_actions
SET outcome = %(outcome)s,
    ended_at = clock_timestamp(),
    before = coalesce(nullif(%(before)s::jsonb, 'null'), before),
    after = coalesce(nullif(%(after)s::jsonb, 'null'), after),
    error = %(error)s
WHERE action_id = %(action_id)s::uuid;

-- name: close_stale_actions
-- Actions that nobody closed in time: their process ended before they did.
UPDATE admin_actions
SET outcome = 'failed',
    ended_at = now(),
    error = 'The process ended before the action did; look at what was done of it.'
WHERE outcome = 'started' AND expected_by < now();
