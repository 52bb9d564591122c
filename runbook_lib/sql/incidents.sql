-- Incidents, their timeline, and what was done meanwhile.

-- name: open_incident
-- Opens an incident, or files late one that was opened while the database was away.
INSERT INTO incidents (
    incident, title, severity, lead, began_at, opened_at, opened_by, alert_id, cause, procedure, parameters, filed_late
)
VALUES (
    %(incident)s, %(title)s, %(severity)s, %(lead)s, %(began_at)s, %(opened_at)s, %(opened_by)s,
    %(alert_id)s::uuid, %(cause)s, %(procedure)s, %(parameters)s, %(filed_late)s
)
ON CONFLICT (incident) DO NOTHING;

-- name: list_incidents
-- Incidents, open ones first, then the newest; with how much their timelines hold.
SELECT
    incidents.*, coalesce(entry_count, 0) AS entry_count, coalesce(cell_count, 0) AS cell_count,
    coalesce(responders, '{}') AS responders, last_at
FROM incidents
LEFT JOIN LATERAL (
    SELECT
        count(*) AS entry_count, count(*) FILTER (WHERE kind = 'cell') AS cell_count,
        array_agg(DISTINCT actor ORDER BY actor) AS responders, max(at) AS last_at
    FROM timeline_entries
    WHERE timeline_entries.incident = incidents.incident
) AS told ON true
WHERE status = 'open' OR %(closed)s
ORDER BY status = 'open' DESC, opened_at DESC
LIMIT %(limit)s;

-- name: incidents_by_beginning
-- The incidents whose id begins with, or ends in, what somebody typed; two are enough to say that it is not one.
SELECT *
FROM incidents
WHERE incident LIKE %(beginning)s || '%%' OR incident LIKE '%%-' || %(beginning)s
ORDER BY opened_at DESC
LIMIT 2;

-- name: close_incident
-- Closes an incident, once.
UPDATE incidents
SET status = 'closed', closed_at = now(), closed_by = %(actor)s, resolution = %(resolution)s,
    archive_objects = %(archive_objects)s
WHERE incident = %(incident)s AND status = 'open'
RETURNING closed_at;

-- name: write_entry
-- Writes an entry of the timeline, or completes it. Each write holds all of it: a cell's end may come to the
-- database before its beginning, when that waited in a file.
INSERT INTO timeline_entries AS entry (
    entry_id, incident, kind, at, actor, host, said, status, ended_at, seconds, notebook, run_id, cell_id,
    cell_number, cell_count, cell_title, source_sha256, verdict, error, pid, boot_id, filed_late
)
VALUES (
    %(entry_id)s::uuid, %(incident)s, %(kind)s, %(at)s, %(actor)s, %(host)s, %(said)s, %(status)s,
    %(ended_at)s, %(seconds)s, %(notebook)s, %(run_id)s::uuid, %(cell_id)s, %(cell_number)s, %(cell_count)s,
    %(cell_title)s, %(source_sha256)s, %(verdict)s, %(error)s, %(pid)s, %(boot_id)s, %(filed_late)s
)
ON CONFLICT (entry_id) DO UPDATE
SET status = EXCLUDED.status,
    ended_at = EXCLUDED.ended_at,
    seconds = EXCLUDED.seconds,
    said = EXCLUDED.said,
    verdict = EXCLUDED.verdict,
    error = EXCLUDED.error,
    filed_late = entry.filed_late OR EXCLUDED.filed_late
WHERE entry.status IN ('started', 'lost') AND EXCLUDED.status <> 'started';

-- name: timeline
-- What happened in an incident, in order.
SELECT
    entry_id::text, incident, kind, at, actor, host, said, status, ended_at, seconds, notebook, run_id::text,
    cell_id, cell_number, cell_count, cell_title, source_sha256, verdict, error, filed_late
FROM timeline_entries
WHERE incident = %(incident)s
ORDER BY at, recorded_at, entry_id;

-- name: cells_by_hand
-- Cells executed outside of any incident, in notebooks that were opened where procedures are kept; the newest first.
SELECT
    entry_id::text, at, actor, host, said, status, ended_at, seconds, notebook, run_id::text, cell_number,
    cell_count, cell_title, verdict, error, filed_late
FROM timeline_entries
WHERE incident IS NULL AND kind = 'cell'
ORDER BY at DESC
LIMIT %(limit)s;

-- name: cells_under_way
-- Cells that have begun and not ended: of this host, and of one incident on any host.
SELECT entry_id::text, host, pid, boot_id, at
FROM timeline_entries
WHERE status = 'started' AND (host = %(host)s OR incident = %(incident)s);

-- name: close_lost_cells
-- Cells whose kernel ended before they did.
UPDATE timeline_entries
SET status = 'lost', ended_at = now(), error = %(error)s
WHERE entry_id = ANY (%(entries)s::uuid[]) AND status = 'started';

-- name: actions_meanwhile
-- What operators did while it lasted, and what cells of its notebooks did, with before and after.
SELECT
    action_id::text, acted_at, ended_at, actor, host, action, target, reason, change_id::text, run_id::text,
    outcome, before, after, error
FROM admin_actions
WHERE (acted_at >= %(since)s AND acted_at <= %(until)s)
OR run_id IN (SELECT run_id FROM timeline_entries WHERE incident = %(incident)s)
ORDER BY acted_at, action_id;

-- name: alerts_meanwhile
-- Alerts that were open while it lasted.
SELECT alert_id::text, cause, status, severity, since, opened_at, resolved_at, acknowledged_by, evidence ->> 'message' AS message
FROM alerts
WHERE opened_at <= %(until)s AND (resolved_at IS NULL OR resolved_at >= %(since)s)
ORDER BY opened_at;

-- name: runs_of_incident
-- Runs of procedures that belong to it, with what they found.
SELECT run_id::text, procedure, status, verdict, actor, trigger, started_at, ended_at, error, archive_notebook, archive_html
FROM notebook_runs
WHERE incident = %(incident)s
ORDER BY started_at;
