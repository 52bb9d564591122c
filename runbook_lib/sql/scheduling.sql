-- The due times of schedules: claimed, settled, absent; pauses; the schedulers' signs of life.

-- name: last_due
-- The newest due time of a schedule that anybody claimed. What was filed late does not count: between it
-- and the newest claim, times may have been missed.
SELECT max(due_at)
FROM schedule_runs
WHERE schedule_id = %(schedule_id)s AND NOT filed_late;

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

-- name: abandoned
-- Due times that were claimed and not settled, whose run does not go on, with the scheduler that claimed
-- them. A run that ended may still be settled by its scheduler; one without a run, only when that is gone.
SELECT
    due.schedule_id, due.due_at, due.claimed_by, due.claimed_at, run.run_id::text, run.status, run.error,
    scheduler.host, scheduler.pid, scheduler.boot_id, scheduler.stopped_at,
    now() - coalesce(scheduler.heartbeat_at, due.claimed_at) > make_interval(secs => %(silent_seconds)s) AS silent
FROM schedule_runs AS due
LEFT JOIN schedulers AS scheduler ON scheduler.scheduler = due.claimed_by
LEFT JOIN LATERAL (
    SELECT run_id, status, error
    FROM notebook_runs
    WHERE notebook_runs.schedule_id = due.schedule_id AND notebook_runs.due_at = due.due_at
    ORDER BY started_at DESC
    LIMIT 1
) AS run ON true
WHERE due.outcome = 'started'
AND run.status IS DISTINCT FROM 'running'
ORDER BY due.due_at;

-- name: settle_abandoned
-- Settles a due time whose scheduler vanished, unless it was settled meanwhile. Nothing is run again.
UPDATE schedule_runs
SET outcome = %(outcome)s, run_id = %(run_id)s::uuid, note = %(note)s
WHERE schedule_id = %(schedule_id)s AND due_at = %(due_at)s AND outcome = 'started'
RETURNING schedule_id;

-- name: file_unclaimed
-- Files late what became of a due time that was run while the database was away. No row: somebody dealt
-- with it meanwhile.
INSERT INTO schedule_runs (schedule_id, due_at, claimed_at, claimed_by, outcome, run_id, note, filed_late)
VALUES (
    %(schedule_id)s, %(due_at)s, %(claimed_at)s, %(claimed_by)s, %(outcome)s, %(run_id)s::uuid, %(note)s,
    true
)
ON CONFLICT DO NOTHING
RETURNING due_at;

-- name: open_pause
-- Pauses a schedule, or changes the pause that holds.
INSERT INTO schedule_pauses (schedule_id, reason, paused_by, until)
VALUES (%(schedule_id)s, %(reason)s, %(actor)s, %(until)s)
ON CONFLICT (schedule_id) WHERE ended_at IS NULL
DO UPDATE SET reason = excluded.reason, paused_by = excluded.paused_by, paused_at = now(), until = excluded.until
RETURNING schedule_id, reason, paused_by, paused_at, until;

-- name: end_pause
-- Ends the pause of a schedule. No row: there was none.
UPDATE schedule_pauses
SET ended_at = now(), ended_by = %(actor)s
WHERE schedule_id = %(schedule_id)s AND ended_at IS NULL
RETURNING schedule_id, reason, paused_by, paused_at, until;

-- name: end_overdue_pauses
-- Ends the pauses whose time is over.
UPDATE schedule_pauses
SET ended_at = until, ended_by = paused_by
WHERE ended_at IS NULL AND until <= now()
RETURNING schedule_id, reason;

-- name: pauses
-- The pauses by hand that hold now.
SELECT schedule_id, reason, paused_by, paused_at, until
FROM schedule_pauses
WHERE ended_at IS NULL AND (until IS NULL OR until > now())
ORDER BY schedule_id;

-- name: beat
-- A scheduler's sign of life.
INSERT INTO schedulers (scheduler, host, pid, boot_id, version, directory)
VALUES (%(scheduler)s, %(host)s, %(pid)s, %(boot_id)s, %(version)s, %(directory)s)
ON CONFLICT (scheduler) DO UPDATE SET heartbeat_at = now(), stopped_at = NULL;

-- name: stopped
-- Says that a scheduler stopped because it was asked to.
UPDATE schedulers
SET stopped_at = now(), heartbeat_at = now()
WHERE scheduler = %(scheduler)s;

-- name: forget_schedulers
-- Schedulers that ended long ago.
DELETE FROM schedulers
WHERE heartbeat_at < now() - interval '30 days';

