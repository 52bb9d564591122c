-- Statements about the schema itself: its version, and whether it may be made.

-- name: lock_migration
-- One migration at a time in a schema; ends with the transaction, so it works through a pooler.
SELECT pg_advisory_xact_lock(hashtext('runbook migrate'), hashtext(%(schema)s));

-- name: schema_exists
-- Whether the schema is there.
SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = %(schema)s);

-- name: create_schema
-- Makes the schema; needs CREATE on the database.
DO $body$
BEGIN
    EXECUTE format('CREATE SCHEMA %%I', %(schema)s);
END
$body$;

-- name: version_table_exists
-- Whether this schema was ever migrated.
SELECT EXISTS (
    SELECT FROM pg_class AS relation
    JOIN pg_namespace AS namespace ON namespace.oid = relation.relnamespace
    WHERE namespace.nspname = %(schema)s AND relation.relname = 'runbook_schema_version'
);

-- name: read_version
-- The version that the schema has.
SELECT version_num
FROM runbook_schema_version;

-- name: occupied_names
-- What already stands in the schema under names that the migration uses, with its columns.
SELECT
    relation.relname AS name,
    CASE relation.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialised view' WHEN 'i' THEN 'index'
        WHEN 'S' THEN 'sequence' WHEN 'f' THEN 'foreign table' ELSE 'table' END AS kind,
    ARRAY(
        SELECT attname::text
        FROM pg_attribute
        WHERE attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
        ORDER BY attnum
    ) AS columns
FROM pg_class AS relation
JOIN pg_namespace AS namespace ON namespace.oid = relation.relnamespace
WHERE namespace.nspname = %(schema)s AND relation.relname = ANY (%(names)s)
UNION ALL
SELECT routine.proname, 'function', ARRAY[]::text[]
FROM pg_proc AS routine
JOIN pg_namespace AS namespace ON namespace.oid = routine.pronamespace
WHERE namespace.nspname = %(schema)s AND routine.proname = ANY (%(names)s)
ORDER BY kind DESC, name;

-- name: role
-- The role that this connection acts as.
SELECT current_user::text;

-- name: server_version
-- The server's version, as it says it.
SELECT current_setting('server_version');
