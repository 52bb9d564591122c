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
