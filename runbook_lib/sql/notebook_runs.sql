-- name: open_run
-- Opens the record of a run before its kernel starts; late, one that was opened while the database was
-- away. Returns its id and time.
INSERT INTO notebook_runs (
    run_id, procedure, parameters, actor, trigger, schedule_id, due_at, incident, started_at, host, pid,
    boot_id, source_sha256, code_commit, database_identity, package_versions, cells_total, filed_late
)
VALUES (
    %(run_id)s::uuid, %(procedure)s, %(parameters)s, %(actor)s, %(trigger)s, %(schedule_id)s, %(due_at)s,
    %(incident)s, coalesce(%(started_at)s::timestamptz, now()), %(host)s, %(pid)s, %(boot_id)s, %(source_sha256)s,
    %(code_commit)s, %(database_identity)s, %(package_versions)s, %(cells_total)s, %(filed_late)s
)
ON CONFLICT (run_id) DO NOTHING
RETURNING run_id::text, started_at;

-- name: file_refusal
-- Records a run that was refused before a kernel started. Values are not kept: one may be a secret.
INSERT INTO notebook_runs (
    run_id, procedure, status, actor, trigger, schedule_id, due_at, incident, started_at, ended_at, host,
    pid, boot_id, source_sha256, code_commit, database_identity, error, filed_late
)
VALUES (
    %(run_id)s::uuid, %(procedure)s, 'refused', %(actor)s, %(trigger)s, %(schedule_id)s, %(due_at)s,
    %(incident)s, coalesce(%(ended_at)s::timestamptz, now()), coalesce(%(ended_at)s::timestamptz, now()), %(host)s,
    %(pid)s, %(boot_id)s, %(source_sha256)s, %(code_commit)s, %(database_identity)s, %(error)s,
    %(filed_late)s
)
ON CONFLICT (run_id) DO NOTHING;

-- name: beat
-- Says that a run is alive and how far it is. Returns who wants it ended.
UPDATE notebook_runs
SET heartbeat_at = now(), cells_done = %(cells_done)s, cell_number = %(cell_number)s,
    cell_title = %(cell_title)s
WHERE run_id = %(run_id)s::uuid AND status = 'running'
RETURNING cancel_requested_at, cancel_requested_by;

-- name: request_cancel
-- Asks for a run's end; its runner sees it at its next sign of life. Asking twice changes nothing.
UPDATE notebook_runs
SET cancel_requested_at = coalesce(cancel_requested_at, now()),
    cancel_requested_by = coalesce(cancel_requested_by, %(actor)s)
WHERE run_id = %(run_id)s::uuid AND status = 'running'
RETURNING cancel_requested_at;

-- name: link_resumed
-- Says from which run a run goes on, and at which cell.
UPDATE notebook_runs
SET resumed_from = %(resumed_from)s::uuid, resumed_at_cell = %(at_cell)s
WHERE run_id = %(run_id)s::uuid;

-- name: close_run
-- Closes the record as what really happened. A run that was taken for lost meanwhile is put right.
UPDATE notebook_runs
SET status = %(status)s, verdict = %(verdict)s, results = %(results)s,
    ended_at = coalesce(%(ended_at)s::timestamptz, now()), heartbeat_at = now(),
    cells_done = %(cells_done)s, cells_total = %(cells_total)s, error = %(error)s,
    archive_notebook = %(archive_notebook)s, archive_html = %(archive_html)s,
    archive_sha256 = %(archive_sha256)s, archive_objects = %(archive_objects)s,
    filed_late = filed_late OR %(filed_late)s
WHERE run_id = %(run_id)s::uuid AND status IN ('running', 'lost')
RETURNING ended_at;

-- name: stale_runs
-- Runs that still say running: those of this host, and those of any host without a sign of life for long.
SELECT
    run_id::text, procedure, parameters, actor, trigger, schedule_id, due_at, started_at, host, pid,
    boot_id, source_sha256, code_commit, database_identity,
    heartbeat_at < now() - make_interval(secs => %(silent_seconds)s) AS silent
FROM notebook_runs
WHERE status = 'running'
AND (host = %(host)s OR heartbeat_at < now() - make_interval(secs => %(silent_seconds)s))
ORDER BY started_at;

