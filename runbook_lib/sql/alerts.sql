-- States of checks, alerts, and what people do with them.

-- name: take_turn_to_observe
-- Lets one observation after another in: whoever holds this row decides about alerts. Returns the
-- database's time.
SELECT clock_timestamp() AS now
FROM monitor_turns
WHERE turn = 'observe'
FOR UPDATE;

-- name: check_states
-- What is remembered of every check.
SELECT check_name, verdict, message, value, unit, threshold, since, checked_at, details, bad_since, bad_times, good_since, changes
FROM check_states
ORDER BY check_name;

-- name: save_check_states
-- Writes what checks answered and what is remembered of them.
INSERT INTO check_states AS state (
    check_name, verdict, message, value, unit, threshold, since, checked_at, details, bad_since, bad_times, good_since, changes
)
SELECT check_name, verdict, message, value, unit, threshold, since, checked_at, details, bad_since, bad_times, good_since, changes
FROM jsonb_to_recordset(%(states)s::jsonb) AS given (
    check_name text, verdict text, message text, value jsonb, unit text, threshold jsonb, since timestamptz,
    checked_at timestamptz, details jsonb, bad_since timestamptz, bad_times integer, good_since timestamptz,
    changes timestamptz[]
)
ON CONFLICT (check_name) DO UPDATE
SET verdict = EXCLUDED.verdict,
    message = EXCLUDED.message,
    value = EXCLUDED.value,
    unit = EXCLUDED.unit,
    threshold = EXCLUDED.threshold,
    since = EXCLUDED.since,
    checked_at = EXCLUDED.checked_at,
    details = EXCLUDED.details,
    bad_since = EXCLUDED.bad_since,
    bad_times = EXCLUDED.bad_times,
    good_since = EXCLUDED.good_since,
    changes = EXCLUDED.changes
WHERE state.checked_at <= EXCLUDED.checked_at;

-- name: save_check_values
-- Keeps the figures of one survey.
INSERT INTO check_values (check_name, checked_at, value, verdict)
SELECT check_name, checked_at, value, verdict
FROM jsonb_to_recordset(%(values)s::jsonb) AS given (check_name text, checked_at timestamptz, value float8, verdict text)
ON CONFLICT DO NOTHING;

-- name: recent_values
-- A check's figures of the last hours, the oldest first.
SELECT checked_at, value, verdict
FROM check_values
WHERE check_name = %(check_name)s AND checked_at >= now() - make_interval(hours => %(hours)s)
ORDER BY checked_at;

-- name: forget_old_values
-- Figures are kept for two days, states of checks that are gone for thirty.
WITH old_states AS (
    DELETE FROM check_states
    WHERE checked_at < now() - interval '30 days'
)
DELETE FROM check_values
WHERE checked_at < now() - interval '2 days';

-- name: unsettled_alerts
-- Alerts that are open, or whose end has still to be told.
SELECT *
FROM alerts
WHERE resolved_at IS NULL OR (announced_at IS NOT NULL AND recovery_told_at IS NULL)
ORDER BY opened_at;

-- name: save_alerts
-- Writes alerts as they stand now.
INSERT INTO alerts AS alert (
    alert_id, cause, status, severity, level, also_told, owner, since, opened_at, last_seen_at, seen_times, evidence,
    flapping, flapping_told, announced_at, announced_severity, told_at, level_since, acknowledged_at, acknowledged_by,
    acknowledged_note, resolved_at, resolution, recovery_told_at, filed_late
)
SELECT
    alert_id, cause, status, severity, level, also_told, owner, since, opened_at, last_seen_at, seen_times, evidence,
    flapping, flapping_told, announced_at, announced_severity, told_at, level_since, acknowledged_at, acknowledged_by,
    acknowledged_note, resolved_at, resolution, recovery_told_at, %(filed_late)s
