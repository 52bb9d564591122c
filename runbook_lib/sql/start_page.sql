-- What the start page knows of the moment.

-- name: open_alerts
-- Alerts that are not resolved, the worst first, with the procedure that each names.
SELECT cause, severity, level, since,
    evidence->>'procedure' AS procedure, coalesce(evidence->'parameters', '{}'::jsonb) AS parameters
FROM alerts
WHERE resolved_at IS NULL
ORDER BY severity = 'critical' DESC, since
LIMIT %(row_count)s;

-- name: alert_named
-- The procedure that the newest alert of a cause named, resolved or not.
SELECT cause, evidence->>'procedure' AS procedure, coalesce(evidence->'parameters', '{}'::jsonb) AS parameters
FROM alerts
WHERE cause = %(cause)s AND evidence->>'procedure' IS NOT NULL
ORDER BY opened_at DESC
LIMIT 1;
