-- Entries of the archive and their chain.

ALTER TABLE notebook_runs ADD COLUMN incident text;
ALTER TABLE notebook_runs ADD COLUMN archive_objects jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN notebook_runs.archive_objects IS 'Every object that the run left in the archive: name, sha256, bytes.';
CREATE INDEX notebook_runs_started_at ON notebook_runs (started_at DESC, run_id DESC);
CREATE INDEX notebook_runs_incident ON notebook_runs (incident) WHERE incident IS NOT NULL;

-- What a procedure's cells did, so that it can be handed over together with the run.
ALTER TABLE admin_actions ADD COLUMN run_id uuid;
CREATE INDEX admin_actions_run_id ON admin_actions (run_id) WHERE run_id IS NOT NULL;

-- `entry` is canonical JSON, and its sha256 stands as `previous` in the entry after it. A file beside the
-- objects holds the same bytes. `record` is what the entry is about; its sha256 is in the entry, so that
-- a record may be deleted and the chain stays whole. What the lists show is generated, never written.
CREATE TABLE archive_entries (
    sequence  bigint NOT NULL PRIMARY KEY CHECK (sequence > 0),
    entry     text   NOT NULL,
    record    text,
    copied_at timestamptz,
    kind      text   NOT NULL GENERATED ALWAYS AS (entry::jsonb ->> 'kind') STORED,
    subject   text   NOT NULL GENERATED ALWAYS AS (entry::jsonb ->> 'subject') STORED
);
COMMENT ON COLUMN archive_entries.copied_at IS 'When the entry and its record were written beside the objects; null: whoever appends next does it.';
CREATE INDEX archive_entries_not_copied ON archive_entries (sequence) WHERE copied_at IS NULL;
CREATE INDEX archive_entries_subject ON archive_entries (subject, sequence);

-- The last entry. Whoever appends locks this row first, so that any number may do so, through a pooler too.
CREATE TABLE archive_head (
    only_one boolean     NOT NULL PRIMARY KEY DEFAULT true CHECK (only_one),
    chain    text        NOT NULL,
    sequence bigint      NOT NULL DEFAULT 0,
    sha256   text        NOT NULL DEFAULT repeat('0', 64),
    at       timestamptz NOT NULL DEFAULT '1970-01-01 00:00:00+00'
);

-- Against mistakes, not against the owner, who can take it away: entries are not changed and not removed.
CREATE FUNCTION keep_archive_entry() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.sequence = OLD.sequence AND NEW.entry = OLD.entry
       AND (NEW.record IS NULL OR NEW.record = OLD.record) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'Entries of the archive are neither changed nor removed. `runbook archive prune` deletes what policy lets go.';
END
$function$;
CREATE TRIGGER keep_archive_entry BEFORE UPDATE OR DELETE ON archive_entries
    FOR EACH ROW EXECUTE FUNCTION keep_archive_entry();
CREATE TRIGGER keep_archive_entries BEFORE TRUNCATE ON archive_entries
    FOR EACH STATEMENT EXECUTE FUNCTION keep_archive_entry();

-- Each database has a chain of its own, known by this name; two may share a folder.
INSERT INTO archive_head (chain) VALUES (left(replace(gen_random_uuid()::text, '-', ''), 12));

SELECT hide_from_data_api('archive_entries'::regclass), hide_from_data_api('archive_head'::regclass);
