-- What a database needs from time to time: statistics, vacuum, numbers left, room.

-- name: statistics
-- Tables whose statistics are stale: more than a tenth of the rows (and 50) changed since, or never counted.
-- Autovacuum never counts a partitioned table as a whole: that one is stale after `days` days. `may` says
-- whether this role may do it.
SELECT
    class.oid::bigint AS relation_oid, class.relname::text AS relation,
    coalesce(stat.n_mod_since_analyze, 0) AS modified_rows, greatest(class.reltuples, 0)::bigint AS estimated_rows,
    greatest(stat.last_analyze, stat.last_autoanalyze) AS analyzed_at,
    CASE
        WHEN class.relkind = 'p' THEN 'partitioned: autovacuum leaves it out'
        WHEN greatest(stat.last_analyze, stat.last_autoanalyze) IS NULL THEN 'never analyzed'
        ELSE 'changed since'
    END AS reason,
    pg_has_role(class.relowner, 'USAGE') OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS may
FROM pg_class AS class
LEFT JOIN pg_stat_all_tables AS stat ON stat.relid = class.oid
WHERE class.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
    AND (
        (class.relkind IN ('r', 'm') AND coalesce(stat.n_mod_since_analyze, 0) > 50 + 0.1 * greatest(class.reltuples, 0))
        OR (class.relkind = 'p'
            AND coalesce(greatest(stat.last_analyze, stat.last_autoanalyze), '-infinity') < now() - make_interval(days => %(days)s)
            AND EXISTS (
                SELECT FROM pg_inherits
                WHERE inhparent = class.oid AND pg_relation_size(inhrelid) > 0
            ))
    )
ORDER BY class.relkind = 'p' DESC, modified_rows DESC, relation
LIMIT %(row_count)s;

-- name: analyze
-- The statement that counts one table, as the server writes it.
SELECT format('ANALYZE %%s', %(relation_oid)s::oid::regclass);

-- name: vacuum_lag
-- Tables with more dead rows than set autovacuum going, by their own settings; the worst first. `enabled`
-- false: autovacuum is off for it.
SELECT class.relname::text AS relation, n_dead_tup AS dead_rows, greatest(class.reltuples, 0)::bigint AS estimated_rows,
    (threshold + scale * greatest(class.reltuples, 0))::bigint AS threshold,
    greatest(last_vacuum, last_autovacuum) AS vacuumed_at, enabled
FROM pg_class AS class
JOIN pg_stat_all_tables AS stat ON stat.relid = class.oid
CROSS JOIN LATERAL (
    SELECT
        coalesce(max(option_value) FILTER (WHERE option_name = 'autovacuum_vacuum_threshold'), current_setting('autovacuum_vacuum_threshold'))::double precision AS threshold,
        coalesce(max(option_value) FILTER (WHERE option_name = 'autovacuum_vacuum_scale_factor'), current_setting('autovacuum_vacuum_scale_factor'))::double precision AS scale,
        coalesce(max(option_value) FILTER (WHERE option_name = 'autovacuum_enabled'), current_setting('autovacuum'))::boolean AS enabled
    FROM pg_options_to_table(class.reloptions)
) AS rule
WHERE class.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
    AND class.relkind IN ('r', 'm')
    AND (n_dead_tup > threshold + scale * greatest(class.reltuples, 0) OR NOT enabled)
ORDER BY n_dead_tup / (1 + threshold + scale * greatest(class.reltuples, 0)) DESC
LIMIT 20;

-- name: sequences
-- Sequences by the share of their numbers that is used up; NULL: this role may not see it.
SELECT schemaname || '.' || sequencename AS sequence, last_value, max_value,
    CASE
        WHEN last_value IS NOT NULL THEN 100.0 * last_value / max_value
        WHEN has_sequence_privilege(format('%%I.%%I', schemaname, sequencename), 'SELECT') THEN 0
    END AS used_percent
FROM pg_sequences
WHERE schemaname = current_schema()
ORDER BY used_percent DESC NULLS FIRST;

-- name: sizes
-- The database's size, and that of the schema's tables with their indexes; partitions count with their table.
SELECT current_database()::text AS database, pg_database_size(current_database()) AS bytes,
    coalesce((
        SELECT jsonb_object_agg(title, size) FROM (
            SELECT coalesce(parent.relname, class.relname)::text AS title, sum(pg_total_relation_size(class.oid)) AS size
            FROM pg_class AS class
            LEFT JOIN pg_inherits ON inhrelid = class.oid
            LEFT JOIN pg_class AS parent ON parent.oid = inhparent
            WHERE class.relkind IN ('r', 'm')
                AND class.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
            GROUP BY 1
            ORDER BY 2 DESC
            LIMIT 50
        ) AS largest
    ), '{}') AS tables;

-- name: keep_sizes
-- Keeps sizes, once an hour at the most; after two weeks one a day is enough, and after two years none.
WITH gone AS (
    DELETE FROM size_snapshots AS old
    WHERE taken_at < now() - interval '2 years'
        OR (taken_at < now() - interval '14 days' AND EXISTS (
            SELECT FROM size_snapshots AS earlier
            WHERE earlier.database = old.database AND earlier.taken_at < old.taken_at
                AND earlier.taken_at >= date_trunc('day', old.taken_at)))
)
INSERT INTO size_snapshots (database, bytes, tables)
SELECT %(database)s, %(bytes)s, %(tables)s::jsonb
WHERE NOT EXISTS (
    SELECT FROM size_snapshots WHERE database = %(database)s AND taken_at > now() - interval '1 hour'
);

-- name: sizes_before
-- The sizes that were kept of this database, the oldest first.
SELECT taken_at, bytes, tables
FROM size_snapshots
WHERE database = %(database)s AND taken_at >= now() - make_interval(days => %(days)s)
ORDER BY taken_at;

-- name: find_pgstattuple
-- Lets the transaction see pgstattuple wherever it is installed. No row: it is not installed.
SELECT set_config('search_path', current_setting('search_path') || ', ' || quote_ident(nspname), true) AS search_path
FROM pg_extension
JOIN pg_namespace ON pg_namespace.oid = extnamespace
WHERE extname = 'pgstattuple';

-- name: bloat
-- How much of the schema's largest tables is free or dead: read from the visibility map and the pages that
-- it does not vouch for. No estimate from statistics.
SELECT class.relname::text AS relation, approximate.table_len AS size_bytes,
    approximate.approx_free_percent AS free_percent, approximate.dead_tuple_percent AS dead_percent
FROM (
    SELECT oid, relname
    FROM pg_class
    WHERE relkind = 'r' AND relpages > 1280
        AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
    ORDER BY relpages DESC
    LIMIT 5
) AS class
CROSS JOIN LATERAL pgstattuple_approx(class.oid) AS approximate
ORDER BY table_len * (approx_free_percent + dead_tuple_percent) DESC;
