-- What the console's pages ask beside what the rooms below answer.

-- name: check_states
-- What each check answered last, and since when; `since` is what a single look cannot know.
SELECT check_name, verdict, message, value, unit, threshold, since, checked_at, details
FROM check_states
WHERE checked_at > now() - make_interval(secs => %(fresh_seconds)s);

-- name: recent_events
-- What happened of late that somebody should know.
SELECT occurred_at, level, message, job_id::text
FROM events
WHERE level <> 'info' AND occurred_at > now() - interval '24 hours'
ORDER BY occurred_at DESC
LIMIT %(row_count)s;

-- name: errors_now
-- How many jobs stand in error: the index of failed jobs is read, and no more.
SELECT count(*)
FROM content_jobs
WHERE status = 'error';

-- name: runs
-- The newest runs of procedures that fit, going on from a run that was seen.
SELECT
    run_id::text, procedure, status, verdict, actor, trigger, schedule_id, due_at, started_at, ended_at,
    cells_total, cells_done, error, archive_html IS NOT NULL AS has_page
FROM notebook_runs
WHERE (%(procedure)s::text IS NULL OR procedure = %(procedure)s)
    AND (%(status)s::text IS NULL OR status = %(status)s)
    AND (%(verdict)s::text IS NULL OR verdict = %(verdict)s)
    AND (%(actor)s::text IS NULL OR actor ILIKE %(actor)s)
    AND (
        %(before)s::uuid IS NULL
        OR (started_at, run_id) < (SELECT started_at, run_id FROM notebook_runs WHERE run_id = %(before)s::uuid)
    )
ORDER BY started_at DESC, run_id DESC
LIMIT %(row_count)s;

-- name: latest_runs
-- The newest run of each procedure.
SELECT DISTINCT ON (procedure) procedure, run_id::text, status, verdict, started_at
FROM notebook_runs
ORDER BY procedure, started_at DESC;

-- name: begun_run
-- The run that somebody just started, once its record is open.
SELECT run_id::text, status
FROM notebook_runs
WHERE procedure = %(procedure)s AND actor = %(actor)s AND trigger = %(trigger)s
    AND started_at >= now() - make_interval(secs => %(within_seconds)s)
ORDER BY started_at DESC
LIMIT 1;

-- name: earlier_run
-- The run of the same procedure before a run, that ran whole: what one compares with.
SELECT earlier.run_id::text
FROM notebook_runs AS run
JOIN notebook_runs AS earlier
    ON earlier.procedure = run.procedure AND earlier.started_at < run.started_at AND earlier.status = 'succeeded'
WHERE run.run_id = %(run_id)s::uuid
ORDER BY earlier.started_at DESC
LIMIT 1;
