-- What is to be sent where, and what monitors agree on.

-- name: add_deliveries
-- Writes what is to be sent, or was sent while this could not be written; what was settled stays so.
INSERT INTO alert_deliveries AS delivery (
    delivery_id, alert_id, kind, severity, target_key, target, title, body, created_at, status, attempts,
    next_attempt_at, sent_at, seconds, last_error, filed_late
)
SELECT
    delivery_id, alert_id, kind, severity, target_key, target, title, body, created_at, status, attempts,
    next_attempt_at, sent_at, seconds, last_error, %(filed_late)s
FROM jsonb_to_recordset(%(deliveries)s::jsonb) AS given (
    delivery_id uuid, alert_id uuid, kind text, severity text, target_key text, target text, title text, body text,
    created_at timestamptz, status text, attempts integer, next_attempt_at timestamptz, sent_at timestamptz,
    seconds float8, last_error text
)
ON CONFLICT (delivery_id) DO UPDATE
SET status = EXCLUDED.status,
    attempts = EXCLUDED.attempts,
    sent_at = EXCLUDED.sent_at,
    seconds = EXCLUDED.seconds,
    last_error = EXCLUDED.last_error,
    lease_until = NULL,
    filed_late = EXCLUDED.filed_late
WHERE delivery.status = 'pending' AND EXCLUDED.status <> 'pending';

-- name: supersede_deliveries
-- Of an alert that ended, what was not sent yet: its end tells all of it.
UPDATE alert_deliveries
SET status = 'superseded'
WHERE alert_id = ANY(%(alert_ids)s::uuid[])
AND status = 'pending'
AND kind <> 'resolved'
AND (lease_until IS NULL OR lease_until <= now());

-- name: claim_deliveries
-- Takes deliveries that are due, to addresses that this monitor knows, for the time of a lease.
UPDATE alert_deliveries
SET lease_until = now() + make_interval(secs => %(lease_seconds)s),
    claimed_by = %(monitor)s,
    attempts = attempts + 1
WHERE delivery_id IN (
    SELECT delivery_id
    FROM alert_deliveries
    WHERE status = 'pending'
    AND target_key = ANY(%(target_keys)s)
    AND next_attempt_at <= now()
    AND (lease_until IS NULL OR lease_until <= now())
    ORDER BY created_at, delivery_id
    LIMIT %(count)s
    FOR UPDATE SKIP LOCKED
)
RETURNING delivery_id, alert_id, kind, severity, target_key, target, title, body, created_at, status,
    attempts, next_attempt_at, sent_at, seconds, last_error;

-- name: renew_delivery
-- Holds a delivery that waited for others to the same address; nothing when somebody else has it by now.
UPDATE alert_deliveries
SET lease_until = now() + make_interval(secs => %(lease_seconds)s)
WHERE delivery_id = %(delivery_id)s::uuid AND claimed_by = %(monitor)s AND status = 'pending' AND lease_until > now()
RETURNING delivery_id;

-- name: settle_delivery
-- What became of a delivery. Only who holds its lease may say so.
UPDATE alert_deliveries
SET status = %(status)s,
    sent_at = CASE WHEN %(status)s = 'sent' THEN now() END,
    seconds = %(seconds)s,
    last_error = %(last_error)s,
    next_attempt_at = now() + make_interval(secs => %(retry_seconds)s),
    lease_until = NULL
WHERE delivery_id = %(delivery_id)s::uuid AND claimed_by = %(monitor)s AND status = 'pending';

-- name: give_up_deliveries
-- What could not be sent for so long is given up, and stays as an alarm.
UPDATE alert_deliveries
SET status = 'failed',
    last_error = coalesce(last_error, 'No monitor that runs knows this address.')
WHERE status = 'pending'
AND created_at < now() - make_interval(hours => %(hours)s)
AND (lease_until IS NULL OR lease_until <= now());

-- name: undelivered
-- By address: what failed at least once and still waits, and what was given up in the last day.
SELECT
    target,
    count(*) FILTER (WHERE status = 'pending') AS waiting,
    count(*) FILTER (WHERE status = 'failed') AS given_up,
    min(created_at) AS since,
    (array_agg(last_error ORDER BY created_at DESC))[1] AS reason
FROM alert_deliveries
WHERE (status = 'pending' AND last_error IS NOT NULL)
OR (status = 'failed' AND created_at > now() - interval '2 days')
GROUP BY target
ORDER BY target;

-- name: take_survey_turn
-- Takes the survey of this interval, if nobody has it: one monitor a time, by the database's clock.
UPDATE monitor_turns
SET lease_until = clock_timestamp() + make_interval(secs => %(lease_seconds)s),
    claimed_by = %(monitor)s
WHERE turn = 'survey'
AND (%(at_once)s OR due_at <= clock_timestamp())
AND (lease_until IS NULL OR lease_until <= clock_timestamp())
RETURNING turn;

-- name: end_survey_turn
-- The survey was made: the next one is due an interval after this one was.
UPDATE monitor_turns
SET due_at = greatest(due_at, clock_timestamp() - make_interval(secs => %(interval_seconds)s))
        + make_interval(secs => %(interval_seconds)s),
    lease_until = NULL
WHERE turn = 'survey' AND claimed_by = %(monitor)s;

-- name: beat
-- A monitor's sign of life; true for its first one.
INSERT INTO monitor_beats AS beat (monitor, host, pid, boot_id, version, interval_seconds, turns, problem)
VALUES (%(monitor)s, %(host)s, %(pid)s, %(boot_id)s, %(version)s, %(interval_seconds)s, 1, %(problem)s)
ON CONFLICT (monitor) DO UPDATE
SET beat_at = now(),
    turns = beat.turns + 1,
    problem = EXCLUDED.problem,
    stopped_at = CASE WHEN %(stopped)s THEN now() END
RETURNING turns = 1;

-- name: beats
-- Monitors that did not stop by themselves, and how long they have been silent.
SELECT
    monitor, host, pid, boot_id, started_at, beat_at, problem, interval_seconds,
    extract(epoch FROM now() - beat_at)::float8 AS silent_seconds
FROM monitor_beats
WHERE stopped_at IS NULL
ORDER BY beat_at DESC;

-- name: close_beats
-- Monitors whose process is gone and replaced, or that were silent for so long that nobody expects them.
UPDATE monitor_beats
SET stopped_at = now()
WHERE stopped_at IS NULL
AND (monitor = ANY(%(monitors)s) OR beat_at < now() - interval '1 day');

-- name: forget_old_beats
-- Monitors that stopped a month ago.
DELETE FROM monitor_beats
WHERE stopped_at < now() - interval '30 days';

-- name: claim_report
-- Takes a report that is due; of the first of its kind only the time is noted, since nobody knows
-- whether anything was expected before.
INSERT INTO monitor_reports (kind, due_at, made_by)
SELECT %(kind)s, date_trunc(%(unit)s, now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC', %(monitor)s
ON CONFLICT DO NOTHING
RETURNING due_at, NOT EXISTS (SELECT FROM monitor_reports WHERE kind = %(kind)s) AS is_first;

-- name: file_report
-- What a report said.
UPDATE monitor_reports
SET verdict = %(verdict)s,
    message = %(message)s,
    sent = %(sent)s
WHERE kind = %(kind)s AND due_at = %(due_at)s;
