-- The pipeline's tables. Runs as an ordinary role that may create tables in its schema:
-- no extension, no superuser, no session state.

-- Identifiers that grow with time: "oldest first" is then the order of the primary key, and new rows
-- go to the right edge of every index. PostgreSQL 18 has its own function for it (RFC 9562, version 7).
DO $body$
BEGIN
    IF current_setting('server_version_num')::int >= 180000 THEN
        CREATE FUNCTION time_ordered_uuid() RETURNS uuid
        LANGUAGE sql VOLATILE PARALLEL SAFE AS 'SELECT uuidv7()';
    ELSE
        CREATE FUNCTION time_ordered_uuid() RETURNS uuid
        LANGUAGE sql VOLATILE PARALLEL SAFE AS $function$
            SELECT encode(
                set_bit(set_bit(
                    overlay(uuid_send(gen_random_uuid())
                        PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                        FROM 1 FOR 6),
                    52, 1), 53, 1),
                'hex')::uuid
        $function$;
    END IF;
END
$body$;
-- Whoever may insert a job needs its default; where functions are closed to PUBLIC that must be said.
GRANT EXECUTE ON FUNCTION time_ordered_uuid() TO PUBLIC;

-- On Supabase whatever stands in `public` is granted to the roles of the Data API by default
-- privileges, new partitions included: so it is taken away again.
CREATE FUNCTION hide_from_data_api(relation regclass) RETURNS void LANGUAGE plpgsql AS $function$
DECLARE
    api text;
BEGIN
    FOR api IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %I', relation, api);
    END LOOP;
END
$function$;

CREATE TABLE content_jobs (
    job_id                uuid        NOT NULL DEFAULT time_ordered_uuid(),
    topic                 text        NOT NULL CHECK (topic <> ''), -- compared by length, so never read back from TOAST
    category              text,
    keywords              text[]      NOT NULL DEFAULT '{}',
    audience              text,
    tone                  text,
    requested_post_status text        CHECK (requested_post_status IN ('publish', 'draft', 'pending')),
    status                text        NOT NULL DEFAULT 'pending'
                                      CHECK (status IN ('pending', 'processing', 'completed', 'error')),
    stage                 text        NOT NULL DEFAULT 'write' CHECK (stage IN ('write', 'publish')),
    priority              integer     NOT NULL DEFAULT 100,
    run_at                timestamptz,
    attempt               integer     NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    retry_count           integer     NOT NULL DEFAULT 0 CHECK (retry_count >= 0),
    max_retries           integer     NOT NULL DEFAULT 5 CHECK (max_retries >= 0),
    lost_count            integer     NOT NULL DEFAULT 0 CHECK (lost_count >= 0),
    worker                text,
    lease_until           timestamptz,
    last_error            text,
    error_class           text,
    idempotency_key       text,
    draft_requested_at    timestamptz,
    post_id               bigint,
    post_url              text,
    post_status           text,
    source                text,
    created_by            text        NOT NULL DEFAULT session_user,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    started_at            timestamptz,
    completed_at          timestamptz,
    PRIMARY KEY (job_id),
    CONSTRAINT content_jobs_lease CHECK ((status = 'processing') = (lease_until IS NOT NULL AND worker IS NOT NULL)),
    CONSTRAINT content_jobs_completed CHECK (status <> 'completed' OR completed_at IS NOT NULL)
) WITH (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);

COMMENT ON TABLE content_jobs IS 'One row a topic. INSERT INTO content_jobs (topic) VALUES (…) makes a complete job.';
COMMENT ON COLUMN content_jobs.stage IS 'What the next attempt begins with: write (OpenAI), or publish (the article is paid for and stored).';
COMMENT ON COLUMN content_jobs.run_at IS 'Not before this time; NULL is at once. The sweeper sets it to NULL when the time has come.';
COMMENT ON COLUMN content_jobs.attempt IS 'Rises with each claim and never falls: the fencing number of every write about this job.';
COMMENT ON COLUMN content_jobs.retry_count IS 'Failures charged to the job; only these meet max_retries.';
COMMENT ON COLUMN content_jobs.lost_count IS 'Attempts in a row whose worker vanished; too many of them put the job into quarantine.';
COMMENT ON COLUMN content_jobs.draft_requested_at IS 'A draft may exist at WordPress since this time, even if post_id is NULL.';

