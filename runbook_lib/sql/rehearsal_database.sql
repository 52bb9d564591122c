-- Faults of the database. Only ever run on a disposable one.

-- name: make_role
-- An ordinary role that may do all with our tables, as a worker of its own would log in.
DO $$
BEGIN
    EXECUTE format('CREATE ROLE %%I LOGIN PASSWORD %%L', %(role)s, %(password)s);
    EXECUTE format('GRANT ALL ON ALL TABLES IN SCHEMA public TO %%I', %(role)s);
    EXECUTE format('GRANT pg_monitor TO %%I', %(role)s);
END
$$;

-- name: drop_role
-- The role of a staging is gone, with what it was given.
DO $$
BEGIN
    EXECUTE format('DROP OWNED BY %%I', %(role)s);
    EXECUTE format('DROP ROLE %%I', %(role)s);
END
$$;

-- name: change_password
-- The password is another one from now on; sessions that are open go on.
DO $$
BEGIN
    EXECUTE format('ALTER ROLE %%I PASSWORD %%L', %(role)s, 'changed');
END
$$;

-- name: limit_role
-- The role may hold two connections.
DO $$
BEGIN
    EXECUTE format('ALTER ROLE %%I CONNECTION LIMIT 2', %(role)s);
END
$$;

-- name: revoke_update
-- The role may no longer change jobs.
DO $$
BEGIN
    EXECUTE format('REVOKE UPDATE ON content_jobs FROM %%I', %(role)s);
END
$$;

-- name: lock_jobs
-- The whole table, so that nobody even reads it.
LOCK TABLE content_jobs IN ACCESS EXCLUSIVE MODE;

-- name: lock_pending_rows
-- Every row that waits, as a forgotten console holds them.
SELECT FROM content_jobs
WHERE status = 'pending'
FOR UPDATE;

-- name: read_only_database
-- New sessions begin read only.
DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %%I SET default_transaction_read_only = on', current_database());
END
$$;

-- name: rename_column
-- A column has another name than the code expects.
ALTER TABLE content_jobs RENAME COLUMN priority TO importance;

-- name: drop_status_rule
-- The rule for a job's status is gone.
ALTER TABLE content_jobs DROP CONSTRAINT content_jobs_status_check;

-- name: other_status_rule
-- The rule for a job's status knows other words than the code writes.
ALTER TABLE content_jobs
ADD CONSTRAINT content_jobs_status_check CHECK (status IN ('pending', 'completed', 'error', 'working')) NOT VALID;

-- name: many_jobs
-- So many jobs that wait.
INSERT INTO content_jobs (topic)
SELECT 'many ' || number
FROM generate_series(1, %(count)s) AS number;

-- name: drop_claim_index
-- The index by which jobs are claimed is gone.
DROP INDEX content_jobs_due;

-- name: analyze_jobs
-- The planner knows how many jobs there are.
ANALYZE content_jobs;

-- name: is_there
-- Whether the server still talks to this session.
SELECT 1;
