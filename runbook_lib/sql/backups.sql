-- Figures by which a restored copy is compared with its source.

-- name: one_moment
-- Everything that this transaction reads is of one moment; to be said before anything else.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;

-- name: same_output
-- Rows become texts in one way, whatever the role or the server have set.
SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, MDY', true),
    set_config('IntervalStyle', 'postgres', true), set_config('extra_float_digits', '1', true),
    set_config('bytea_output', 'hex', true);

-- name: export_snapshot
-- The moment's name, so that pg_dump reads the same one while this transaction is open.
SELECT pg_export_snapshot();

-- name: about_the_source
-- The server's version as a number, and how many bytes the database takes.
SELECT current_setting('server_version_num')::int / 10000 AS major, pg_database_size(current_database()) AS bytes;

-- name: sample_sizes
-- For each of these tables that there is: one row in so many is looked at as a whole, some ten thousand in all.
SELECT c.relname::text AS table_name, greatest(1, ceil((greatest(c.reltuples, 0) + size.rows) / %(most_sampled)s))::int AS every
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT coalesce(sum(greatest(leaf.reltuples, 0)), 0) AS rows
    FROM pg_partition_tree(c.oid) AS tree
    JOIN pg_class leaf ON leaf.oid = tree.relid
    WHERE tree.isleaf AND leaf.oid <> c.oid
) AS size
WHERE n.nspname = %(schema)s AND c.relname = ANY (%(tables)s) AND c.relkind IN ('r', 'p')
ORDER BY c.relname;

-- name: statements_of_figures
-- For each of these tables the statement, every name quoted by the server, that tells its rows, the sums of its
-- numeric columns, and a digest over a sample of whole rows, chosen by their keys so that both sides take the same.
SELECT c.relname::text AS table_name,
    format(
        'SELECT count(*) AS rows, concat_ws('' '', ''sums'', %%s) AS sums, count(*) FILTER (WHERE chosen) AS sampled, '
        'coalesce(sum((''x'' || left(md5(whole), 15))::bit(60)::bigint), 0)::text AS digest '
        'FROM (SELECT t.*, chosen, CASE WHEN chosen THEN t::text END AS whole FROM %%I.%%I AS t '
        'CROSS JOIN LATERAL (SELECT mod((''x'' || left(md5(%%s), 8))::bit(32)::bigint, %%s) = 0 AS chosen) AS choice) AS found',
        coalesce(numbers.sums, '''none'''), n.nspname, c.relname, coalesce(keys.text, 't::text'), wanted.every
    ) AS statement
FROM unnest(%(tables)s::text[], %(every)s::int[]) AS wanted (table_name, every)
JOIN pg_namespace n ON n.nspname = %(schema)s
JOIN pg_class c ON c.relname = wanted.table_name AND c.relnamespace = n.oid AND c.relkind IN ('r', 'p')
LEFT JOIN LATERAL (
    SELECT string_agg(format('coalesce(sum(round(%%I::numeric, 6))::text, ''-'')', a.attname), ', ' ORDER BY a.attnum) AS sums
    FROM pg_attribute a
    JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        AND t.typname IN ('int2', 'int4', 'int8', 'numeric', 'float4', 'float8')
) AS numbers ON true
LEFT JOIN LATERAL (
    SELECT format('concat_ws(''/'', %%s)', string_agg(format('t.%%I', a.attname), ', ' ORDER BY a.attnum)) AS text
    FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
    WHERE i.indrelid = c.oid AND i.indisprimary
    HAVING count(*) > 0
) AS keys ON true
ORDER BY c.relname;
