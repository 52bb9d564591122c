-- name: columns
-- Every column of every table and view that is not the system's: type, key, enum words, rights.
SELECT n.nspname AS schema_name,
    c.relname AS relation_name,
    c.relkind = 'v' OR c.relkind = 'm' AS is_view,
    c.reltuples::bigint AS estimated_rows,
    row_security_active(c.oid) AS rows_hidden,
    has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS may_read,
    a.attname AS column_name,
    format_type(a.atttypid, NULL) AS type_name,
    t.typcategory::text AS type_category,
    coalesce(a.attnum = ANY (k.conkey) AND cardinality(k.conkey) = 1, false) AS is_key,
    (
        SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder)
        FROM pg_enum e
        WHERE e.enumtypid = a.atttypid
    ) AS enum_words
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'p'
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND NOT c.relispartition
    AND n.nspname NOT IN ('information_schema', 'auth', 'storage', 'realtime', 'vault', 'extensions', 'graphql', 'pgsodium', 'supabase_migrations', 'cron', 'net')
    AND n.nspname NOT LIKE 'pg\_%%'
ORDER BY n.nspname, c.relname, a.attnum

-- name: foreign_keys
-- Which column of which table points at the key of which other table.
SELECT n.nspname AS schema_name,
    c.relname AS relation_name,
    a.attname AS column_name,
    tn.nspname AS target_schema,
    tc.relname AS target_name
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.conkey[1]
JOIN pg_class tc ON tc.oid = k.confrelid
JOIN pg_namespace tn ON tn.oid = tc.relnamespace
WHERE k.contype = 'f' AND cardinality(k.conkey) = 1

-- name: allowed_words
-- The CHECK constraints on one column, as text: they list the words that it may hold.
SELECT pg_get_constraintdef(k.oid) AS definition
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND k.conkey = ARRAY[a.attnum]
WHERE k.contype = 'c'
    AND n.nspname = %(schema)s
    AND c.relname = %(relation)s
    AND a.attname = %(column)s

-- name: common_words
-- The frequent values of one column, from the planner's statistics.
SELECT unnest(most_common_vals::text::text[]) AS word
FROM pg_stats
WHERE schemaname = %(schema)s AND tablename = %(relation)s AND attname = %(column)s

-- name: sampled_words
-- The distinct values among the first rows of one column; names are put in as identifiers.
SELECT DISTINCT sample.word::text AS word
FROM (SELECT {column} AS word FROM {schema}.{relation} LIMIT %(rows)s) AS sample
WHERE sample.word IS NOT NULL
LIMIT %(words)s
