-- name: server
-- What and whom one is connected to: version, database, role, standby, read-only and where that comes from.
SELECT current_setting('server_version_num')::integer AS version_number,
    current_setting('server_version') AS version,
    current_database() AS database,
    current_user AS role,
    pg_is_in_recovery() AS standby,
    current_setting('default_transaction_read_only') = 'on' AS read_only,
    (SELECT source FROM pg_settings WHERE name = 'default_transaction_read_only') AS read_only_source

-- name: clock
-- The server's clock, in seconds since 1970.
SELECT extract(epoch FROM clock_timestamp())::double precision

-- name: backend
-- The server process behind this transaction; a pooler shows the client another number.
SELECT pg_backend_pid()

-- name: schema_rights
-- What the role may do in the schema; no row: the schema does not exist.
SELECT has_schema_privilege(oid, 'USAGE') AS may_use,
    has_schema_privilege(oid, 'CREATE') AS may_create
FROM pg_namespace
WHERE nspname = %(schema)s

-- name: table_rights
-- For each wanted right on a table: whether the table is there, the right is granted, rows are hidden.
SELECT wanted.relation,
    wanted.privilege,
    found.oid IS NOT NULL AS present,
    coalesce(has_table_privilege(found.oid, wanted.privilege), false) AS granted,
    coalesce(row_security_active(found.oid), false) AS rows_hidden
FROM unnest(%(relations)s::text[], %(privileges)s::text[]) AS wanted (relation, privilege)
LEFT JOIN (
    SELECT c.oid, c.relname
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relkind IN ('r', 'p')
) AS found ON found.relname = wanted.relation
ORDER BY wanted.relation, wanted.privilege

-- name: partition_function_rights
-- Whether the role may make partitions ahead; no row: the function does not exist.
SELECT has_function_privilege(p.oid, 'EXECUTE') AS may_execute
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = %(schema)s AND p.proname = 'make_job_runs_partitions'

-- name: connections
-- Connections in use and the three limits that can refuse the next one; -1 or NULL: no limit.
SELECT count(*) AS used,
    count(*) FILTER (WHERE a.usesysid = r.oid) AS used_by_role,
    count(*) FILTER (WHERE a.datid = d.oid) AS used_by_database,
    current_setting('max_connections')::integer
        - current_setting('superuser_reserved_connections')::integer
        - coalesce(current_setting('reserved_connections', true), '0')::integer AS server_limit,
    nullif(r.rolconnlimit, -1) AS role_limit,
    nullif(d.datconnlimit, -1) AS database_limit
FROM pg_roles r
JOIN pg_database d ON d.datname = current_database()
LEFT JOIN pg_stat_activity a ON a.datid IS NOT NULL
WHERE r.rolname = current_user
GROUP BY r.oid, d.oid, r.rolconnlimit, d.datconnlimit

-- name: partitions
-- Until when partitions are made, and whether the default partition may be read or takes any room.
SELECT extract(epoch FROM max(bound.upper_end) - now()) / 86400 AS days_ahead,
    has_table_privilege('job_runs_default', 'SELECT') AS may_count,
    pg_relation_size('job_runs_default') AS default_bytes
FROM (
    SELECT substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''([^'']+)''\)')::timestamptz AS upper_end
    FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'job_runs'::regclass
) AS bound

-- name: stray_rows
-- Rows in the default partition, counted to 1,000.
SELECT count(*)
FROM (SELECT 1 FROM job_runs_default LIMIT 1000) AS strays
