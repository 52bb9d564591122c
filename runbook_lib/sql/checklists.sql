-- Checklists: what people ticked, and what tells whether an item is done.

-- name: now
-- The database's clock, and the month of it in UTC.
SELECT now() AS now, to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM') AS month;

-- name: ticks
-- The newest word on each item of a checklist, for one subject; what was taken back is not ticked.
SELECT DISTINCT ON (item) item, ticked, ticked_by, note, at
FROM checklist_ticks
WHERE checklist = %(checklist)s AND subject = %(subject)s
ORDER BY item, tick_id DESC;

-- name: add_tick
-- Ticks an item, or takes a tick back.
INSERT INTO checklist_ticks (checklist, item, subject, ticked, ticked_by, note)
VALUES (%(checklist)s, %(item)s, %(subject)s, %(ticked)s, %(ticked_by)s, %(note)s);

-- name: latest_run
-- The newest run of a procedure that ran whole, and how long ago it ended.
SELECT run_id::text, verdict, ended_at, extract(epoch FROM now() - ended_at)::double precision / 86400 AS days
FROM notebook_runs
WHERE procedure = %(procedure)s AND status = 'succeeded'
ORDER BY ended_at DESC
LIMIT 1;

-- name: newest_version
-- The version of the worker that began last, and when its first worker did.
SELECT version, min(started_at) AS began
FROM workers
WHERE version = (SELECT version FROM workers ORDER BY started_at DESC LIMIT 1)
    AND started_at >= (SELECT max(started_at) - interval '1 day' FROM workers)
GROUP BY version;

-- name: completed_since
-- How many attempts completed since a moment, and when the first did.
SELECT count(*) AS completed, min(execution_time) AS first_at
FROM runs
WHERE status = 'completed' AND execution_time >= %(since)s;
