-- The hourly rollup of runs and what marks its hours.

-- What the attempt left its job as. Without it nobody can tell, later, a failure that ended a job from
-- one that was tried again.
ALTER TABLE job_runs ADD COLUMN job_status text CHECK (job_status IN ('pending', 'completed', 'error'));
COMMENT ON COLUMN job_runs.job_status IS 'What the job became in the same transaction: pending (tried again), completed or error (ended).';

-- Attempts by outcome, in slots of an hour and of a quarter of one: days begin at a quarter of an hour
-- of UTC in every time zone, so that both add up to the days of any of them.
CREATE TABLE run_slots (
    minutes           smallint    NOT NULL CHECK (minutes IN (15, 60)),
    begins            timestamptz NOT NULL,
    completed         integer     NOT NULL,
    error             integer     NOT NULL,
    lost              integer     NOT NULL,
    released          integer     NOT NULL,
    left_out          integer     NOT NULL,
    jobs_completed    integer     NOT NULL,
    jobs_failed       integer     NOT NULL,
    last_completed_at timestamptz,
    PRIMARY KEY (minutes, begins)
);
COMMENT ON TABLE run_slots IS 'Rollup of job_runs: attempts by outcome, and the jobs that they ended. Made again from the rows whenever they change.';
COMMENT ON COLUMN run_slots.left_out IS 'Ended by a person or by protection (cancelled, quarantined): in no rate.';

-- Durations on a logarithmic scale: bucket b holds what is longer than 1 ms × 1.1^(b-1) and not longer
-- than 1 ms × 1.1^b. Only buckets that hold something are kept, and counts add up exactly.
CREATE TABLE run_slot_durations (
    minutes   smallint         NOT NULL,
    begins    timestamptz      NOT NULL,
    stage     text             NOT NULL,
    model     text             NOT NULL DEFAULT '',
    completed boolean          NOT NULL,
    attempts  integer          NOT NULL,
    seconds   double precision NOT NULL,
    longest   double precision NOT NULL,
    buckets   smallint[]       NOT NULL,
    counts    integer[]        NOT NULL
);
CREATE INDEX run_slot_durations_begins ON run_slot_durations (minutes, begins);

-- Attempts that failed, by cause. `job_hashes` holds up to 64 of the smallest hashes of the jobs: as many
-- distinct jobs are counted exactly, more are estimated.
CREATE TABLE run_hour_failures (
    begins      timestamptz NOT NULL,
    error_class text        NOT NULL,
    fingerprint text        NOT NULL,
    attempts    integer     NOT NULL,
    job_hashes  integer[]   NOT NULL,
    first_seen  timestamptz NOT NULL,
    last_seen   timestamptz NOT NULL
);
CREATE INDEX run_hour_failures_begins ON run_hour_failures (begins);

-- The newest masked text of each cause: one row a cause, not one an hour.
CREATE TABLE failure_samples (
    error_class text        NOT NULL,
    fingerprint text        NOT NULL,
    sample_job  text        NOT NULL,
    sample      text,
    seen_at     timestamptz NOT NULL,
    PRIMARY KEY (error_class, fingerprint)
);

CREATE TABLE run_slot_costs (
    minutes             smallint       NOT NULL,
    begins              timestamptz    NOT NULL,
    model               text           NOT NULL,
    calls               integer        NOT NULL,
    prompt_tokens       bigint         NOT NULL,
    completion_tokens   bigint         NOT NULL,
    tokens              bigint         NOT NULL,
    cost_usd            numeric(14, 6) NOT NULL,
    calls_without_price integer        NOT NULL
);
CREATE INDEX run_slot_costs_begins ON run_slot_costs (minutes, begins);

