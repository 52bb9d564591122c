-- Roles: what each may do with our tables, and the statements that give it no more than it needs.

-- name: role_that_is_granted
-- The role, and whether it owns any table of this schema; no row: there is none of that name.
SELECT rolname AS role,
    EXISTS (
        SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname = %(schema)s AND relkind IN ('r', 'p') AND relowner = pg_roles.oid
    ) AS owns
FROM pg_roles
WHERE rolname = %(role)s;

-- name: grants_of_purpose
-- Statements that take from a role what it has on our tables and give what a purpose needs, one a row, to be
-- run by the owner.
SELECT statement
FROM (
    SELECT 1 AS step, 0::bigint AS position, format('GRANT USAGE ON SCHEMA %%I TO %%I;', %(schema)s, %(role)s) AS statement
    UNION ALL
    SELECT 2, position, format('REVOKE ALL ON %%I.%%I FROM %%I;', %(schema)s, name, %(role)s)
    FROM unnest(%(everything)s::text[]) WITH ORDINALITY AS ours (name, position)
    UNION ALL
    SELECT 3, position, format('GRANT %%s ON %%I.%%I TO %%I;', privileges, %(schema)s, name, %(role)s)
    FROM unnest(%(tables)s::text[], %(privileges)s::text[]) WITH ORDINALITY AS wanted (name, privileges, position)
    UNION ALL
    SELECT 4, 0, format('GRANT SELECT ON %%I.runbook_schema_version TO %%I;', %(schema)s, %(role)s)
    UNION ALL
    SELECT 5, 0, format('%%s EXECUTE ON FUNCTION %%I.make_job_runs_partitions(integer) %%s %%I;',
        CASE WHEN %(functions)s THEN 'GRANT' ELSE 'REVOKE' END, %(schema)s,
        CASE WHEN %(functions)s THEN 'TO' ELSE 'FROM' END, %(role)s)
) AS script
ORDER BY step, position;

-- name: rights_on_tables
-- What each role may do with each of these tables, by itself or through a role that it is in, and what
-- everybody may (PUBLIC). Superusers may everything and are told by `powerful_roles`.
WITH ours AS (
    SELECT c.oid, c.relname, c.relowner, c.relacl
    FROM unnest(%(schemas)s::text[], %(tables)s::text[]) AS place (schema_name, table_name)
    JOIN pg_namespace n ON n.nspname = place.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = place.table_name
)
SELECT r.rolname::text AS role, r.rolcanlogin AS may_log_in, ours.relname::text AS table_name,
    pg_has_role(r.oid, ours.relowner, 'USAGE') AS owns, found.privileges
FROM pg_roles AS r
CROSS JOIN ours
CROSS JOIN LATERAL (
    SELECT array_agg(privilege ORDER BY privilege) AS privileges
    FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS privilege
    WHERE has_table_privilege(r.oid, ours.oid, privilege)
) AS found
WHERE NOT r.rolsuper AND r.rolname NOT LIKE 'pg\_%%' AND found.privileges IS NOT NULL
UNION ALL
SELECT 'PUBLIC', false, ours.relname::text, false, array_agg(acl.privilege_type ORDER BY acl.privilege_type)
FROM ours
CROSS JOIN LATERAL aclexplode(ours.relacl) AS acl
WHERE acl.grantee = 0
GROUP BY ours.relname
ORDER BY role, table_name;

-- name: powerful_roles
-- Roles that log in and may more than tables say: superusers, those that pass row security, that make roles
-- or databases, or replicate; and whether we are one of them.
SELECT rolname::text AS role, rolsuper AS is_superuser, rolbypassrls AS passes_row_security,
    rolcreaterole AS makes_roles, rolcreatedb AS makes_databases, rolreplication AS replicates,
    rolname = current_user AS is_ours
FROM pg_roles
WHERE rolcanlogin AND rolname NOT LIKE 'pg\_%%'
    AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)
ORDER BY rolname;

-- name: data_api_exposure
-- For each of these tables: what the roles of Supabase's Data API may do with it, whether row security is on,
-- and how many policies let them through. `api_roles` is empty where the server has no such role.
WITH api AS (
    SELECT oid, rolname
    FROM pg_roles
    WHERE rolname IN ('anon', 'authenticated')
)
SELECT n.nspname::text AS schema_name, c.relname::text AS table_name, c.relrowsecurity AS row_security,
    coalesce(has_usage, false) AS reaches_schema,
    ARRAY(SELECT rolname::text FROM api ORDER BY 1) AS api_roles,
    coalesce(granted.privileges, '{}') AS privileges,
    (
        SELECT count(*) FROM pg_policy
        WHERE polrelid = c.oid AND (polroles = '{0}' OR polroles && ARRAY(SELECT oid FROM api))
    ) AS policies
FROM unnest(%(schemas)s::text[], %(tables)s::text[]) AS place (schema_name, table_name)
JOIN pg_namespace n ON n.nspname = place.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = place.table_name
LEFT JOIN LATERAL (
    SELECT bool_or(has_schema_privilege(api.oid, n.oid, 'USAGE')) AS has_usage
    FROM api
) AS reach ON true
LEFT JOIN LATERAL (
    SELECT array_agg(DISTINCT format('%%s: %%s', api.rolname, privilege)) AS privileges
    FROM api
    CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS privilege
    WHERE has_table_privilege(api.oid, c.oid, privilege)
) AS granted ON true
ORDER BY 1, 2;

-- name: functions_for_data_api
-- Functions of a schema that act with their owner's rights and that a role of the Data API may call.
SELECT p.proname::text AS function_name, string_agg(r.rolname::text, ', ' ORDER BY r.rolname) AS roles
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
JOIN pg_roles r ON r.rolname IN ('anon', 'authenticated')
WHERE n.nspname = %(schema)s AND p.prosecdef AND p.prorettype <> 'trigger'::regtype
    AND has_schema_privilege(r.oid, n.oid, 'USAGE') AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
GROUP BY p.proname
ORDER BY p.proname;
