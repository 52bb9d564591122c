-- name: last_due
-- The newest due time of a schedule that anybody dealt with.
SELECT max(due_at)
FROM schedule_runs
WHERE schedule_id = %(schedule_id)s;

-- name: claim_due
-- Claims a due time: whoever inserts it deals with it, however many schedulers there are. No row: it is
-- somebody else's.
INSERT INTO schedule_runs (schedule_id, due_at, claimed_by, outcome, note)
VALUES (%(schedule_id)s, %(due_at)s, %(claimed_by)s, %(outcome)s, %(note)s)
ON CONFLICT DO NOTHING
RETURNING due_at;

-- name: settle_due
-- Says what became of a due time that was claimed.
UPDATE schedule_runs
SET outcome = %(outcome)s, run_id = %(run_id)s::uuid, note = %(note)s
WHERE schedule_id = %(schedule_id)s AND due_at = %(due_at)s;

-- name: running_now
-- The run of a schedule that still goes on, if any.
SELECT run_id::text, due_at
FROM notebook_runs
WHERE schedule_id = %(schedule_id)s AND status = 'running'
ORDER BY started_at
LIMIT 1;

-- name: settle_abandoned
-- Settles due times whose scheduler vanished after it claimed them: by the run that it made, or, after
-- a time in which it would have made one, as failed. Nothing is run again by itself.
UPDATE schedule_runs
SET outcome = CASE
        WHEN notebook_runs.status = 'succeeded' THEN 'ran'
        WHEN notebook_runs.status = 'refused' THEN 'refused'
        ELSE 'failed'
    END,
    run_id = notebook_runs.run_id,
    note = coalesce(notebook_runs.error, 'The scheduler vanished before it began.')
FROM schedule_runs AS due
LEFT JOIN LATERAL (
    SELECT run_id, status, error
    FROM notebook_runs
    WHERE notebook_runs.schedule_id = due.schedule_id AND notebook_runs.due_at = due.due_at
    ORDER BY started_at DESC
    LIMIT 1
) AS notebook_runs ON true
WHERE schedule_runs.schedule_id = due.schedule_id AND schedule_runs.due_at = due.due_at
AND due.outcome = 'started'
AND notebook_runs.status IS DISTINCT FROM 'running'
AND due.claimed_at < now() - make_interval(secs => %(abandoned_after_seconds)s)
RETURNING schedule_runs.schedule_id, schedule_runs.due_at, schedule_runs.outcome;

-- name: last_dealt_with
-- The newest due time of each schedule and what became of it.
SELECT DISTINCT ON (schedule_id) schedule_id, due_at, outcome, run_id::text, note
FROM schedule_runs
ORDER BY schedule_id, due_at DESC;
