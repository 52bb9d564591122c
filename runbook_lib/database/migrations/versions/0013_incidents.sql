-- Incidents and their timeline.

CREATE TABLE incidents (
    incident        text        NOT NULL PRIMARY KEY,
    title           text        NOT NULL CHECK (title <> ''),
    severity        text        NOT NULL CHECK (severity IN ('critical', 'major', 'minor')),
    lead            text        NOT NULL,
    status          text        NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'closed')),
    began_at        timestamptz NOT NULL,
    opened_at       timestamptz NOT NULL DEFAULT now(),
    opened_by       text        NOT NULL,
    alert_id        uuid,
    cause           text,
    procedure       text,
    parameters      jsonb       NOT NULL DEFAULT '{}',
    closed_at       timestamptz,
    closed_by       text,
    resolution      text,
    archive_objects jsonb       NOT NULL DEFAULT '[]',
    filed_late      boolean     NOT NULL DEFAULT false,
    CHECK ((status = 'closed') = (closed_at IS NOT NULL))
);
COMMENT ON COLUMN incidents.began_at IS 'When the trouble began, as far as it is known: its alert, or what the lead said.';
CREATE INDEX incidents_opened_at ON incidents (opened_at DESC);

-- One row for each thing that happened, and for each cell that somebody executed by hand: written before
-- the cell runs, completed after it. No reference to incidents: what was kept in files may be filed in any order.
CREATE TABLE timeline_entries (
    entry_id    uuid             NOT NULL PRIMARY KEY,
    incident    text,
    kind        text             NOT NULL,
    at          timestamptz      NOT NULL,
    actor       text             NOT NULL,
    host        text             NOT NULL,
    said        text,
    -- of a cell
    status      text             CHECK (status IN ('started', 'succeeded', 'failed', 'interrupted', 'lost')),
    ended_at    timestamptz,
    seconds     double precision,
    notebook    text,
    run_id      uuid,
    cell_id     text,
    cell_number integer,
    cell_count  integer,
    cell_title  text,
    source_sha256 text,
    verdict     text,
    error       text,
    pid         integer,
    boot_id     text,
    recorded_at timestamptz      NOT NULL DEFAULT now(),
    filed_late  boolean          NOT NULL DEFAULT false,
    CHECK ((kind = 'cell') = (status IS NOT NULL))
);
COMMENT ON COLUMN timeline_entries.at IS 'By the clock of the host on which it happened.';
COMMENT ON COLUMN timeline_entries.status IS 'lost: the kernel ended before the cell did.';
CREATE INDEX timeline_entries_incident ON timeline_entries (incident, at) WHERE incident IS NOT NULL;
CREATE INDEX timeline_entries_started ON timeline_entries (host) WHERE status = 'started';
CREATE INDEX timeline_entries_at ON timeline_entries (at);

SELECT hide_from_data_api('incidents'::regclass), hide_from_data_api('timeline_entries'::regclass);