-- name: close_lost
-- Closes a run whose runner vanished, unless it has closed itself meanwhile.
UPDATE notebook_runs
SET status = 'lost', verdict = %(verdict)s, results = %(results)s, ended_at = now(),
    cells_done = %(cells_done)s, error = %(error)s, archive_notebook = %(archive_notebook)s,
    archive_html = %(archive_html)s, archive_sha256 = %(archive_sha256)s
WHERE run_id = %(run_id)s::uuid AND status = 'running'
RETURNING run_id::text;

-- name: search_runs
-- Runs that fit everything that is asked, the newest first. Conditions are compared with the value at a
-- path in results or parameters; what is absent there, or of another type than asked for, does not fit.
SELECT
    run_id::text, procedure, status, verdict, parameters, results, actor, trigger, schedule_id, due_at,
    incident, started_at, ended_at, error, archive_notebook, archive_html, filed_late
FROM notebook_runs
WHERE (%(procedure)s::text IS NULL OR %(procedure)s IN (procedure, split_part(procedure, '/', 2)))
AND (%(status)s::text IS NULL OR status = %(status)s)
AND (%(verdict)s::text IS NULL OR verdict = %(verdict)s)
AND (%(actor)s::text IS NULL OR actor = %(actor)s)
AND (%(incident)s::text IS NULL OR incident = %(incident)s)
AND (%(schedule_id)s::text IS NULL OR schedule_id = %(schedule_id)s)
AND (%(since)s::timestamptz IS NULL OR started_at >= %(since)s)
AND (%(until)s::timestamptz IS NULL OR started_at < %(until)s)
AND (%(well)s::boolean IS NULL OR (status = 'succeeded' AND verdict IS DISTINCT FROM 'critical') = %(well)s)
AND (%(ended)s::boolean IS NULL OR (ended_at IS NOT NULL) = %(ended)s)
AND (
    %(text)s::text IS NULL
    OR strpos(lower(concat_ws(' ', procedure, actor, incident, error, parameters, results)), lower(%(text)s)) > 0
)
AND (
    %(before_started_at)s::timestamptz IS NULL
    OR (started_at, run_id) < (%(before_started_at)s, %(before_run_id)s::uuid)
)
AND NOT EXISTS (
    SELECT
    FROM jsonb_to_recordset(%(conditions)s::jsonb)
        AS wanted (place text, path text[], operator text, value jsonb)
    CROSS JOIN LATERAL (
        SELECT CASE wanted.place WHEN 'result' THEN results ELSE parameters END #> wanted.path AS held
    ) AS at_path
    WHERE NOT coalesce(
        CASE
            WHEN operator = '=' THEN held = value
            WHEN operator = '!=' THEN held <> value
            WHEN operator = '~' THEN strpos(lower(held #>> '{}'), lower(value #>> '{}')) > 0
            WHEN jsonb_typeof(held) <> jsonb_typeof(value) THEN false
            WHEN operator = '<' THEN held < value
            WHEN operator = '<=' THEN held <= value
            WHEN operator = '>' THEN held > value
            WHEN operator = '>=' THEN held >= value
        END,
        false
    )
)
ORDER BY started_at DESC, run_id DESC
LIMIT %(limit)s;

-- name: procedures_named
-- The procedures of recorded runs that have this name, whole or without its chapter.
SELECT DISTINCT procedure
FROM notebook_runs
WHERE %(name)s IN (procedure, split_part(procedure, '/', 2))
ORDER BY procedure;

-- name: find_runs
-- Runs whose id begins like this; two are enough to know that it is not unique.
SELECT
    run_id::text, procedure, status, verdict, parameters, results, actor, trigger, schedule_id, due_at,
    incident, started_at, ended_at, heartbeat_at, host, pid, source_sha256, code_commit, database_identity,
    package_versions, cells_total, cells_done, error, archive_notebook, archive_html, archive_sha256,
    archive_objects, filed_late,
    cell_number, cell_title, cancel_requested_at, cancel_requested_by, resumed_from::text,
    resumed_at_cell
FROM notebook_runs
WHERE run_id::text LIKE %(beginning)s || '%%'
ORDER BY started_at DESC
LIMIT 2;