-- Claims read these two and nothing else; deferred jobs stand in an index of their own, so that ten
-- thousand retries waiting for their time cost a claim nothing.
CREATE INDEX content_jobs_due ON content_jobs (stage, priority, job_id) WHERE status = 'pending' AND run_at IS NULL;
CREATE INDEX content_jobs_deferred ON content_jobs (run_at) WHERE status = 'pending' AND run_at IS NOT NULL;
CREATE INDEX content_jobs_leased ON content_jobs (lease_until) WHERE status = 'processing';
CREATE INDEX content_jobs_failed ON content_jobs (error_class, updated_at) WHERE status = 'error';
CREATE UNIQUE INDEX content_jobs_idempotency_key ON content_jobs (idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE FUNCTION refuse_job_transition() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    RAISE EXCEPTION 'job % cannot go from % (attempt %) to % (attempt %)',
        OLD.job_id, OLD.status, OLD.attempt, NEW.status, NEW.attempt
        USING ERRCODE = 'check_violation', CONSTRAINT = 'content_jobs_transition',
              HINT = 'docs/job_states.md draws the transitions that are allowed.';
END
$function$;

-- The condition is evaluated without calling the function, so a permitted change pays next to nothing.
CREATE TRIGGER content_jobs_transition BEFORE UPDATE ON content_jobs FOR EACH ROW
WHEN (
    NEW.job_id <> OLD.job_id
    OR NEW.attempt < OLD.attempt
    -- A claim, and a change of hands, take a new fencing number.
    OR (NEW.status = 'processing' AND NEW.attempt = OLD.attempt
        AND (OLD.status <> 'processing' OR NEW.worker <> OLD.worker))
    OR (OLD.status <> NEW.status AND NOT (
        (OLD.status = 'pending' AND NEW.status IN ('processing', 'error'))
        OR (OLD.status = 'processing' AND NEW.status IN ('completed', 'error', 'pending'))
        OR (OLD.status = 'error' AND NEW.status = 'pending')
    ))
) EXECUTE FUNCTION refuse_job_transition();

-- One row for each ended attempt, in the transaction that ends it. Weekly partitions by the moment it ended.
CREATE TABLE job_runs (
    -- Made from the job and the attempt: one row an attempt, and no random bytes to wait for.
    run_id              uuid        NOT NULL GENERATED ALWAYS AS (encode(substr(sha256(uuid_send(job_id) || int4send(attempt)), 1, 16), 'hex')::uuid) STORED,
    job_id              uuid        NOT NULL,
    attempt             integer     NOT NULL,
    status              text        NOT NULL CHECK (status IN ('completed', 'error', 'lost', 'released')),
    execution_time      timestamptz NOT NULL DEFAULT now(),
    started_at          timestamptz,
    completed_at        timestamptz,
    worker              text,
    stage               text,
    charged             boolean     NOT NULL DEFAULT false,
    error               text,
    error_class         text,
    fingerprint         text,
    exception_class     text,
    provider            text,
    http_status         integer,
    provider_code       text,
    sqlstate            text,
    constraint_name     text,
    request_id          text,
    model               text,
    prompt_tokens       integer,
    completion_tokens   integer,
    tokens              integer,
    cost_usd            numeric(12, 6),
    write_seconds       double precision,
    publish_seconds     double precision,
    category            text,
    PRIMARY KEY (job_id, attempt, execution_time)
) PARTITION BY RANGE (execution_time);

COMMENT ON TABLE job_runs IS 'History: one row for each ended attempt. Rates leave released out.';
COMMENT ON COLUMN job_runs.write_seconds IS 'Time spent inside calls to OpenAI during this attempt.';
COMMENT ON COLUMN job_runs.publish_seconds IS 'Time spent inside calls to WordPress during this attempt.';

CREATE INDEX job_runs_execution_time ON job_runs USING brin (execution_time) WITH (autosummarize = on);

-- A row here means that partitions were not made in time: nothing is lost, and it is an alarm.
CREATE TABLE job_runs_default PARTITION OF job_runs DEFAULT;

-- Makes the weekly partitions (Monday to Monday, UTC) from this week to `weeks_ahead` weeks from now,
-- and those for rows that had to go to the default partition, which move there, with an event. Runs with
-- the rights of the schema's owner, so that an ordinary worker role may call it; its search_path is set
-- below. A new table is attached rather than created as a partition: that does not stop reads and
-- writes of the others. Attaching locks the default partition: it waits for that two seconds at most,
-- then fails, and the next call does it. While somebody else is at it, returns 0.
CREATE FUNCTION make_job_runs_partitions(weeks_ahead integer DEFAULT 4) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER
SET timezone TO 'UTC'
SET lock_timeout TO '2s'
AS $function$
DECLARE
    home      text := (SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                       WHERE pg_class.oid = 'job_runs'::regclass);
    this_week timestamptz := date_trunc('week', now());
    last_week timestamptz := this_week + make_interval(weeks => least(greatest(weeks_ahead, 0), 520));
    week      timestamptz;
    title     text;
    made      integer := 0;
    strays    bigint;
    moved     bigint := 0;
    refused   text[] := '{}';
    -- A generated column is not moved, but made again.
    given     text := (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
                       WHERE attrelid = 'job_runs'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '');
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('make_job_runs_partitions'), 'job_runs'::regclass::oid::integer) THEN
        RETURN 0;
    END IF;
    FOR week IN
        SELECT generate_series(this_week, last_week, interval '7 days')
        UNION
        SELECT date_trunc('week', execution_time) FROM job_runs_default
        WHERE execution_time >= '1970-01-05' AND execution_time < '2200-01-06'
        ORDER BY 1
    LOOP
        title := format('job_runs_%s', to_char(week, 'IYYY_"w"IW'));
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_inherits
            WHERE inhparent = 'job_runs'::regclass AND inhrelid = to_regclass(format('%I.%I', home, title)));
        BEGIN
            -- In this order, and before the rows are moved: none may come in between.
            LOCK TABLE ONLY job_runs IN SHARE UPDATE EXCLUSIVE MODE;
            LOCK TABLE job_runs_default IN ACCESS EXCLUSIVE MODE;
            EXECUTE format('CREATE TABLE %I.%I (LIKE %I.job_runs INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS)', home, title, home);
            EXECUTE format('SELECT hide_from_data_api(%L)', format('%I.%I', home, title));
            EXECUTE format(
                'WITH moved AS (DELETE FROM job_runs_default WHERE execution_time >= %L AND execution_time < %L RETURNING %s) '
                'INSERT INTO %I.%I (%s) SELECT %s FROM moved',
                week, week + interval '7 days', given, home, title, given, given);
            GET DIAGNOSTICS strays = ROW_COUNT;
            EXECUTE format('ALTER TABLE %I.job_runs ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)',
                home, home, title, week, week + interval '7 days');
            made := made + 1;
            moved := moved + strays;
        EXCEPTION WHEN duplicate_table OR invalid_object_definition THEN
            -- A table of that name that is not attached, or another partition over the same days.
            refused := refused || title;
        END;
    END LOOP;
    IF moved > 0 THEN
        INSERT INTO events (kind, level, message, details)
        VALUES ('job_runs_without_partition', 'warning',
                format('%s rows of job_runs had no partition in time. They are in one now; nothing is lost.', moved),
                jsonb_build_object('rows', moved));
    END IF;
    IF refused <> '{}' THEN
        INSERT INTO events (kind, level, message, details)
        SELECT 'job_runs_partition_refused', 'warning',
               format('Partitions of job_runs cannot be made: %s. Their names or days are taken by another table; '
                      'rows of these days stay in job_runs_default.', array_to_string(refused, ', ')),
               jsonb_build_object('partitions', refused)
        WHERE NOT EXISTS (SELECT FROM events WHERE kind = 'job_runs_partition_refused' AND occurred_at > now() - interval '1 day');
    END IF;
    RETURN made;
