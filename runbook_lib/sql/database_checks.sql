-- Whether the database can be used: reached, fast, written, and how many connections are left.

-- name: server
-- What answers: its version, its start, whether it is a standby or read-only and where that comes from.
SELECT current_setting('server_version') AS version,
    pg_postmaster_start_time() AS started_at,
    pg_is_in_recovery() AS standby,
    current_setting('default_transaction_read_only') = 'on' AS read_only,
    (SELECT source FROM pg_settings WHERE name = 'default_transaction_read_only') AS read_only_source;

-- name: connections_by_application
-- Connections of this server by application and role, the most first. What a role may not see of others
-- is counted as hidden.
SELECT coalesce(nullif(application_name, ''), '(no name)') AS application,
    usename AS role,
    count(*) AS connections,
    count(*) FILTER (WHERE state = 'active') AS active,
    count(*) FILTER (WHERE state = 'idle') AS idle,
    count(*) FILTER (WHERE state LIKE 'idle in transaction%%') AS idle_in_transaction,
    count(*) FILTER (WHERE query = '<insufficient privilege>') AS hidden
FROM pg_stat_activity
WHERE datid IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'
GROUP BY 1, 2
ORDER BY 3 DESC, 1, 2
LIMIT 50;

-- name: waits
-- Sessions of this database that wait for a lock, whom each waits for, and those whom they wait for. Process 0 among
-- the blockers is a prepared transaction.
WITH waiting AS MATERIALIZED (
    SELECT pid,
        extract(epoch FROM clock_timestamp() - min(waitstart))::double precision AS waiting_seconds,
        (array_agg(relation::regclass::text) FILTER (WHERE relation IS NOT NULL))[1] AS relation,
        (array_agg(mode))[1] AS wanted_lock,
        pg_blocking_pids(pid) AS blocked_by
    FROM pg_locks
    WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())
    GROUP BY pid
)
SELECT activity.pid,
    coalesce(waiting.blocked_by, '{}') AS blocked_by,
    waiting.waiting_seconds,
    waiting.relation,
    waiting.wanted_lock,
    activity.usename AS role,
    activity.application_name AS application,
    activity.state,
    extract(epoch FROM clock_timestamp() - activity.xact_start)::double precision AS transaction_seconds,
    left(activity.query, 200) AS query,
    activity.query = '<insufficient privilege>' AS hidden
FROM pg_stat_activity AS activity
LEFT JOIN waiting USING (pid)
WHERE activity.pid IN (SELECT pid FROM waiting UNION SELECT unnest(blocked_by) FROM waiting)
ORDER BY activity.xact_start, activity.pid;

-- name: sessions_in_transaction
-- Sessions of clients in a transaction, the oldest first, and how many sessions this role may not look into.
SELECT activity.pid,
    activity.usename AS role,
    activity.application_name AS application,
    activity.datname AS database,
    activity.state,
    extract(epoch FROM clock_timestamp() - activity.xact_start)::double precision AS transaction_seconds,
    extract(epoch FROM clock_timestamp() - activity.state_change)::double precision AS in_state_seconds,
    age(activity.backend_xmin) AS holds_back_transactions,
    left(activity.query, 200) AS query,
    hidden.sessions AS hidden_sessions
FROM (
    SELECT count(*) AS sessions
    FROM pg_stat_activity
    WHERE datid IS NOT NULL AND query = '<insufficient privilege>'
) AS hidden
LEFT JOIN pg_stat_activity AS activity
    ON activity.xact_start IS NOT NULL AND activity.pid <> pg_backend_pid() AND activity.backend_type = 'client backend'
ORDER BY activity.xact_start
LIMIT 20;

-- name: prepared_transactions
-- Transactions that were prepared and neither committed nor rolled back, the oldest first.
SELECT gid, owner AS role, database,
    extract(epoch FROM clock_timestamp() - prepared)::double precision AS seconds,
    age(transaction) AS holds_back_transactions
FROM pg_prepared_xacts
ORDER BY prepared
LIMIT 20;

-- name: replication_slots
-- Replication slots: how many transactions and how much WAL each holds back.
SELECT slot_name, slot_type, active,
    greatest(age(xmin), age(catalog_xmin)) AS holds_back_transactions,
    pg_wal_lsn_diff(
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END, restart_lsn
    )::double precision AS retained_bytes
FROM pg_replication_slots
ORDER BY 5 DESC NULLS LAST
LIMIT 20;

-- name: size
-- The size of this database and of its largest tables with all that belongs to them.
SELECT pg_database_size(current_database()) AS database_bytes,
    ARRAY(
        SELECT json_build_object('relation', relation::text, 'bytes', bytes)
        FROM (
            SELECT coalesce(pg_partition_root(oid), oid)::regclass AS relation, sum(pg_total_relation_size(oid)) AS bytes
            FROM pg_class
            WHERE relkind IN ('r', 'm') AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
            GROUP BY 1
            ORDER BY 2 DESC
            LIMIT 5
        ) AS largest
    ) AS largest;

-- name: wal_size
-- How much room the write-ahead log takes on the server's disk.
SELECT coalesce(sum(size), 0)::bigint AS wal_bytes, count(*) AS files
FROM pg_ls_waldir();

-- name: data_directory
-- Where the server keeps its data.
SELECT current_setting('data_directory') AS directory;

-- name: wraparound
-- The database of this server that is nearest to the end of its transaction numbers (2,146,483,647, less
-- the three millions at which the server refuses new ones).
SELECT datname AS database,
    age(datfrozenxid) AS transactions,
    mxid_age(datminmxid) AS multixacts,
    100.0 * greatest(age(datfrozenxid), mxid_age(datminmxid)) / 2143483647.0 AS used_percent,
    current_setting('autovacuum_freeze_max_age')::integer AS freeze_max_age
FROM pg_database
ORDER BY 4 DESC
LIMIT 1;

-- name: rows_hidden
-- Of these tables, whether row-level security applies to this role: rows may then be missing without an error.
SELECT title, coalesce(row_security_active(to_regclass(title)), false) AS rows_hidden
FROM unnest(%(tables)s::text[]) AS title;
