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
-- What is recorded of a run that ended: every column but the signs of life. No row while it runs. A column
-- may be added; one that was recorded stays, or entries that name it no longer fit.
SELECT
    run_id::text, procedure, status, verdict, parameters, results, actor, trigger, schedule_id, due_at,
    incident, started_at, ended_at, host, pid, boot_id, source_sha256, code_commit, database_identity,
    package_versions, cells_total, cells_done, error, archive_notebook, archive_html, archive_sha256,
    archive_objects, filed_late
FROM notebook_runs
WHERE run_id = %(run_id)s::uuid AND ended_at IS NOT NULL;

-- name: actions_of_run
-- What the cells of a run did to rows and objects, in the order in which they did it. Digests are made of
-- just these columns, so none is ever added or taken away.
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

-- name: hold_snapshot
-- All that this transaction reads next is of one moment, also while others append.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;

-- name: all_entries
-- Every entry with its record, and whether both stand beside the objects by now.
SELECT sequence, entry, record, copied_at IS NULL AS uncopied
FROM archive_entries
ORDER BY sequence;

-- name: records_of_runs
-- What the rows of all runs that ended say now; the same columns as of one run.
SELECT
    run_id::text, procedure, status, verdict, parameters, results, actor, trigger, schedule_id, due_at,
    incident, started_at, ended_at, host, pid, boot_id, source_sha256, code_commit, database_identity,
    package_versions, cells_total, cells_done, error, archive_notebook, archive_html, archive_sha256,
    archive_objects, filed_late
FROM notebook_runs
WHERE ended_at IS NOT NULL;

-- name: runs_under_way
-- Runs that have not ended: what they left in the archive so far is not entered yet.
SELECT run_id::text
FROM notebook_runs
WHERE ended_at IS NULL;

-- name: actions_of_runs
-- What the rows of all actions by cells say now; the same columns as of one run.
SELECT
    action_id::text, acted_at, ended_at, actor, host, action, target, reason, change_id::text, outcome,
    before, after, error
FROM admin_actions
WHERE run_id IS NOT NULL;

-- name: entries_about
-- The entries about one run, in the chain's order: its ends, its sign-offs, its deletion.
SELECT sequence, kind, entry, record
FROM archive_entries
WHERE subject = %(subject)s
ORDER BY sequence;

-- name: runs_to_prune
-- Runs that ended longer ago than their procedure's period; the oldest first, with how many there are in all.
SELECT
    run_id::text, procedure, status, verdict, actor, started_at, ended_at, count(*) OVER () AS run_count
FROM notebook_runs
CROSS JOIN LATERAL (
    SELECT coalesce((%(by_procedure)s::jsonb ->> procedure)::integer, %(keep_days)s) AS days
) AS period
WHERE days > 0
AND ended_at < %(now)s::timestamptz - make_interval(days => days)
AND (%(procedure)s::text IS NULL OR procedure = %(procedure)s)
AND NOT (
    %(keep_signed_off)s
    AND EXISTS (
        SELECT
        FROM archive_entries
        WHERE subject = run_id::text AND kind = 'sign_off'
    )
)
ORDER BY ended_at, run_id
LIMIT %(limit)s;

-- name: remove_run
-- Removes a run's row; its entries stay.
DELETE FROM notebook_runs
WHERE run_id = %(run_id)s::uuid AND ended_at IS NOT NULL
RETURNING procedure, started_at, ended_at;

-- name: empty_records
-- Removes the records of these entries; the entries keep their digests, and the chain stays whole.
UPDATE archive_entries
SET record = NULL
WHERE sequence = ANY (%(sequences)s);
