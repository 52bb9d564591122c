-- What people ticked on checklists. Rows are only added: taking a tick back is a row of its own.

CREATE TABLE checklist_ticks (
    tick_id   bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    checklist text        NOT NULL,
    item      text        NOT NULL,
    subject   text        NOT NULL,
    ticked    boolean     NOT NULL,
    ticked_by text        NOT NULL CHECK (btrim(ticked_by) <> ''),
    note      text        NOT NULL CHECK (btrim(note) <> ''),
    at        timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN checklist_ticks.subject IS 'What it was ticked for: a version of the code, or a month. For another one it does not count.';
CREATE INDEX checklist_ticks_of ON checklist_ticks (checklist, subject, item, tick_id);

SELECT hide_from_data_api('checklist_ticks'::regclass);
SELECT hide_from_data_api('checklist_ticks_tick_id_seq'::regclass);
