-- The counters of pg_stat_statements, and what we kept of them.

-- name: find_extension
-- Lets the transaction see pg_stat_statements wherever it is installed (on Supabase in `extensions`). No
-- row: it is not installed in this database.
SELECT set_config('search_path', current_setting('search_path') || ', ' || quote_ident(n.nspname), true) AS search_path,
    current_database()::text AS database
FROM pg_extension AS e
JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements';

-- name: counters
-- Each statement of this database as it was counted since the statistics were reset. What belongs to
-- others comes without text and id unless the role may see it.
SELECT
    concat_ws('/', userid::regrole, queryid, toplevel) AS statement,
    left(query, 500) AS query,
    query = '<insufficient privilege>' AS hidden,
    userid::regrole::text AS role,
    calls,
    total_exec_time AS total_milliseconds,
    calls * (stddev_exec_time ^ 2 + mean_exec_time ^ 2) AS squared_milliseconds,
    rows,
    (SELECT stats_reset FROM pg_stat_statements_info) AS stats_reset
FROM pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY total_exec_time DESC
LIMIT 5000;

-- name: snapshot_before
-- The newest snapshot that is at least so old, else the oldest.
SELECT taken_at, stats_reset, counters
FROM statement_snapshots
WHERE database = %(database)s
ORDER BY taken_at <= now() - make_interval(hours => %(hours)s) DESC,
    CASE WHEN taken_at <= now() - make_interval(hours => %(hours)s) THEN now() - taken_at ELSE taken_at - now() END
LIMIT 1;

-- name: keep_snapshot
-- Keeps a snapshot unless one was kept within the hour, and lets those go that are older than nine days.
WITH gone AS (
    DELETE FROM statement_snapshots WHERE taken_at < now() - interval '9 days'
)
INSERT INTO statement_snapshots (database, stats_reset, counters)
SELECT %(database)s, %(stats_reset)s, %(counters)s::jsonb
WHERE NOT EXISTS (
    SELECT FROM statement_snapshots WHERE database = %(database)s AND taken_at > now() - interval '1 hour'
);

-- name: routes
-- How long the console's answers took, by route.
SELECT route, count(*) AS calls, avg(milliseconds) AS mean_milliseconds,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY milliseconds) AS p50_milliseconds,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY milliseconds) AS p95_milliseconds,
    percentile_cont(0.99) WITHIN GROUP (ORDER BY milliseconds) AS p99_milliseconds,
    count(*) FILTER (WHERE status >= 500) AS failed
FROM access_log
WHERE at >= now() - make_interval(hours => %(hours)s) AND outcome IN ('served', 'failed')
GROUP BY route
ORDER BY count(*) DESC, route
LIMIT 100;
