-- Whether the database can be used: reached, written, and how many connections are left.

-- name: server
-- What answers: its version, its start, whether it is a standby or read-only and where that comes from.
SELECT current_setting('server_version') AS version,
    pg_postmaster_start_time() AS started_at,
    pg_is_in_recovery() AS standby,
    current_setting('default_transaction_read_only') = 'on' AS read_only,
    (SELECT source FROM pg_settings WHERE name = 'default_transaction_read_only') AS read_only_source;

-- name: nothing
-- A question whose only cost is the way there and back.
SELECT 1;
