-- Causes that no rule knows, at the database. Only ever run on a disposable one.

-- name: audit_trigger_that_raises
-- Somebody's audit refuses every job that is done.
CREATE FUNCTION audit_jobs() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    RAISE EXCEPTION 'audit: no auditor is set for this session' USING ERRCODE = 'P0001';
END
$function$;
CREATE TRIGGER audit_jobs BEFORE UPDATE ON content_jobs FOR EACH ROW WHEN (NEW.status = 'completed') EXECUTE FUNCTION audit_jobs();

-- name: slow_trigger
-- Somebody's trigger asks something slow each time that a job changes hands.
CREATE FUNCTION enrich_jobs() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    PERFORM pg_sleep(20);
    RETURN NEW;
END
$function$;
CREATE TRIGGER enrich_jobs BEFORE UPDATE ON content_jobs FOR EACH ROW WHEN (NEW.status = 'processing') EXECUTE FUNCTION enrich_jobs();

-- name: rule_that_swallows_updates
-- A rule that was meant for an archive does nothing in place of each update.
CREATE RULE keep_jobs AS ON UPDATE TO content_jobs DO INSTEAD NOTHING;

-- name: articles_must_differ_in_model
-- Somebody made an index unique by mistake: there can be one article of a model.
DELETE FROM articles;
CREATE UNIQUE INDEX articles_by_model ON articles (model);

-- name: no_place_for_runs
-- The partitions that take new attempts are gone.
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'job_runs'::regclass LOOP
        EXECUTE format('ALTER TABLE job_runs DETACH PARTITION %%s', part);
    END LOOP;
END
$$;

-- name: rows_hidden_from_the_role
-- Row-level security without a policy: the role sees no job at all.
ALTER TABLE content_jobs ENABLE ROW LEVEL SECURITY;

-- name: shift_the_past
-- What was done was done so many minutes earlier: since then nothing was.
WITH runs AS (
    UPDATE job_runs
    SET execution_time = execution_time - make_interval(mins => %(minutes)s), started_at = started_at - make_interval(mins => %(minutes)s),
        completed_at = completed_at - make_interval(mins => %(minutes)s)
), jobs AS (
    UPDATE content_jobs
    SET created_at = created_at - make_interval(mins => %(minutes)s), updated_at = updated_at - make_interval(mins => %(minutes)s),
        completed_at = completed_at - make_interval(mins => %(minutes)s)
    WHERE status = 'completed'
)
UPDATE workers
SET started_at = started_at - make_interval(mins => %(minutes)s + 60);

-- name: jobs_of_before
-- Jobs that came so many minutes ago and wait.
INSERT INTO content_jobs (topic, category, source, created_at, updated_at)
SELECT 'How to keep plant ' || number, 'News', 'rehearsal', now() - make_interval(mins => %(minutes)s), now() - make_interval(mins => %(minutes)s)
FROM generate_series(1, %(count)s) AS number;

-- name: runs_trigger_that_raises
-- Somebody's audit refuses every attempt that is recorded.
CREATE FUNCTION audit_runs() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    RAISE EXCEPTION 'audit: runs are closed for this month' USING ERRCODE = 'P0001';
END
$function$;
CREATE TRIGGER audit_runs BEFORE INSERT ON job_runs FOR EACH ROW EXECUTE FUNCTION audit_runs();

-- name: claims_are_vetoed
-- Somebody's trigger passes over each job that is claimed: no error, and no row.
CREATE FUNCTION hold_jobs() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    RETURN NULL;
END
$function$;
CREATE TRIGGER hold_jobs BEFORE UPDATE ON content_jobs FOR EACH ROW WHEN (NEW.status = 'processing') EXECUTE FUNCTION hold_jobs();

-- name: commits_wait_for_standbys
-- From the next session on a commit waits for the standbys that the server names.
ALTER ROLE CURRENT_USER SET synchronous_commit = 'on';

-- name: name_a_standby
-- A standby that is not there.
ALTER SYSTEM SET synchronous_standby_names = 'gone_with_its_host';

-- name: name_no_standby
-- None any more.
ALTER SYSTEM RESET synchronous_standby_names;

-- name: read_the_configuration
-- The server reads its files again.
SELECT pg_reload_conf();

-- name: sessions_that_wait_for_a_standby
-- How many commits wait for a standby's receipt.
SELECT count(*)
FROM pg_stat_activity
WHERE wait_event = 'SyncRep';