-- name: keep_schedules
-- The schedules as they were read, each a JSON object. A due time that nobody dealt with stays the next
-- one, unless the schedule itself has changed.
INSERT INTO schedules AS known (
    schedule_id, directory, procedure, cron, timezone, read_only, next_due_at, paused_reason, paused_until,
    problem, seen_by
)
SELECT
    found.schedule_id, %(directory)s, found.procedure, found.cron, found.timezone, found.read_only,
    found.next_due_at, found.paused_reason, found.paused_until, found.problem, %(scheduler)s
FROM jsonb_to_recordset(%(schedules)s::jsonb) AS found (
    schedule_id text, procedure text, cron text, timezone text, read_only boolean, next_due_at timestamptz,
    paused_reason text, paused_until timestamptz, problem text
)
ON CONFLICT (schedule_id) DO UPDATE SET
    directory = excluded.directory,
    procedure = excluded.procedure,
    cron = excluded.cron,
    timezone = excluded.timezone,
    read_only = excluded.read_only,
    next_due_at = CASE
        WHEN known.next_due_at < excluded.next_due_at
        AND (known.cron, known.timezone) = (excluded.cron, excluded.timezone)
        AND NOT EXISTS (
            SELECT FROM schedule_runs
            WHERE schedule_runs.schedule_id = known.schedule_id
            AND schedule_runs.due_at >= known.next_due_at
        )
            THEN known.next_due_at
        ELSE excluded.next_due_at
    END,
    paused_reason = excluded.paused_reason,
    paused_until = excluded.paused_until,
    problem = excluded.problem,
    seen_by = excluded.seen_by,
    seen_at = now()
RETURNING schedule_id;

-- name: forget_schedules
-- Schedules whose file is gone from this directory.
DELETE FROM schedules
WHERE directory = %(directory)s AND NOT (schedule_id = ANY (%(known)s))
RETURNING schedule_id;

-- name: heartbeat
-- The newest sign of life of any scheduler, how old it is, and whether any runs that was not asked to stop.
SELECT
    count(*) AS schedulers,
    count(*) FILTER (WHERE stopped_at IS NULL AND heartbeat_at > now() - make_interval(secs => %(silent_seconds)s)) AS alive,
    max(heartbeat_at) AS newest,
    extract(epoch FROM now() - max(heartbeat_at))::double precision AS age_seconds,
    (array_agg(scheduler ORDER BY heartbeat_at DESC))[1] AS name,
    (array_agg(stopped_at ORDER BY heartbeat_at DESC))[1] AS stopped_at,
    (SELECT count(*) FROM schedules WHERE problem IS NULL) AS schedules
FROM schedulers;

-- name: absent_runs
-- Runs that should have begun and did not: due for longer than the grace time and nobody dealt with them,
-- or the newest due time was missed. Paused ones and those whose run before still goes on are not absent.
SELECT
    schedules.schedule_id, schedules.procedure, absent.due_at, absent.reason,
    extract(epoch FROM now() - absent.due_at)::double precision AS late_seconds
FROM schedules
CROSS JOIN LATERAL (
    SELECT schedules.next_due_at AS due_at, 'nobody dealt with it' AS reason
    WHERE schedules.next_due_at < now() - make_interval(secs => %(grace_seconds)s)
    AND NOT EXISTS (
        SELECT FROM schedule_runs
        WHERE schedule_runs.schedule_id = schedules.schedule_id
        AND schedule_runs.due_at >= schedules.next_due_at
    )
    UNION ALL
    SELECT newest.due_at, coalesce(newest.note, 'it was missed')
    FROM (
        SELECT due_at, outcome, note
        FROM schedule_runs
        WHERE schedule_runs.schedule_id = schedules.schedule_id
        ORDER BY due_at DESC
        LIMIT 1
    ) AS newest
    WHERE newest.outcome = 'missed'
) AS absent
WHERE schedules.problem IS NULL
AND (schedules.paused_reason IS NULL OR schedules.paused_until <= now())
AND NOT EXISTS (
    SELECT FROM schedule_pauses
    WHERE schedule_pauses.schedule_id = schedules.schedule_id
    AND ended_at IS NULL AND (until IS NULL OR until > now())
)
AND NOT EXISTS (
    SELECT FROM notebook_runs
    WHERE notebook_runs.schedule_id = schedules.schedule_id AND status = 'running'
)
ORDER BY absent.due_at;

-- name: unfit_schedules
-- Schedule files that do not fit and so do not run.
SELECT schedule_id, problem, directory, seen_at
FROM schedules
WHERE problem IS NOT NULL
ORDER BY schedule_id;

-- name: last_dealt_with
-- The newest due time of each schedule and what became of it.
SELECT DISTINCT ON (schedule_id) schedule_id, due_at, outcome, run_id::text, note, filed_late
FROM schedule_runs
ORDER BY schedule_id, due_at DESC;
