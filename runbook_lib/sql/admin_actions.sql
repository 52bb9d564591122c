-- What operators did: opened before anything happens, closed in the transaction of the effect.

-- name: open_action
-- Records that an action starts; past `expected_by` it counts as failed if nobody closed it.
INSERT INTO admin_actions (
    action_id, actor, host, action, target, reason, change_id, run_id, expected_by
)
VALUES (
    %(action_id)s::uuid, %(actor)s, %(host)s, %(action)s, %(target)s, %(reason)s, %(change_id)s::uuid,
    %(run_id)s::uuid,
    now() + make_interval(secs => %(deadline_seconds)s)
);

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

-- name: file_refused_action
-- Files late that an action was asked for and refused while the database was away.
INSERT INTO admin_actions (
    action_id, acted_at, expected_by, ended_at, actor, host, action, target, reason, change_id, run_id,
    outcome, error, filed_late
)
VALUES (
    %(action_id)s::uuid, %(acted_at)s, %(acted_at)s, %(acted_at)s, %(actor)s, %(host)s, %(action)s,
    %(target)s, %(reason)s, %(change_id)s::uuid, %(run_id)s::uuid, 'refused', %(error)s, true
);

-- name: file_closing
-- Files late how an action ended. What was closed as done together with its effect stays so: the link
-- may have broken after that was committed.
UPDATE admin_actions
SET outcome = %(outcome)s,
    ended_at = %(ended_at)s,
    before = coalesce(nullif(%(before)s::jsonb, 'null'), before),
    after = coalesce(nullif(%(after)s::jsonb, 'null'), after),
    error = %(error)s,
    filed_late = true
WHERE action_id = %(action_id)s::uuid AND outcome <> 'done';
