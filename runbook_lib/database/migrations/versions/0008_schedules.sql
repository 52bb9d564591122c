-- What schedulers leave behind, and what was filed late from the spool.

-- The note that an entry of the spool was filed, made in the transaction that filed it.
CREATE TABLE spool_filings (
    entry_id    uuid        NOT NULL PRIMARY KEY,
    kind        text        NOT NULL,
    happened_at timestamptz NOT NULL,
    host        text        NOT NULL,
    filed_at    timestamptz NOT NULL DEFAULT now(),
    filed_by    text        NOT NULL
);

ALTER TABLE admin_actions ADD COLUMN filed_late boolean NOT NULL DEFAULT false;
ALTER TABLE schedule_runs ADD COLUMN filed_late boolean NOT NULL DEFAULT false;
ALTER TABLE schedule_runs DROP CONSTRAINT schedule_runs_outcome_check;
ALTER TABLE schedule_runs ADD CONSTRAINT schedule_runs_outcome_check
CHECK (outcome IN ('started', 'ran', 'failed', 'missed', 'skipped', 'overlapped', 'refused'));
CREATE INDEX schedule_runs_started ON schedule_runs (claimed_at) WHERE outcome = 'started';

-- Each scheduler's sign of life. `stopped_at` is set by one that was asked to stop.
CREATE TABLE schedulers (
    scheduler    text        NOT NULL PRIMARY KEY,
    host         text        NOT NULL,
    pid          integer     NOT NULL,
    boot_id      text        NOT NULL,
    version      text        NOT NULL,
    directory    text        NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    stopped_at   timestamptz
);

-- The schedules as a scheduler last read them, so that what should run can be told without their files.
CREATE TABLE schedules (
    schedule_id   text        NOT NULL PRIMARY KEY,
    directory     text        NOT NULL,
    procedure     text,
    cron          text,
    timezone      text,
    read_only     boolean,
    next_due_at   timestamptz,
    paused_reason text,
    paused_until  timestamptz,
    problem       text,
    seen_by       text        NOT NULL,
    seen_at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN schedules.next_due_at IS 'The earliest due time that nobody dealt with yet; in the past, a run is absent.';
COMMENT ON COLUMN schedules.problem IS 'Why the file does not fit; then it does not run.';

-- Pauses by hand. A pause in a schedule''s file holds as well.
CREATE TABLE schedule_pauses (
    pause_id    bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schedule_id text        NOT NULL,
    reason      text        NOT NULL,
    paused_by   text        NOT NULL,
    paused_at   timestamptz NOT NULL DEFAULT now(),
    until       timestamptz,
    ended_at    timestamptz,
    ended_by    text
);
CREATE UNIQUE INDEX schedule_pauses_open ON schedule_pauses (schedule_id) WHERE ended_at IS NULL;

SELECT hide_from_data_api('spool_filings'::regclass);
SELECT hide_from_data_api('schedulers'::regclass);
SELECT hide_from_data_api('schedules'::regclass);
SELECT hide_from_data_api('schedule_pauses'::regclass);
SELECT hide_from_data_api('schedule_pauses_pause_id_seq'::regclass);
