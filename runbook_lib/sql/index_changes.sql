-- Making indexes again that the schema has and the database lacks.

-- name: indexes_wanted
-- Of these indexes, those that are absent or cannot be used, on tables that are there. Indexes of partitioned
-- tables are left out: they cannot be made beside running work.
SELECT wanted.name, wanted.title AS table_name, home.nspname::text AS schema_name, relation.reltuples::bigint AS estimated_rows,
    pg_table_size(relation.oid) AS table_bytes,
    CASE WHEN made.oid IS NULL THEN 'absent' ELSE 'invalid' END AS state,
    pg_get_userbyid(relation.relowner)::text AS owner, pg_has_role(relation.relowner, 'USAGE') AS may
FROM unnest(%(names)s::text[], %(tables)s::text[]) AS wanted (name, title)
JOIN pg_class AS relation ON relation.oid = to_regclass(wanted.title) AND relation.relkind = 'r'
JOIN pg_namespace AS home ON home.oid = relation.relnamespace
LEFT JOIN pg_class AS made ON made.relnamespace = home.oid AND made.relname = wanted.name
LEFT JOIN pg_index AS index ON index.indexrelid = made.oid
WHERE made.oid IS NULL OR NOT (index.indisvalid AND index.indisready)
ORDER BY wanted.name;

-- name: index_state
-- Whether an index is absent, cannot be used, or is valid.
SELECT CASE WHEN index.indexrelid IS NULL THEN 'absent' WHEN index.indisvalid AND index.indisready THEN 'valid' ELSE 'invalid' END
FROM pg_namespace AS home
LEFT JOIN pg_class AS made ON made.relnamespace = home.oid AND made.relname = %(name)s
LEFT JOIN pg_index AS index ON index.indexrelid = made.oid
WHERE home.nspname = %(schema)s;

-- name: indexes_made
-- The indexes that a change made and that are still there.
SELECT made.row_key AS name, home.nspname::text AS schema_name, pg_relation_size(relation.oid) AS size_bytes
FROM change_rows AS made
JOIN pg_namespace AS home ON home.nspname = made.after ->> 'schema'
JOIN pg_class AS relation ON relation.relnamespace = home.oid AND relation.relname = made.row_key AND relation.relkind = 'i'
WHERE made.change_id = %(change_id)s::uuid AND made.outcome = 'changed'
ORDER BY made.row_key;

-- name: create_statement
-- The statement that makes an index beside running work; it is run outside a transaction, so names are whole.
SELECT format('CREATE %%s INDEX CONCURRENTLY %%I ON %%I.%%I %%s', CASE WHEN %(unique)s THEN 'UNIQUE' ELSE '' END,
    %(name)s, %(schema)s, %(table)s, %(rest)s);

-- name: drop_statement
-- The statement that drops an index beside running work.
SELECT format('DROP INDEX CONCURRENTLY %%I.%%I', %(schema)s, %(name)s);
