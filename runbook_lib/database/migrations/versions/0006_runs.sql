-- What runs of procedures need beyond their record.

-- How far a run is, who wants it ended, and which run it goes on from.
ALTER TABLE notebook_runs
    ADD COLUMN cell_number         integer,
    ADD COLUMN cell_title          text,
    ADD COLUMN cancel_requested_at timestamptz,
    ADD COLUMN cancel_requested_by text,
    ADD COLUMN resumed_from        uuid,
    ADD COLUMN resumed_at_cell     integer;

-- Who runs a procedure with effects now: one at a time, by hand or by schedule, on any host. The lease
-- is by this database's clock; a run that vanished keeps it no longer than that.
CREATE TABLE procedure_claims (
    procedure  text        PRIMARY KEY,
    run_id     uuid        NOT NULL,
    actor      text        NOT NULL,
    host       text        NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
SELECT hide_from_data_api('procedure_claims'::regclass);
