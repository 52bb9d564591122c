-- What the checks remember: the counters of pg_stat_statements as they were, so that they can be
-- differenced and nobody has to reset them.

CREATE TABLE statement_snapshots (
    snapshot_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    taken_at    timestamptz NOT NULL DEFAULT now(),
    database    text        NOT NULL,
    stats_reset timestamptz,
    counters    jsonb       NOT NULL
);
COMMENT ON COLUMN statement_snapshots.counters IS 'Statement (role, query id, toplevel) → [calls, total ms, sum of squared ms, rows].';
CREATE INDEX statement_snapshots_taken_at ON statement_snapshots (taken_at);

SELECT hide_from_data_api('statement_snapshots'::regclass);
SELECT hide_from_data_api('statement_snapshots_snapshot_id_seq'::regclass);
