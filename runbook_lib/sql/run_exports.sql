-- The clean-up of job_runs: what is old, how it is exported and compared, and how it is removed.
-- Statements about one partition are written by the server, which quotes every name.

-- name: runs_before
-- The tables that runs older than the border stand in: partitions that are wholly older (they are
-- dropped, even when empty), and others, from which old rows are deleted.
WITH old AS MATERIALIZED (
    SELECT tableoid AS relation_oid, count(*) AS rows, min(execution_time) AS oldest, max(execution_time) AS newest
    FROM job_runs
    WHERE execution_time < %(border)s::timestamptz
    GROUP BY 1
), tables AS (
    SELECT
        child.oid AS relation_oid, child.relname::text AS relation, bound LIKE 'DEFAULT%%' AS is_default,
        substring(bound FROM $$FROM \('([^']+)'\)$$)::timestamptz AS since,
        substring(bound FROM $$TO \('([^']+)'\)$$)::timestamptz AS until,
        pg_total_relation_size(child.oid) AS size_bytes
    FROM pg_class AS child
    LEFT JOIN pg_inherits ON inhrelid = child.oid
    CROSS JOIN LATERAL (SELECT pg_get_expr(child.relpartbound, child.oid) AS bound) AS bounds
    WHERE (inhparent = 'job_runs'::regclass OR child.oid = 'job_runs'::regclass) AND child.relkind = 'r'
)
SELECT relation_oid::bigint, relation, since, until, size_bytes, coalesce(rows, 0) AS rows, oldest, newest,
    CASE WHEN until <= %(border)s::timestamptz THEN 'drop' ELSE 'delete' END AS action,
    until IS NOT NULL AND until > %(border)s::timestamptz AS straddles
FROM tables
LEFT JOIN old USING (relation_oid)
WHERE until <= %(border)s::timestamptz OR rows > 0
ORDER BY coalesce(oldest, since), relation;

-- name: partitions
-- The tables that runs stand in and that hold any, with their size and the server's estimate of their rows;
-- NULL: it has not counted them yet.
SELECT
    child.relname::text AS partition,
    substring(bound FROM $$FROM \('([^']+)'\)$$)::timestamptz AS since,
    substring(bound FROM $$TO \('([^']+)'\)$$)::timestamptz AS until,
    CASE WHEN child.reltuples > 0 THEN child.reltuples::bigint END AS estimated_rows,
    pg_total_relation_size(child.oid) AS size_bytes
FROM pg_class AS child
LEFT JOIN pg_inherits ON inhrelid = child.oid
CROSS JOIN LATERAL (SELECT pg_get_expr(child.relpartbound, child.oid) AS bound) AS bounds
WHERE (inhparent = 'job_runs'::regclass OR child.oid = 'job_runs'::regclass) AND child.relkind = 'r'
    AND pg_relation_size(child.oid) > 0
ORDER BY since NULLS FIRST, partition;

-- name: fix_formats
-- Times and figures as text are the same whatever the role or database has set.
SELECT set_config(name, value, true)
FROM (VALUES ('datestyle', 'ISO, YMD'), ('timezone', 'UTC'), ('extra_float_digits', '1'), ('client_encoding', 'UTF8')) AS wanted (name, value);

-- name: columns
-- Each column of job_runs that is exported, its type in the file, and whether it has a sum. A generated
-- column is not: it is made again wherever its rows go.
SELECT
    attname::text AS name,
    CASE
        WHEN type IN ('uuid', 'boolean', 'smallint', 'integer', 'bigint', 'date') THEN upper(type)
        WHEN type = 'double precision' THEN 'DOUBLE'
        WHEN type = 'timestamp with time zone' THEN 'TIMESTAMPTZ'
        WHEN type LIKE 'numeric(%%' THEN 'DECIMAL' || substring(type FROM '\(.*\)')
        ELSE 'VARCHAR'
    END AS file_type,
    type IN ('smallint', 'integer', 'bigint') OR type LIKE 'numeric(%%' AS summed
FROM pg_attribute
CROSS JOIN LATERAL (SELECT format_type(atttypid, atttypmod) AS type) AS types
WHERE attrelid = 'job_runs'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY attnum;

