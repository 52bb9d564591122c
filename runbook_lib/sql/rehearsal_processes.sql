-- What real workers and schedulers of a staged system leave behind, and what only waiting would bring. Never run
-- on a real system.

-- name: registered
-- How many workers a process has announced.
SELECT count(*)
FROM workers
WHERE pid = %(pid)s;

-- name: told_in_flight
-- How many jobs a worker's process said to have in its hands.
SELECT in_flight
FROM workers
WHERE pid = %(pid)s;

-- name: worker_sessions
-- Sessions of workers at this database.
SELECT count(*)
FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'runbook-worker';

-- name: silent_seconds
-- How long ago a worker's process gave its last sign of life.
SELECT extract(epoch FROM now() - heartbeat_at)::double precision
FROM workers
WHERE pid = %(pid)s;

-- name: age_worker
-- A worker began so many seconds earlier, and came as much earlier a step further; so did its jobs.
WITH aged AS (
    UPDATE workers
    SET started_at = started_at - make_interval(secs => %(seconds)s),
        progress_at = progress_at - make_interval(secs => %(seconds)s)
    WHERE pid = %(pid)s
    RETURNING worker
)
UPDATE content_jobs
SET started_at = started_at - make_interval(secs => %(seconds)s)
WHERE status = 'processing' AND worker IN (SELECT worker FROM aged);

-- name: age_waiting
-- What waits has waited for so many seconds longer.
UPDATE content_jobs
SET created_at = created_at - make_interval(secs => %(seconds)s), updated_at = updated_at - make_interval(secs => %(seconds)s)
WHERE status = 'pending';

-- name: quarantined
-- Jobs of a topic that went into quarantine.
SELECT count(*)
FROM content_jobs
WHERE status = 'error' AND error_class = 'quarantined' AND topic LIKE %(topic)s || '%%';

-- name: sweep_by_age
-- What a home-made sweeper does: whatever has been in processing for so long is given out anew, whoever has it.
UPDATE content_jobs
SET status = 'pending', worker = NULL, lease_until = NULL, updated_at = now()
WHERE status = 'processing' AND started_at < now() - make_interval(secs => %(seconds)s);

-- name: clock_offsets
-- How far the clocks of workers are from the database's, the furthest first: of those that beat, and not for the first time.
SELECT clock_offset_seconds
FROM workers
WHERE stopped_at IS NULL AND clock_offset_seconds IS NOT NULL
    AND heartbeat_at > now() - interval '6 seconds' AND heartbeat_at > started_at + interval '4 seconds'
ORDER BY abs(clock_offset_seconds) DESC;

-- name: schedules_read
-- Schedules that a scheduler has read and waits for.
SELECT count(*)
FROM schedules
WHERE next_due_at IS NOT NULL;

-- name: age_schedules
-- So many seconds go by in which nothing deals with what is due.
WITH aged AS (
    UPDATE schedulers
    SET heartbeat_at = heartbeat_at - make_interval(secs => %(silent_seconds)s),
        started_at = started_at - make_interval(secs => %(seconds)s)
)
UPDATE schedules
SET next_due_at = next_due_at - make_interval(secs => %(seconds)s);

-- name: overdue_schedules
-- Schedules whose time is over for so long by the database's clock, and with which nobody dealt.
SELECT count(*)
FROM schedules
WHERE next_due_at < now() - make_interval(secs => %(seconds)s)
    AND NOT EXISTS (
        SELECT
        FROM schedule_runs
        WHERE schedule_runs.schedule_id = schedules.schedule_id AND schedule_runs.due_at >= schedules.next_due_at
    );

-- name: ended_as
-- How many attempts of a worker's process ended so.
SELECT count(*)
FROM job_runs
WHERE status = %(status)s AND worker LIKE '%%-' || %(pid)s || '-%%';
