-- Our tables, and those of a pipeline that is not ours, as the relations `jobs` and `runs`.

-- name: our_jobs
-- Our own jobs in the vocabulary of reading statements.
SELECT
    job_id::text AS job_id,
    job_id AS job_key,
    status,
    stage,
    topic,
    category,
    priority,
    attempt,
    retry_count,
    max_retries,
    lost_count,
    worker,
    lease_until,
    run_at,
    last_error,
    error_class,
    idempotency_key,
    draft_requested_at,
    post_id,
    post_url,
    post_status,
    source,
    created_by,
    created_at,
    updated_at,
    started_at,
    completed_at
FROM content_jobs

-- name: our_runs
-- Our own history in the vocabulary of reading statements.
SELECT
    job_id::text AS job_id,
    job_id AS job_key,
    attempt,
    status,
    job_status,
    execution_time,
    started_at,
    completed_at,
    worker,
    stage,
    charged,
    error,
    error_class,
    fingerprint,
    exception_class,
    provider,
    http_status,
    provider_code,
    sqlstate,
    constraint_name,
    request_id,
    model,
    prompt_tokens,
    completion_tokens,
    tokens,
    cost_usd::numeric AS cost_usd,
    write_seconds,
    publish_seconds,
    category
FROM job_runs

-- name: their_columns
-- The columns of one table or view with their types; no row: there is none of that name.
SELECT a.attname AS name,
    format_type(a.atttypid, NULL) AS type_name,
    CASE WHEN t.typtype = 'd' THEN b.typcategory ELSE t.typcategory END::text AS type_category
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type b ON b.oid = t.typbasetype
WHERE n.nspname = %(schema)s
    AND c.relname = %(table)s
    AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY a.attnum

-- name: their_tables
-- The tables and views that there are, as `schema.name`, to find the one that was meant.
SELECT format('%%s.%%s', n.nspname, c.relname) AS title
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND n.nspname <> 'information_schema'
    AND n.nspname NOT LIKE 'pg\_%%'
ORDER BY title

-- name: definition
-- The SELECT that reads one of their tables as a relation of ours. The server quotes every name and
-- word. `words` and `meanings` are their status words beside ours; rows with a word in `left_out` are not
-- read, nor, where `only_known` is set, those with a word that has no meaning.
SELECT format(
    E'SELECT\n    %%s\nFROM %%I.%%I AS theirs%%s',
    string_agg(format('%%s AS %%I', written.expression, wanted.ours), E',\n    ' ORDER BY wanted.position),
    %(schema)s, %(table)s,
    (SELECT E'\nWHERE ' || string_agg(condition, E'\n    AND ') FROM (
        SELECT format('theirs.%%I IS NOT NULL', %(required)s::text) WHERE %(required)s IS NOT NULL
        UNION ALL
        SELECT format('theirs.%%I::text = ANY (%%L::text[])', %(status)s::text, %(words)s::text[]::text)
        WHERE %(only_known)s
        UNION ALL
        SELECT format('coalesce(theirs.%%I::text <> ALL (%%L::text[]), true)', %(status)s::text, %(left_out)s::text[]::text)
        WHERE NOT %(only_known)s AND cardinality(%(left_out)s::text[]) > 0
    ) AS conditions (condition))
) AS definition
FROM unnest(%(ours)s::text[], %(types)s::text[], %(theirs)s::text[])
    WITH ORDINALITY AS wanted (ours, type, theirs, position)
LEFT JOIN (
    SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type_name
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname = %(schema)s AND c.relname = %(table)s
) AS found ON found.name = wanted.theirs
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN wanted.theirs IS NULL THEN format('NULL::%%s', wanted.type)
        WHEN wanted.ours IN ('status', 'job_status') AND cardinality(%(words)s::text[]) > 0 THEN (
            SELECT format(
                'CASE theirs.%%1$I::text %%2$s ELSE theirs.%%1$I::text END', wanted.theirs,
                string_agg(format('WHEN %%L THEN %%L', word, meaning), ' ' ORDER BY position))
            FROM unnest(%(words)s::text[], %(meanings)s::text[]) WITH ORDINALITY AS known (word, meaning, position)
        )
        WHEN wanted.type = 'timestamp with time zone' AND found.type_name <> wanted.type
            THEN format('theirs.%%I::timestamp AT TIME ZONE %%L', wanted.theirs, %(timezone)s)
        ELSE format('theirs.%%I::%%s', wanted.theirs, wanted.type)
    END AS expression
) AS written

