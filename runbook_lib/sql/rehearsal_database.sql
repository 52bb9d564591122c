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
-- The role may hold so many connections as it has now, and no more.
DO $$
BEGIN
    EXECUTE format('ALTER ROLE %%I CONNECTION LIMIT %%s', %(role)s,
        (SELECT greatest(1, count(*)) FROM pg_stat_activity WHERE usename = %(role)s));
END
$$;

-- name: limit_database
-- The database takes so many connections as it has now, and no more; superusers are not counted out.
DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %%I CONNECTION LIMIT %%s', current_database(),
        (SELECT greatest(1, count(*) - 1) FROM pg_stat_activity WHERE datname = current_database()));
END
$$;

-- name: revoke
-- The role loses a right on a table.
DO $$
BEGIN
    EXECUTE format('REVOKE %%s ON %%I FROM %%I', %(privilege)s, %(relation)s, %(role)s);
END
$$;

-- name: grant
-- The role has that right again.
DO $$
BEGIN
    EXECUTE format('GRANT %%s ON %%I TO %%I', %(privilege)s, %(relation)s, %(role)s);
END
$$;

-- name: sessions_of_workers
-- How many sessions workers have in this database.
SELECT count(*)
FROM pg_stat_activity
WHERE application_name = 'runbook-worker' AND datname = current_database();

-- name: end_sessions_of_workers
-- Ends the sessions of workers, as a fail-over does: they come back with new ones.
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE application_name = 'runbook-worker' AND datname = current_database();

-- name: lock_jobs
-- The whole table, so that nobody even reads it.
LOCK TABLE content_jobs IN ACCESS EXCLUSIVE MODE;

-- name: lock_writes
-- The whole table, so that it can be read and not written, as a trigger that is being made holds it.
LOCK TABLE content_jobs IN SHARE ROW EXCLUSIVE MODE;

-- name: lock_runs
-- The whole table of attempts: jobs are claimed, and none can be ended.
LOCK TABLE job_runs IN ACCESS EXCLUSIVE MODE;

-- name: lock_workers
-- The whole table of workers, for everybody who writes: no sign of life arrives.
LOCK TABLE workers IN SHARE MODE;

-- name: add_column
-- A migration by hand that nobody committed.
ALTER TABLE content_jobs ADD COLUMN reviewed_by text;

-- name: make_index
-- An index that is made in a transaction, and not concurrently.
CREATE INDEX content_jobs_by_topic ON content_jobs (topic);

-- name: workers_blocked_by
-- How many sessions of workers wait for what a program's session holds.
SELECT count(*)
FROM pg_stat_activity AS waiting
JOIN pg_stat_activity AS holding ON holding.pid = ANY (pg_blocking_pids(waiting.pid))
WHERE waiting.application_name = 'runbook-worker' AND holding.application_name = %(application)s;

-- name: idle_seconds
-- For how long a program's session has been sitting in its transaction.
SELECT extract(epoch FROM clock_timestamp() - state_change)::double precision
FROM pg_stat_activity
WHERE application_name = %(application)s AND datname = current_database() AND state = 'idle in transaction';

-- name: claimable
-- How many of the jobs that wait could be locked by a claim right now.
WITH free AS (SELECT job_id FROM content_jobs WHERE status = 'pending' FOR UPDATE SKIP LOCKED)
SELECT count(*) FROM free;

-- name: lock_pending_rows
-- Every row that waits, as a forgotten console holds them.
SELECT FROM content_jobs
WHERE status = 'pending'
FOR UPDATE SKIP LOCKED;

-- name: read_only_database
-- New sessions in this database begin read only.
DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %%I SET default_transaction_read_only = on', current_database());
END
$$;

-- name: read_only_database_undone
-- New sessions in this database may write again.
SET TRANSACTION READ WRITE;
DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %%I RESET default_transaction_read_only', current_database());
END
$$;

-- name: read_only_role
-- New sessions of the role begin read only.
DO $$
BEGIN
    EXECUTE format('ALTER ROLE %%I SET default_transaction_read_only = on', %(role)s);
END
$$;

-- name: rename_column
-- A column has another name than the code expects.
ALTER TABLE content_jobs RENAME COLUMN priority TO importance;

-- name: rename_column_back
-- The column has its name again.
ALTER TABLE content_jobs RENAME COLUMN importance TO priority;

-- name: drop_column
-- A column that somebody thought nobody needs.
ALTER TABLE job_runs DROP COLUMN publish_seconds;

-- name: add_column_back
-- The column is there again; what it held is gone.
ALTER TABLE job_runs ADD COLUMN publish_seconds double precision;

-- name: rename_table
-- Articles are elsewhere.
ALTER TABLE articles RENAME TO articles_old;

-- name: rename_table_back
-- Articles are where they were.
ALTER TABLE articles_old RENAME TO articles;

-- name: demand_column
-- A new column that nobody who writes an attempt knows of, and that must have a value.
ALTER TABLE job_runs ADD COLUMN cost_centre text NOT NULL DEFAULT 'none';
ALTER TABLE job_runs ALTER COLUMN cost_centre DROP DEFAULT;

-- name: demand_column_undone
-- The new column is gone.
ALTER TABLE job_runs DROP COLUMN cost_centre;

-- name: drop_status_rule
-- The rule for a job's status is gone.
ALTER TABLE content_jobs DROP CONSTRAINT content_jobs_status_check;