-- Hours whose slots have to be made again. Every transaction that changes runs adds a row of its own, so
-- that none waits for another and a mark is seen exactly when its rows are; repeated ones are dropped.
CREATE TABLE dirty_run_hours (
    begins timestamptz NOT NULL
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

-- Partitions as the last refresh found them: one that came, went or was emptied has its hours made again.
CREATE TABLE rollup_partitions (
    partition oid         NOT NULL,
    file      oid         NOT NULL,
    since     timestamptz,
    until     timestamptz
);

CREATE TABLE rollup_state (
    only_row     boolean     NOT NULL DEFAULT true PRIMARY KEY CHECK (only_row),
    refreshed_at timestamptz,
    recounted_at timestamptz
);
COMMENT ON COLUMN rollup_state.refreshed_at IS 'Everything that was committed before this moment is in the rollup, unless an hour is still marked.';
COMMENT ON COLUMN rollup_state.recounted_at IS 'When all hours of an attached pipeline were last compared with its rows.';
INSERT INTO rollup_state DEFAULT VALUES;

-- Acts with its owner's rights, so that whoever may write runs need not know of the rollup.
CREATE FUNCTION mark_run_hours() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $function$
BEGIN
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        INSERT INTO dirty_run_hours
        SELECT DISTINCT date_bin('1 hour', execution_time, '2000-01-01 00:00+00') FROM added WHERE isfinite(execution_time);
    END IF;
    IF TG_OP IN ('DELETE', 'UPDATE') THEN
        INSERT INTO dirty_run_hours
        SELECT DISTINCT date_bin('1 hour', execution_time, '2000-01-01 00:00+00') FROM removed WHERE isfinite(execution_time);
    END IF;
    RETURN NULL;
END
$function$;

-- Leaves one mark an hour where workers run and nobody refreshes. Not during a refresh: it takes a mark away
-- that must not be relied on any more.
CREATE FUNCTION drop_repeated_run_marks() RETURNS bigint LANGUAGE plpgsql AS $function$
DECLARE
    dropped bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('runbook rollup'), 'run_slots'::regclass::oid::integer) THEN
        RETURN 0;
    END IF;
    DELETE FROM dirty_run_hours
    USING (SELECT begins AS hour, max(ctid) AS stays FROM dirty_run_hours GROUP BY begins HAVING count(*) > 1) AS repeated
    WHERE begins = hour AND ctid <> stays;
    GET DIAGNOSTICS dropped = ROW_COUNT;
    RETURN dropped;
END
$function$;

CREATE TRIGGER job_runs_added AFTER INSERT ON job_runs
REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION mark_run_hours();
CREATE TRIGGER job_runs_removed AFTER DELETE ON job_runs
REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION mark_run_hours();
CREATE TRIGGER job_runs_changed AFTER UPDATE ON job_runs
REFERENCING NEW TABLE AS added OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION mark_run_hours();
-- Rows move from here into a partition that is made late, by a statement that names this table. Were the new
-- partition dropped before a refresh saw it, nothing else would tell that its rows are gone.
CREATE TRIGGER job_runs_default_removed AFTER DELETE ON job_runs_default
REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION mark_run_hours();

-- Rows that are there already: those in partitions are found by the first refresh.
INSERT INTO dirty_run_hours
SELECT DISTINCT date_bin('1 hour', execution_time, '2000-01-01 00:00+00')
FROM job_runs_default
WHERE isfinite(execution_time);

DO $body$
DECLARE
    home  text := current_schema();
    title text;
BEGIN
    EXECUTE format('ALTER FUNCTION mark_run_hours() SET search_path TO %I, pg_temp', home);
    FOREACH title IN ARRAY ARRAY[
        'run_slots', 'run_slot_durations', 'run_hour_failures', 'failure_samples', 'run_slot_costs',
        'dirty_run_hours', 'rollup_partitions', 'rollup_state'
    ] LOOP
        PERFORM hide_from_data_api(format('%I.%I', home, title)::regclass);
    END LOOP;
    FOR title IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION mark_run_hours() FROM %I', title);
    END LOOP;
END
$body$;
REVOKE ALL ON FUNCTION mark_run_hours() FROM PUBLIC;