-- name: no_rows
-- The SELECT of a relation that they have nothing for: its columns with their types, and no row.
SELECT format(
    E'SELECT\n    %%s\nWHERE false',
    string_agg(format('NULL::%%s AS %%I', type, ours), E',\n    ' ORDER BY position)
) AS definition
FROM unnest(%(ours)s::text[], %(types)s::text[]) WITH ORDINALITY AS wanted (ours, type, position)

-- name: reading_grants
-- Statements that let a role read exactly the named columns, one a row, to be run by the tables' owner. A
-- line that begins with -- is optional, or says what the next one is for.
WITH named AS (
    SELECT *
    FROM unnest(%(schemas)s::text[], %(tables)s::text[], %(columns)s::text[])
        WITH ORDINALITY AS place (schema_name, table_name, column_name, position)
), tables AS (
    SELECT schema_name, table_name, min(position) AS position,
        string_agg(quote_ident(column_name), ', ' ORDER BY position) AS columns,
        bool_or(c.relrowsecurity) AS row_security
    FROM named
    LEFT JOIN pg_namespace n ON n.nspname = schema_name
    LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = table_name
    GROUP BY 1, 2
)
SELECT statement
FROM (
    SELECT 1 AS step, 0::bigint AS position, format('GRANT CONNECT ON DATABASE %%I TO %%I;', current_database(), %(role)s) AS statement
    UNION ALL
    SELECT 2, min(position), format('GRANT USAGE ON SCHEMA %%I TO %%I;', schema_name, %(role)s)
    FROM tables
    GROUP BY schema_name
    UNION ALL
    SELECT 3, position, format('GRANT SELECT (%%s) ON %%I.%%I TO %%I;', columns, schema_name, table_name, %(role)s)
    FROM tables
    UNION ALL
    SELECT 4, 2 * position, format('-- Row-level security is on for %%I.%%I: without a policy the role sees no row, and no error.', schema_name, table_name)
    FROM tables
    WHERE row_security
    UNION ALL
    SELECT 4, 2 * position + 1, format('CREATE POLICY runbook_reads ON %%I.%%I FOR SELECT TO %%I USING (true);', schema_name, table_name, %(role)s)
    FROM tables
    WHERE row_security
    UNION ALL
    SELECT 5, 0, format('CREATE SCHEMA IF NOT EXISTS %%I AUTHORIZATION %%I;', %(own_schema)s::text, %(role)s)
    WHERE %(own_schema)s IS NOT NULL
    UNION ALL
    SELECT 6, 0, '-- Optional, once more the same: every transaction of this role is read only.'
    WHERE %(own_schema)s IS NULL
    UNION ALL
    SELECT 6, 1, format('-- ALTER ROLE %%I SET default_transaction_read_only = on;', %(role)s)
    WHERE %(own_schema)s IS NULL
    UNION ALL
    SELECT 7, 0, '-- Optional. Shows the statements and sessions of other roles: who blocks whom, the oldest transaction, the slow'
    UNION ALL
    SELECT 7, 1, '-- statements, sizes. Without it these checks answer not_allowed, and all others work.'
    UNION ALL
    SELECT 7, 2, format('-- GRANT pg_monitor TO %%I;', %(role)s)
) AS script
ORDER BY step, position

-- name: their_rights
-- For each named column: whether this role may read it, and whether row-level security hides rows of its table.
SELECT place.*,
    has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(c.oid, place.column_name, 'SELECT') AS may_read,
    row_security_active(c.oid) AS rows_hidden
FROM unnest(%(schemas)s::text[], %(tables)s::text[], %(columns)s::text[])
    AS place (schema_name, table_name, column_name)
JOIN pg_namespace n ON n.nspname = place.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = place.table_name
ORDER BY place.schema_name, place.table_name, place.column_name
