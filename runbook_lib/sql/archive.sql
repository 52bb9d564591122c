-- The archive's chain: entries are appended under the lock of one row, and never changed.

-- name: lock_head
-- Locks the chain's end until this transaction ends. Time never falls along the chain, whatever a clock does.
SELECT chain, sequence, sha256, greatest(clock_timestamp(), at) AS at
FROM archive_head
FOR UPDATE;

-- name: append_entry
-- Appends an entry and moves the chain's end to it.
WITH appended AS (
    INSERT INTO archive_entries (sequence, entry, record)
    VALUES (%(sequence)s, %(entry)s, %(record)s)
    RETURNING sequence
)
UPDATE archive_head
SET sequence = appended.sequence, sha256 = %(sha256)s, at = %(at)s
FROM appended;

-- name: head
-- The chain's end.
SELECT chain, sequence, sha256, at
FROM archive_head;

-- name: record_of_run
-- What is recorded of a run that ended: every column but the signs of life. No row while it runs.
SELECT
    run_id::text, procedure, status, verdict, parameters, results, actor, trigger, schedule_id, due_at,
    incident, started_at, ended_at, host, pid, boot_id, source_sha256, code_commit, database_identity,
    package_versions, cells_total, cells_done, error, archive_notebook, archive_html, archive_sha256,
    archive_objects, filed_late
FROM notebook_runs
WHERE run_id = %(run_id)s::uuid AND ended_at IS NOT NULL;

-- name: actions_of_run
-- What the cells of a run did to rows and objects, in the order in which they did it.
SELECT
    action_id::text, acted_at, ended_at, actor, host, action, target, reason, change_id::text, outcome,
    before, after, error
FROM admin_actions
WHERE run_id = %(run_id)s::uuid AND outcome <> 'started'
ORDER BY acted_at, action_id;

-- name: not_copied
-- Entries that do not stand beside the objects yet, the oldest first; what somebody else copies is left to them.
SELECT sequence, entry, record
FROM archive_entries
WHERE copied_at IS NULL
ORDER BY sequence
LIMIT %(limit)s
FOR UPDATE SKIP LOCKED;

-- name: note_copied
-- Notes that these entries stand beside the objects.
UPDATE archive_entries
SET copied_at = now()
WHERE sequence = ANY (%(sequences)s);
