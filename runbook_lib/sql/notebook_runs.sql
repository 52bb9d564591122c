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
-- Says that a run is alive and how far it is.
UPDATE notebook_runs
SET heartbeat_at = now(), cells_done = %(cells_done)s
WHERE run_id = %(run_id)s::uuid AND status = 'running';

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

-- name: list_runs
-- The newest runs, of one procedure or of all.
SELECT
    run_id::text, procedure, status, verdict, actor, trigger, schedule_id, due_at, started_at, ended_at,
    error, archive_notebook, archive_html
FROM notebook_runs
WHERE %(procedure)s::text IS NULL OR procedure = %(procedure)s
ORDER BY started_at DESC
LIMIT %(limit)s;

-- name: find_runs
-- Runs whose id begins like this; two are enough to know that it is not unique.
SELECT
    run_id::text, procedure, status, verdict, parameters, results, actor, trigger, schedule_id, due_at,
    started_at, ended_at, heartbeat_at, host, pid, source_sha256, code_commit, database_identity,
    package_versions, cells_total, cells_done, error, archive_notebook, archive_html, archive_sha256,
    filed_late
FROM notebook_runs
WHERE run_id::text LIKE %(beginning)s || '%%'
ORDER BY started_at DESC
LIMIT 2;
