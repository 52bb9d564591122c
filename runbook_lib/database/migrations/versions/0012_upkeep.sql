-- Exports of runs, and sizes as they were.

-- Which file holds the runs that were cleaned up, and what it was compared by. A row is there before
-- anything is removed; `removed_at` and the removal are one transaction.
CREATE TABLE run_exports (
    export_id      uuid        NOT NULL DEFAULT time_ordered_uuid() PRIMARY KEY,
    relation       text        NOT NULL,
    relation_oid   oid         NOT NULL,
    action         text        NOT NULL CHECK (action IN ('drop', 'delete')),
    border         timestamptz NOT NULL,
    file           text        NOT NULL,
    size_bytes     bigint      NOT NULL,
    sha256         text        NOT NULL,
    rows           bigint      NOT NULL,
    oldest         timestamptz,
    newest         timestamptz,
    checksum       numeric     NOT NULL,
    sums           jsonb       NOT NULL,
    write_seconds  double precision NOT NULL,
    check_seconds  double precision NOT NULL,
    exported_by    text        NOT NULL,
    exported_at    timestamptz NOT NULL DEFAULT now(),
    rows_removed   bigint      NOT NULL DEFAULT 0,
    bytes_returned bigint      NOT NULL DEFAULT 0,
    removed_at     timestamptz
);
COMMENT ON COLUMN run_exports.checksum IS 'The sum of the checksums of its rows, each made by the server from the row as it stood.';

-- The sizes of tables and of the database, now and then: growth is their difference.
CREATE TABLE size_snapshots (
    taken_at timestamptz NOT NULL DEFAULT now(),
    database text        NOT NULL,
    bytes    bigint      NOT NULL,
    tables   jsonb       NOT NULL
);
CREATE INDEX size_snapshots_taken_at ON size_snapshots (database, taken_at);

SELECT hide_from_data_api('run_exports');
SELECT hide_from_data_api('size_snapshots');