-- name: statements
-- The statements about one table: copying its old rows out, counting, summing and checksumming them,
-- locking it against writers, dropping it, and deleting exactly rows that a file holds. The checksum of a
-- row stands on the text of its columns; times in seconds go in as whole microseconds.
WITH columns AS (
    SELECT
        string_agg(quote_ident(attname), ', ' ORDER BY attnum) AS names,
        format('(''x'' || left(md5(concat_ws(chr(31), %%s)), 15))::bit(60)::bigint', string_agg(
            CASE
                WHEN type = 'double precision' THEN format(
                    'CASE WHEN %%1$I IS NULL THEN chr(30) WHEN %%1$I > -1e12 AND %%1$I < 1e12 THEN floor(%%1$I * 1000000)::bigint::text ELSE ''far'' END', attname)
                WHEN attnotnull THEN format('%%I::text', attname)
                ELSE format('coalesce(%%I::text, chr(30))', attname)
            END, ', ' ORDER BY attnum)) AS checksum,
        string_agg(format('%%L, sum(%%I)::text', attname, attname), ', ' ORDER BY attnum)
            FILTER (WHERE type IN ('smallint', 'integer', 'bigint') OR type LIKE 'numeric(%%') AS sums
    FROM pg_attribute
    CROSS JOIN LATERAL (SELECT format_type(atttypid, atttypmod) AS type) AS types
    WHERE attrelid = 'job_runs'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
)
SELECT
    format('COPY (SELECT %%s FROM %%s WHERE execution_time < %%L) TO STDOUT WITH (FORMAT csv, NULL ''\N'')',
        names, relation, %(border)s::timestamptz) AS copy_out,
    format('SELECT count(*) AS rows, coalesce(sum(%%s), 0) AS checksum, jsonb_build_object(%%s) AS sums FROM %%s WHERE execution_time < %%L',
        checksum, sums, relation, %(border)s::timestamptz) AS totals,
    format('LOCK TABLE %%s IN SHARE MODE', relation) AS keep_writers_out,
    format('DROP TABLE %%s', relation) AS drop_table,
    format(
        'DELETE FROM job_runs USING unnest(%%%%(jobs)s::uuid[], %%%%(attempts)s::integer[], %%%%(times)s::timestamptz[], %%%%(checksums)s::bigint[])'
        ' AS exported (exported_job, exported_attempt, exported_time, exported_checksum)'
        ' WHERE job_id = exported_job AND attempt = exported_attempt AND execution_time = exported_time'
        ' AND execution_time >= %%%%(oldest)s::timestamptz AND execution_time <= %%%%(newest)s::timestamptz AND %%s = exported_checksum',
        checksum) AS delete_rows
FROM columns
CROSS JOIN (SELECT %(relation_oid)s::oid::regclass AS relation) AS named;

-- name: relation_exists
-- Whether a table is still there and still holds runs of job_runs.
SELECT EXISTS (
    SELECT FROM pg_class
    LEFT JOIN pg_inherits ON inhrelid = pg_class.oid
    WHERE pg_class.oid = %(relation_oid)s::oid
        AND (inhparent = 'job_runs'::regclass OR pg_class.oid = 'job_runs'::regclass)
);

-- name: size
-- What a table takes on the disk, with all that belongs to it.
SELECT pg_total_relation_size(%(relation_oid)s::oid);

-- name: rows_left
-- Whether a row older than the border is left in this table.
SELECT count(*)
FROM job_runs
WHERE tableoid = %(relation_oid)s::oid AND execution_time < %(border)s::timestamptz;

-- name: keep_export
-- Notes a file that holds these runs and was compared. Nothing is removed before this is committed.
INSERT INTO run_exports (
    relation, relation_oid, action, border, file, size_bytes, sha256, rows, oldest, newest, checksum, sums,
    write_seconds, check_seconds, exported_by
)
VALUES (
    %(relation)s, %(relation_oid)s, %(action)s, %(border)s, %(file)s, %(size_bytes)s, %(sha256)s, %(rows)s,
    %(oldest)s, %(newest)s, %(checksum)s, %(sums)s::jsonb,
    %(write_seconds)s, %(check_seconds)s, %(actor)s
)
RETURNING export_id;

-- name: open_export
-- The newest export of a table whose rows are not removed yet, or were.
SELECT export_id::text, action, file, size_bytes, sha256, rows, checksum, sums, removed_at, rows_removed, bytes_returned
FROM run_exports
WHERE relation_oid = %(relation_oid)s::oid
    AND relation = %(relation)s
    AND action = %(action)s
    AND (action = 'drop' OR border = %(border)s::timestamptz)
ORDER BY export_id DESC
LIMIT 1;

-- name: count_removed
-- Counts rows as removed in the transaction that removes them.
UPDATE run_exports
SET rows_removed = rows_removed + %(rows)s
WHERE export_id = %(export_id)s::uuid;

-- name: end_export
-- All rows of an export are removed.
UPDATE run_exports
SET rows_removed = rows_removed + %(rows)s,
    bytes_returned = %(bytes_returned)s,
    removed_at = clock_timestamp()
WHERE export_id = %(export_id)s::uuid;

-- name: exports
-- The newest exports, and what was removed after them.
SELECT relation, action, oldest, newest, rows, rows_removed, bytes_returned, size_bytes, file, exported_by, exported_at,
    removed_at
FROM run_exports
ORDER BY export_id DESC
LIMIT %(row_count)s;
