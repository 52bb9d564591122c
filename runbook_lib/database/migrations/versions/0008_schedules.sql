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

SELECT hide_from_data_api('spool_filings'::regclass);
