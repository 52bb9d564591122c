-- Indexes: which there are, what they cost, and what plans the server makes for our own statements.

-- name: indexes
-- Every index of the schema's tables; those of partitions are counted with the index that they belong to.
-- `identity` is equal for indexes that do the same; `keys` are its columns and expressions in order.
WITH RECURSIVE roots AS (
    SELECT indexrelid, indexrelid AS root, indrelid AS root_table
    FROM pg_index
    WHERE NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = indexrelid)
    UNION ALL
    SELECT inhrelid, root, root_table
    FROM roots
    JOIN pg_inherits ON inhparent = indexrelid
), counted AS (
    SELECT root, sum(pg_relation_size(indexrelid)) AS size_bytes, sum(coalesce(idx_scan, 0)) AS scans,
        max((to_jsonb(stat) ->> 'last_idx_scan')::timestamptz) AS last_used, sum(written) AS written,
        sum(updated) AS updated, sum(hot) AS hot
    FROM roots
    JOIN pg_index USING (indexrelid)
    LEFT JOIN pg_stat_all_indexes AS stat USING (indexrelid)
    LEFT JOIN LATERAL (
        SELECT n_tup_ins + n_tup_upd - n_tup_hot_upd AS written, n_tup_upd AS updated, n_tup_hot_upd AS hot
        FROM pg_stat_all_tables
        WHERE pg_stat_all_tables.relid = indrelid
    ) AS activity ON true
    GROUP BY root
)
SELECT
    home.relname::text AS table_name, class.relname::text AS index_name, am.amname::text AS method,
    home.relkind = 'p' AS partitioned, size_bytes::bigint, scans::bigint, last_used, written::bigint,
    updated::bigint, hot::bigint, i.indisunique AS is_unique, i.indisvalid AND i.indisready AS is_valid,
    i.indisprimary OR i.indisreplident OR EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid) AS is_constraint,
    ARRAY(SELECT pg_get_indexdef(i.indexrelid, position, false) FROM generate_series(1, i.indnkeyatts) AS position) AS keys,
    concat_ws(' ', i.indclass::text, i.indcollation::text, i.indoption::text) AS ordering,
    ARRAY(SELECT pg_get_indexdef(i.indexrelid, position, false) FROM generate_series(i.indnkeyatts + 1, i.indnatts) AS position) AS included,
    pg_get_expr(i.indpred, i.indrelid) AS predicate,
    pg_get_indexdef(i.indexrelid) AS definition
FROM counted
JOIN pg_index AS i ON i.indexrelid = root
JOIN pg_class AS class ON class.oid = root
JOIN pg_class AS home ON home.oid = i.indrelid
JOIN pg_am AS am ON am.oid = class.relam
WHERE home.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
    AND home.relkind IN ('r', 'p', 'm')
ORDER BY size_bytes DESC, index_name;

-- name: standing
-- Since when use is counted, and whether there may be replicas whose use is not counted here.
SELECT
    coalesce(stats_reset, pg_postmaster_start_time()) AS counted_since,
    stats_reset IS NULL AS never_reset,
    extract(epoch FROM now() - coalesce(stats_reset, pg_postmaster_start_time())) / 86400.0 AS days,
    pg_is_in_recovery() AS standby,
    (SELECT count(*) FROM pg_stat_replication) AS replicas
FROM pg_stat_database
WHERE datname = current_database();

-- name: large_tables
-- Tables of the schema by pages and estimated rows: what reading all of one means. Partitions count for
-- themselves; the scans that a plan names are theirs.
SELECT relname::text AS table_name, relpages AS pages, greatest(reltuples, 0)::bigint AS estimated_rows,
    coalesce((SELECT parent.relname::text FROM pg_inherits JOIN pg_class AS parent ON parent.oid = inhparent WHERE inhrelid = pg_class.oid), relname::text) AS root
FROM pg_class
WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AND relkind IN ('r', 'm');

-- name: generic_plans
-- Plans for any value, within this transaction.
SELECT set_config('plan_cache_mode', 'force_generic_plan', true);

-- name: prepare
-- One of our own statements, to be planned; {statement} is its text.
PREPARE runbook_own_plan AS {statement};

-- name: may_fail
-- What follows may fail without taking the transaction along.
SAVEPOINT planning;

-- name: explain
-- The plan for any values, as JSON; nothing is executed. {values} are as many NULLs as it takes.
EXPLAIN (FORMAT JSON) EXECUTE runbook_own_plan{values};

-- name: failed
-- Takes back what failed.
ROLLBACK TO SAVEPOINT planning;

-- name: forget
-- Forgets the prepared statement: behind a pooler somebody else has this session next.
DEALLOCATE runbook_own_plan;