FROM jsonb_to_recordset(%(alerts)s::jsonb) AS given (
    alert_id uuid, cause text, status text, severity text, level integer, also_told integer[], owner text,
    since timestamptz, opened_at timestamptz, last_seen_at timestamptz, seen_times integer, evidence jsonb,
    flapping boolean, flapping_told boolean, announced_at timestamptz, announced_severity text, told_at timestamptz,
    level_since timestamptz, acknowledged_at timestamptz, acknowledged_by text, acknowledged_note text,
    resolved_at timestamptz, resolution text, recovery_told_at timestamptz
)
ON CONFLICT (alert_id) DO UPDATE
SET status = EXCLUDED.status,
    severity = EXCLUDED.severity,
    level = EXCLUDED.level,
    last_seen_at = EXCLUDED.last_seen_at,
    seen_times = EXCLUDED.seen_times,
    evidence = EXCLUDED.evidence,
    flapping = EXCLUDED.flapping,
    flapping_told = EXCLUDED.flapping_told,
    announced_at = EXCLUDED.announced_at,
    announced_severity = EXCLUDED.announced_severity,
    told_at = EXCLUDED.told_at,
    level_since = EXCLUDED.level_since,
    acknowledged_at = EXCLUDED.acknowledged_at,
    acknowledged_by = EXCLUDED.acknowledged_by,
    acknowledged_note = EXCLUDED.acknowledged_note,
    resolved_at = EXCLUDED.resolved_at,
    resolution = EXCLUDED.resolution,
    recovery_told_at = EXCLUDED.recovery_told_at,
    filed_late = alert.filed_late OR EXCLUDED.filed_late;

-- name: list_alerts
-- Alerts with how far their deliveries came: what is open first, the worst first; resolved ones of the
-- last days only when asked for.
SELECT alert.*, coalesce(sent, 0) AS sent, coalesce(waiting, 0) AS waiting, coalesce(failed, 0) AS failed
FROM alerts AS alert
LEFT JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE status = 'sent') AS sent,
        count(*) FILTER (WHERE status = 'pending') AS waiting,
        count(*) FILTER (WHERE status = 'failed') AS failed
    FROM alert_deliveries AS delivery
    WHERE delivery.alert_id = alert.alert_id
) AS deliveries ON true
WHERE resolved_at IS NULL OR (%(resolved)s AND resolved_at >= now() - make_interval(days => %(days)s))
ORDER BY resolved_at IS NOT NULL, severity = 'critical' DESC, opened_at DESC
LIMIT %(limit)s;

-- name: alerts_by_prefix
-- The alerts whose id begins with what somebody typed; two are enough to say that it is not one.
SELECT *
FROM alerts
WHERE alert_id::text LIKE %(prefix)s || '%%'
ORDER BY opened_at DESC
LIMIT 2;

-- name: deliveries_of_alert
-- What was sent, or is to be sent, of one alert.
SELECT delivery_id, kind, target, status, attempts, created_at, next_attempt_at, sent_at, seconds, last_error, filed_late
FROM alert_deliveries
WHERE alert_id = %(alert_id)s::uuid
ORDER BY created_at, target;

-- name: alert_by_id
-- One alert.
SELECT *
FROM alerts
WHERE alert_id = %(alert_id)s::uuid;

-- name: lock_alert
-- One alert, so that its acknowledgement and a survey come one after another.
SELECT *
FROM alerts
WHERE alert_id = %(alert_id)s::uuid
FOR UPDATE;

-- name: undelivered_events
-- Events that nobody was told of yet: taken by one monitor, and marked when its transaction commits.
SELECT event_id, occurred_at, kind, level, message, worker, job_id::text, provider, details
FROM events
WHERE delivered_at IS NULL AND level <> 'info'
ORDER BY event_id
LIMIT 500
FOR UPDATE SKIP LOCKED;

-- name: mark_events
-- Events that an alert has taken up.
UPDATE events
SET delivered_at = now()
WHERE event_id = ANY(%(event_ids)s);

-- name: provider_pauses_now
-- The providers that are paused: the alert of an ended pause ends as well.
SELECT provider
FROM provider_pauses;
