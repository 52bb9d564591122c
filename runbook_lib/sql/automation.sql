-- What was done by itself: the budget, and what people are shown of it.

-- name: acted_today
-- How many changes were applied by themselves within a day, those that failed in the middle too.
SELECT count(*)
FROM admin_actions
WHERE actor = %(actor)s AND change_id IS NOT NULL AND outcome <> 'refused' AND acted_at > now() - interval '1 day';

-- name: said_lately
-- Whether the same refusal was recorded within an hour.
SELECT EXISTS (
    SELECT FROM admin_actions
    WHERE actor = %(actor)s AND action = %(kind)s AND target = %(cause)s AND outcome = 'refused'
        AND error LIKE '%%' || %(why)s AND acted_at > now() - interval '1 hour'
);

-- name: lately
-- The newest actions by itself, those that were refused too, and whether a change of it can still be taken back.
SELECT action.acted_at, action.action AS kind, action.target, action.reason, action.outcome, action.error,
    action.change_id::text, change.undo IS NOT NULL AND change.status = 'applied' AS can_be_undone
FROM admin_actions AS action
LEFT JOIN changes AS change ON change.change_id = action.change_id
WHERE action.actor = %(actor)s AND action.acted_at > now() - interval '1 day'
ORDER BY action.acted_at DESC
LIMIT %(row_count)s;