END
$function$;

-- The paid result, beside the narrow queue row: stored before anything is published.
CREATE TABLE articles (
    job_id            uuid        NOT NULL PRIMARY KEY REFERENCES content_jobs ON DELETE CASCADE,
    attempt           integer     NOT NULL,
    title             text        NOT NULL,
    excerpt           text        NOT NULL,
    body_markdown     text        NOT NULL,
    tags              text[]      NOT NULL DEFAULT '{}',
    word_count        integer     NOT NULL,
    likeness_sketch   bigint[]    NOT NULL DEFAULT '{}',
    model             text        NOT NULL,
    finish_reason     text,
    request_id        text,
    prompt_tokens     integer,
    completion_tokens integer,
    cost_usd          numeric(12, 6),
    created_at        timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN articles.likeness_sketch IS 'MinHash of the body, to find articles that are too alike without reading them.';
CREATE INDEX articles_created_at ON articles (created_at);

-- What happened, for `health` to deliver and for people to read.
CREATE TABLE events (
    event_id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    occurred_at  timestamptz NOT NULL DEFAULT now(),
    kind         text        NOT NULL,
    level        text        NOT NULL DEFAULT 'info' CHECK (level IN ('info', 'warning', 'critical')),
    message      text        NOT NULL,
    worker       text,
    job_id       uuid,
    provider     text,
    details      jsonb       NOT NULL DEFAULT '{}',
    delivered_at timestamptz
);
CREATE INDEX events_occurred_at ON events (occurred_at);
CREATE INDEX events_job_id ON events (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX events_undelivered ON events (event_id) WHERE delivered_at IS NULL AND level <> 'info';

CREATE TABLE workers (
    worker             text        NOT NULL PRIMARY KEY,
    host               text        NOT NULL,
    pid                integer     NOT NULL,
    version            text        NOT NULL,
    concurrency        integer     NOT NULL,
    prefetch           integer     NOT NULL,
    settings_digest    text,
    started_at         timestamptz NOT NULL DEFAULT now(),
    heartbeat_at       timestamptz NOT NULL DEFAULT now(),
    progress_at        timestamptz,
    in_flight          integer     NOT NULL DEFAULT 0,
    finished_count     bigint      NOT NULL DEFAULT 0,
    failed_count       bigint      NOT NULL DEFAULT 0,
    clock_offset_seconds double precision,
    drain_requested_at timestamptz,
    drain_requested_by text,
    stopped_at         timestamptz
);
COMMENT ON COLUMN workers.clock_offset_seconds IS 'The worker''s clock less the database''s, at the last heartbeat.';

-- A provider is paused while its row stands here. `until` NULL: until somebody resumes it.
CREATE TABLE provider_pauses (
    provider     text        NOT NULL PRIMARY KEY CHECK (provider IN ('openai', 'wordpress')),
    paused_at    timestamptz NOT NULL DEFAULT now(),
    until        timestamptz,
    reason       text        NOT NULL,
    error_class  text,
    paused_by    text        NOT NULL,
    automatic    boolean     NOT NULL,
    times        integer     NOT NULL DEFAULT 1,
    trial_job_id uuid,
    trial_until  timestamptz
);
COMMENT ON COLUMN provider_pauses.trial_job_id IS 'After an automatic pause one job tries first; its success ends the pause for all.';

CREATE TABLE provider_limits (
    provider             text NOT NULL PRIMARY KEY CHECK (provider IN ('openai', 'wordpress')),
    requests_per_minute  integer CHECK (requests_per_minute > 0),
    burst_requests       integer CHECK (burst_requests > 0),
    concurrency          integer CHECK (concurrency > 0),
    daily_tokens         bigint  CHECK (daily_tokens >= 0),
    daily_cost_usd       numeric(12, 2) CHECK (daily_cost_usd >= 0),
    bucket_requests      double precision,
    bucket_filled_at     timestamptz,
    updated_at           timestamptz NOT NULL DEFAULT now(),
    updated_by           text
);
INSERT INTO provider_limits (provider) VALUES ('openai'), ('wordpress');

-- What was used on a day (UTC), kept in the transaction that records the call.
CREATE TABLE provider_usage (
    provider          text NOT NULL,
    usage_date        date NOT NULL,
    requests          bigint NOT NULL DEFAULT 0,
    prompt_tokens     bigint NOT NULL DEFAULT 0,
    completion_tokens bigint NOT NULL DEFAULT 0,
    cost_usd          numeric(14, 6) NOT NULL DEFAULT 0,
    PRIMARY KEY (provider, usage_date)
);

-- What an operator changes in existing rows or objects: planned, then applied.
CREATE TABLE changes (
    change_id   uuid        NOT NULL DEFAULT time_ordered_uuid() PRIMARY KEY,
    kind        text        NOT NULL,
    parameters  jsonb       NOT NULL DEFAULT '{}',
    planned_at  timestamptz NOT NULL DEFAULT now(),
    planned_by  text        NOT NULL,
    row_count   integer     NOT NULL,
    row_limit   integer     NOT NULL,
    oldest      timestamptz,
    newest      timestamptz,
    sample      json        NOT NULL DEFAULT '[]', -- not jsonb: the order of the columns is kept
    digest      text        NOT NULL,
    status      text        NOT NULL DEFAULT 'planned' CHECK (status IN ('planned', 'applying', 'applied', 'failed')),
    applying_action uuid,
    applying_until  timestamptz,
    applied_at  timestamptz,
    applied_by  text,
    result      jsonb,
    undo        jsonb
);
COMMENT ON COLUMN changes.applying_until IS 'Past it a change that is being applied row by row may be gone on with by somebody else.';

-- The rows of a change that was applied: what was done of it, and what undoing it needs.
CREATE TABLE change_rows (
    change_id uuid        NOT NULL REFERENCES changes ON DELETE CASCADE,
    row_key   text        NOT NULL,
    position  integer     NOT NULL,
    outcome   text        NOT NULL DEFAULT 'left' CHECK (outcome IN ('left', 'changed', 'unchanged', 'failed')),
    seen      jsonb,
    before    jsonb,
    after     jsonb,
    error     text,
    acted_at  timestamptz,
    PRIMARY KEY (change_id, row_key)
);

CREATE TABLE admin_actions (
    action_id  uuid        NOT NULL DEFAULT time_ordered_uuid() PRIMARY KEY,
    acted_at   timestamptz NOT NULL DEFAULT now(),
    expected_by timestamptz NOT NULL DEFAULT now() + interval '1 minute',
    ended_at   timestamptz,
    actor      text        NOT NULL,
    host       text,
    action     text        NOT NULL,
    target     text,
    reason     text,
    change_id  uuid,
    outcome    text        NOT NULL DEFAULT 'started' CHECK (outcome IN ('started', 'done', 'failed', 'refused')),
    before     jsonb,
    after      jsonb,
    error      text
);
COMMENT ON COLUMN admin_actions.expected_by IS 'An action that is still `started` past this time lost its process; whoever looks next closes it as failed.';
CREATE INDEX admin_actions_acted_at ON admin_actions (acted_at);
CREATE INDEX admin_actions_started ON admin_actions (expected_by) WHERE outcome = 'started';

-- Every run of a procedure: opened before the kernel starts, closed as what really happened.
CREATE TABLE notebook_runs (
    run_id            uuid        NOT NULL DEFAULT time_ordered_uuid() PRIMARY KEY,
    procedure         text        NOT NULL,
    status            text        NOT NULL DEFAULT 'running'
                                  CHECK (status IN ('running', 'succeeded', 'failed', 'timed_out', 'killed', 'lost', 'refused')),
    verdict           text        CHECK (verdict IN ('ok', 'warning', 'critical', 'not_enough_data')),
    parameters        jsonb       NOT NULL DEFAULT '{}',
    results           jsonb       NOT NULL DEFAULT '{}',
    actor             text        NOT NULL,
    trigger           text        NOT NULL,
    schedule_id       text,
    due_at            timestamptz,
    started_at        timestamptz NOT NULL DEFAULT now(),
    ended_at          timestamptz,
    heartbeat_at      timestamptz NOT NULL DEFAULT now(),
    host              text        NOT NULL,
    pid               integer     NOT NULL,
    boot_id           text,
    source_sha256     text        NOT NULL,
    code_commit       text,
    database_identity text,
    package_versions  jsonb       NOT NULL DEFAULT '{}',
    cells_total       integer,
    cells_done        integer     NOT NULL DEFAULT 0,
    error             text,
    archive_notebook  text,
    archive_html      text,
    archive_sha256    text,
    filed_late        boolean     NOT NULL DEFAULT false,
    CHECK ((status = 'running') = (ended_at IS NULL))
);
CREATE INDEX notebook_runs_procedure ON notebook_runs (procedure, started_at);

-- A due time is claimed by inserting it: whoever inserts it runs it, however many schedulers there are.
CREATE TABLE schedule_runs (
    schedule_id text        NOT NULL,
    due_at      timestamptz NOT NULL,
    claimed_at  timestamptz NOT NULL DEFAULT now(),
    claimed_by  text        NOT NULL,
    outcome     text        NOT NULL DEFAULT 'started'
                            CHECK (outcome IN ('started', 'ran', 'failed', 'missed', 'skipped', 'refused')),
    run_id      uuid,
    note        text,
    PRIMARY KEY (schedule_id, due_at)
);

DO $body$
DECLARE
    home  text := current_schema();
    title text;
BEGIN
    -- Temporary tables come last: otherwise a caller's own could stand in for ours.
    EXECUTE format('ALTER FUNCTION make_job_runs_partitions(integer) SET search_path TO %I, pg_temp', home);
    FOREACH title IN ARRAY ARRAY[
        'content_jobs', 'job_runs', 'job_runs_default', 'articles', 'events', 'events_event_id_seq', 'workers',
        'provider_pauses', 'provider_limits', 'provider_usage', 'changes', 'change_rows', 'admin_actions',
        'notebook_runs', 'schedule_runs', 'runbook_schema_version'
    ] LOOP
        PERFORM hide_from_data_api(format('%I.%I', home, title)::regclass);
    END LOOP;
    FOR title IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION make_job_runs_partitions(integer), hide_from_data_api(regclass) FROM %I', title);
    END LOOP;
END
$body$;
-- It acts with its owner's rights: only for whom it is granted (`runbook db grants ROLE`).
REVOKE ALL ON FUNCTION make_job_runs_partitions(integer), hide_from_data_api(regclass) FROM PUBLIC;

SELECT make_job_runs_partitions();