-- name: other_status_rule
-- The rule for a job's status knows other words than the code writes.
ALTER TABLE content_jobs
ADD CONSTRAINT content_jobs_status_check CHECK (status IN ('pending', 'completed', 'error', 'working')) NOT VALID;

-- name: add_status_rule
-- Beside the rule for a job's status another one, of a release that has other words.
ALTER TABLE content_jobs ADD CONSTRAINT content_jobs_status_words CHECK (status <> 'processing') NOT VALID;

-- name: added_status_rule_undone
-- Without it.
ALTER TABLE content_jobs DROP CONSTRAINT content_jobs_status_words;

-- name: add_title_rule
-- A rule for titles that hardly any title keeps.
ALTER TABLE articles ADD CONSTRAINT articles_title_short CHECK (length(title) < 5) NOT VALID;

-- name: title_rule_undone
-- Without it.
ALTER TABLE articles DROP CONSTRAINT articles_title_short;

-- name: status_rule_back
-- The rule for a job's status is what it was.
ALTER TABLE content_jobs
ADD CONSTRAINT content_jobs_status_check CHECK (status IN ('pending', 'processing', 'completed', 'error')) NOT VALID;

-- name: reads_priority
-- What a claim reads.
SELECT priority FROM content_jobs LIMIT 1;

-- name: reads_articles
-- What publishing reads.
SELECT body_markdown FROM articles LIMIT 1;

-- name: reads_publish_seconds
-- What ends with an attempt.
SELECT publish_seconds FROM job_runs LIMIT 1;

-- name: adds_run
-- An attempt as a worker writes it.
INSERT INTO job_runs (job_id, attempt, status, worker) VALUES (gen_random_uuid(), 1, 'completed', 'rehearsal');

-- name: changes_job
-- A job as a worker changes it.
UPDATE content_jobs SET updated_at = updated_at WHERE false;

-- name: claims_job
-- A job as a worker claims it.
UPDATE content_jobs SET status = 'processing', attempt = attempt + 1, worker = 'rehearsal', lease_until = now(), started_at = now();

-- name: deadlocks_found_sooner
-- Sessions from now on look for a deadlock after a tenth of a second: as short as the time-outs of a scene.
DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %%I SET deadlock_timeout = %%L', current_database(), '100ms');
END
$$;

-- name: in_hand
-- Jobs that workers have in their hands.
SELECT job_id FROM content_jobs WHERE status = 'processing' ORDER BY job_id LIMIT 4;

-- name: touch_job
-- A job as another program changes it: its row is locked until the end of the transaction.
UPDATE content_jobs SET keywords = keywords WHERE job_id = %(job_id)s;

-- name: deadlocks
-- How many deadlocks the server has counted in this database.
SELECT deadlocks FROM pg_stat_database WHERE datname = current_database();

-- name: many_jobs
-- So many jobs that wait.
INSERT INTO content_jobs (topic)
SELECT repeat('many ', 60) || number
FROM generate_series(1, %(count)s) AS number;

-- name: drop_claim_index
-- The index by which jobs are claimed is gone.
DROP INDEX content_jobs_due;

-- name: looks_for_jobs
-- What a claim looks for first, and how much of the table the server reads for it.
EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)
SELECT job_id
FROM content_jobs
WHERE status = 'pending' AND run_at IS NULL AND stage = 'write'
ORDER BY priority, job_id
LIMIT 3;

-- name: analyze_jobs
-- The planner knows how many jobs there are.
ANALYZE content_jobs;

-- name: is_there
-- Whether the server still talks to this session.
SELECT 1;

-- name: make_tablespace
-- A place for tables on a small disk. Cannot run inside a transaction.
CREATE TABLESPACE small LOCATION %(directory)s;

-- name: move_tables
-- All tables of this database are on the small disk.
ALTER TABLE ALL IN TABLESPACE pg_default SET TABLESPACE small;

-- name: move_indexes
-- All indexes of this database are on the small disk.
ALTER INDEX ALL IN TABLESPACE pg_default SET TABLESPACE small;

-- name: needs_room
-- Rows that need more pages than a table has.
INSERT INTO content_jobs (topic)
SELECT repeat('room ', 100) || number
FROM generate_series(1, 2000) AS number;

-- name: pools
-- The pools of PgBouncer, as its own console tells: how many clients wait in each.
SHOW POOLS;

-- name: finished_jobs
-- So many jobs that were published long ago.
INSERT INTO content_jobs (topic, category, status, stage, attempt, completed_at, created_at, updated_at, post_id, post_status, source)
SELECT 'Garden work of year ' || number, 'Guides', 'completed', 'publish', 1, now() - interval '30 days', now() - interval '30 days',
    now() - interval '30 days', 200000 + number, 'publish', 'rehearsal'
FROM generate_series(1, %(count)s) AS number;

-- name: churn
-- Each of them is changed once, and leaves a dead row.
UPDATE content_jobs SET keywords = keywords WHERE post_id > 200000;

-- name: begin
-- A transaction begins.
BEGIN;

-- name: takes_an_id
-- It changes nothing, and is one that vacuum must respect.
SELECT pg_current_xact_id();

-- name: prepare
-- It is prepared for a coordinator that never comes back to it.
PREPARE TRANSACTION 'nightly-export';

-- name: vacuum_jobs
-- As an engineer would try it. Cannot run inside a transaction.
VACUUM (ANALYZE) content_jobs;

-- name: dead_rows
-- Dead rows of jobs that nothing removed.
SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'content_jobs';
