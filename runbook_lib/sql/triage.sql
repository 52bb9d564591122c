-- What triage reads beside the checks: the newest attempts, what waits, who works, and the server's own
-- view of locks, rights, indexes and restarts. Nothing here writes, waits for a lock, or reads a whole table.

-- name: newest_attempts
-- The newest ended attempts of so many hours, the newest first.
SELECT job_id, attempt, status, job_status, execution_time, started_at, completed_at, worker, stage,
    error_class, provider, http_status, provider_code, sqlstate, exception_class, model, category, tokens,
    write_seconds, publish_seconds, left(error, 300) AS error,
    extract(epoch FROM now() - execution_time)::double precision AS age_seconds
FROM runs
WHERE execution_time > now() - make_interval(hours => %(hours)s) AND execution_time <= now() + interval '1 day'
ORDER BY execution_time DESC
LIMIT %(count)s;

-- name: in_processing
-- Jobs in processing, the longest first: at which stage, by whom, for how long, and whether the lease stands.
SELECT job_id, stage, worker, attempt, category, lost_count,
    extract(epoch FROM now() - started_at)::double precision AS age_seconds,
    extract(epoch FROM lease_until - now())::double precision AS lease_left_seconds,
    draft_requested_at IS NOT NULL AND post_id IS NULL AS draft_open
FROM jobs
WHERE status = 'processing'
ORDER BY started_at NULLS FIRST
LIMIT 500;

-- name: waiting
-- Jobs that wait, by stage and the error of their last attempt; whether they are due, and since when.
SELECT stage, run_at IS NULL OR run_at <= now() AS due, error_class, count(*) AS jobs,
    extract(epoch FROM now() - min(coalesce(run_at, updated_at, created_at)))::double precision AS longest_seconds,
    max(lost_count) AS most_lost
FROM jobs
WHERE status = 'pending'
GROUP BY 1, 2, 3
ORDER BY 4 DESC
LIMIT 100;

-- name: ended_in_error
-- Jobs that ended in error within so many hours, by class and category.
SELECT error_class, category, count(*) AS jobs, max(updated_at) AS newest
FROM jobs
WHERE status = 'error' AND updated_at > now() - make_interval(hours => %(hours)s)
GROUP BY 1, 2
ORDER BY 3 DESC
LIMIT 200;

-- name: completed_without_post
-- Of the jobs that completed within an hour, those that name no post.
SELECT count(*) AS completed, count(*) FILTER (WHERE jobs.post_id IS NULL) AS without_post
FROM runs
JOIN jobs USING (job_key)
WHERE runs.status = 'completed' AND runs.execution_time > now() - interval '1 hour';

-- name: overlapping_attempts
-- Attempts of one job by two workers that overlapped in time within six hours: it was given out twice.
SELECT earlier.job_id, earlier.worker AS first_worker, later.worker AS second_worker,
    later.execution_time AS ended_at,
    extract(epoch FROM least(earlier.completed_at, later.completed_at) - later.started_at)::double precision AS overlap_seconds
FROM runs AS earlier
JOIN runs AS later ON later.job_key = earlier.job_key AND later.attempt > earlier.attempt
WHERE earlier.execution_time > now() - interval '6 hours' AND later.execution_time > now() - interval '6 hours'
    AND later.worker <> earlier.worker
    AND later.started_at < earlier.completed_at
ORDER BY later.execution_time DESC
LIMIT 50;

-- name: attempts_without_a_row
-- Jobs of whose attempts fewer rows tell than there were: each attempt of our workers ends with a row, so that
-- these were taken away by somebody else. Only what was begun within the hour: what was brought in from
-- elsewhere has attempts without rows too.
WITH chosen AS (
    SELECT job_key
    FROM jobs
    WHERE status IN ('pending', 'processing') AND attempt BETWEEN 2 AND 1000 AND updated_at > now() - interval '1 hour'
    UNION
    SELECT job_key
    FROM runs
    WHERE execution_time > now() - interval '1 hour' AND attempt BETWEEN 2 AND 1000
    LIMIT 1000
)
SELECT job_id, attempt, told, attempt - told - (status = 'processing')::integer AS untold
FROM (
    SELECT job_id, attempt, status, (SELECT count(*) FROM runs WHERE runs.job_key = jobs.job_key) AS told
    FROM jobs
    JOIN chosen USING (job_key)
    WHERE started_at > now() - interval '1 hour' AND attempt BETWEEN 2 AND 1000
) AS counted
WHERE attempt - told - (status = 'processing')::integer > 0
LIMIT 500;

-- name: snapshot
-- How many transactions began since the oldest that still runs did, and whether dead rows are removed at all.
SELECT (pg_snapshot_xmax(pg_current_snapshot())::text::bigint - pg_snapshot_xmin(pg_current_snapshot())::text::bigint) AS transactions_behind,
    current_setting('autovacuum') AS autovacuum;

-- name: workers
-- Workers of the last two hours, those that stopped too: their ages in seconds.
SELECT worker, host, pid, version, settings_digest, concurrency, prefetch, in_flight, finished_count, failed_count,
    clock_offset_seconds, stopped_at IS NOT NULL AS stopped, drain_requested_at IS NOT NULL AS draining, drain_requested_by AS drained_by,
    extract(epoch FROM now() - started_at)::double precision AS age_seconds,
    extract(epoch FROM now() - heartbeat_at)::double precision AS silent_seconds,
    extract(epoch FROM now() - greatest(progress_at, started_at))::double precision AS without_progress_seconds,
    extract(epoch FROM heartbeat_at - started_at)::double precision AS lived_seconds
FROM workers
WHERE heartbeat_at > now() - interval '2 hours'
ORDER BY heartbeat_at DESC
LIMIT 500;

-- name: recent_changes
-- What people and programs changed within six hours, the newest first: for whoever asks what was different.
SELECT changed_at, kind, who, what
FROM (
    SELECT acted_at AS changed_at, action AS kind, actor AS who, concat_ws(': ', target, reason) AS what
    FROM admin_actions
    WHERE acted_at > now() - interval '6 hours' AND outcome <> 'refused'
    UNION ALL
    SELECT started_at, 'worker started', worker, concat('version ', version, ', concurrency ', concurrency)
    FROM workers
    WHERE started_at > now() - interval '6 hours'
    UNION ALL
    SELECT paused_at, 'pause', paused_by, concat_ws(': ', provider, reason)
    FROM provider_pauses
    UNION ALL
    SELECT updated_at, 'limits', updated_by, provider
    FROM provider_limits
    WHERE updated_at > now() - interval '6 hours' AND updated_by IS NOT NULL
) AS change
ORDER BY changed_at DESC
LIMIT 40;

-- name: recent_articles
-- The newest articles: how long they are, and why the model stopped.
SELECT extract(epoch FROM now() - created_at)::double precision AS age_seconds, word_count, finish_reason, md5(body_markdown) AS body
FROM articles
WHERE created_at > now() - interval '1 day'
ORDER BY created_at DESC
LIMIT 300;

-- name: same_time_before
-- Attempts within so many hours up to this time of day a week ago and 52 weeks ago, and since when there is history.
SELECT
    (SELECT min(begins) FROM run_slots WHERE minutes = 60) AS first_hour,
    (
        SELECT coalesce(sum(completed + error + lost), 0)::bigint
        FROM run_slots
        WHERE minutes = 60 AND begins > now() - interval '7 days' - make_interval(hours => %(hours)s) AND begins <= now() - interval '7 days'
    ) AS a_week_ago,
    (
        SELECT coalesce(sum(completed + error + lost), 0)::bigint
        FROM run_slots
        WHERE minutes = 60 AND begins > now() - interval '364 days' - make_interval(hours => %(hours)s) AND begins <= now() - interval '364 days'
    ) AS a_year_ago;

-- name: arrivals
-- How many jobs were published in as long a time as none was now, up to this time of day on each of the 14 days
-- before; and since when there is history.
WITH silence AS (
    SELECT least(now() - max(execution_time), interval '2 days') AS lasts
    FROM runs
    WHERE status = 'completed' AND execution_time > now() - interval '15 days' AND execution_time <= now()
)
SELECT day, extract(epoch FROM lasts)::double precision AS silent_seconds,
    (SELECT min(execution_time) FROM runs) < now() - make_interval(days => day) - lasts AS known,
    (
        SELECT count(*)
        FROM runs
        WHERE status = 'completed' AND execution_time > now() - make_interval(days => day) - lasts
            AND execution_time <= now() - make_interval(days => day)
    ) AS published
FROM silence
CROSS JOIN generate_series(1, 14) AS day
WHERE lasts IS NOT NULL
ORDER BY day;

-- name: table_locks
-- Locks on the pipeline's tables that other sessions hold in a transaction: whole-table locks that stop
-- everybody, and locks of rows; and who waits for all of a table, since everybody waits behind. Of another role's
-- session this one may see that it holds the lock, and no more; a prepared transaction has no process.
WITH wanted AS (
    SELECT to_regclass(title)::oid AS relation
    FROM unnest(%(tables)s::text[]) AS title
    UNION
    SELECT inhrelid
    FROM pg_inherits
    WHERE inhparent IN (SELECT to_regclass(title) FROM unnest(%(tables)s::text[]) AS title)
)
SELECT lock.relation::regclass::text AS relation, lock.mode, lock.pid, lock.granted, (pg_blocking_pids(lock.pid))[1] AS blocker, activity.state,
    activity.application_name AS application, activity.usename AS role, activity.xact_start AS since,
    activity.xact_start IS NULL AS hidden,
    extract(epoch FROM clock_timestamp() - activity.xact_start)::double precision AS transaction_seconds,
    extract(epoch FROM clock_timestamp() - activity.state_change)::double precision AS in_state_seconds,
    (SELECT count(*) FROM pg_locks AS waiting WHERE NOT waiting.granted AND lock.pid = ANY (pg_blocking_pids(waiting.pid))) AS waiting
FROM pg_locks AS lock
LEFT JOIN pg_stat_activity AS activity USING (pid)
WHERE (lock.granted OR lock.mode = 'AccessExclusiveLock') AND lock.locktype = 'relation' AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND lock.relation IN (SELECT relation FROM wanted)
    AND lock.mode IN ('AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock', 'ShareLock', 'RowShareLock', 'RowExclusiveLock')
    AND lock.pid IS DISTINCT FROM pg_backend_pid() AND coalesce(activity.backend_type, 'client backend') = 'client backend'
ORDER BY activity.xact_start
LIMIT 50;

-- name: worker_sessions
-- The workers' sessions: what each does, since when, whether it waits for somebody's lock, and whether it only listens.
SELECT pid, state, wait_event_type, wait_event, cardinality(pg_blocking_pids(pid)) > 0 AS blocked,
    extract(epoch FROM clock_timestamp() - state_change)::double precision AS in_state_seconds,
    extract(epoch FROM clock_timestamp() - backend_start)::double precision AS age_seconds,
    query ILIKE 'listen %%' AS listens
FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'runbook-worker'
ORDER BY state_change
LIMIT 200;

-- name: refused_statements
-- What the database refused workers within ten minutes: they say so in a row where that still can be written.
SELECT worker, occurred_at, message, details ->> 'sqlstate' AS sqlstate, details ->> 'relation' AS relation,
    details ->> 'constraint' AS constraint_name, details ->> 'within' AS within, extract(epoch FROM now() - occurred_at)::double precision AS age_seconds
FROM events
WHERE kind = 'statement_refused' AND occurred_at > now() - interval '10 minutes'
ORDER BY occurred_at DESC
LIMIT 50;

-- name: server_times
-- When the server was started, when its helpers were (they start anew after a crash), and what its statistics counted.
SELECT pg_postmaster_start_time() AS started_at,
    extract(epoch FROM now() - pg_postmaster_start_time())::double precision AS up_seconds,
    (SELECT max(backend_start) FROM pg_stat_activity WHERE backend_type = 'checkpointer') AS checkpointer_started_at,
    (SELECT stats_reset FROM pg_stat_bgwriter) AS statistics_since,
    (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()) AS deadlocks,
    now() AS now;

-- name: deadlocks
-- How many deadlocks the server has counted in this database; asked twice, they are seen to go on.
SELECT deadlocks, clock_timestamp() AS asked_at
FROM pg_stat_database
WHERE datname = current_database();

-- name: indexes
-- The indexes on a table of ours by name, and whether each can be used.
SELECT relation.relname AS name, index.indisvalid AND index.indisready AS usable
FROM pg_index AS index
JOIN pg_class AS relation ON relation.oid = index.indexrelid
WHERE index.indrelid = to_regclass(%(table)s);

-- name: columns
-- The columns of our tables; `demanded`: a row must bring a value for it.
SELECT relation AS title, attname::text AS name,
    attnotnull AND NOT atthasdef AND attidentity = '' AND attgenerated = '' AS demanded
FROM unnest(%(tables)s::text[]) AS relation
JOIN pg_attribute ON attrelid = to_regclass(relation) AND attnum > 0 AND NOT attisdropped;

-- name: status_rules
-- The CHECK constraints on the status of a job, as the server writes them.
SELECT conname AS name, pg_get_constraintdef(oid) AS definition
FROM pg_constraint
WHERE conrelid = to_regclass(%(table)s) AND contype = 'c' AND pg_get_constraintdef(oid) LIKE '%%status%%';

-- name: configured_schema
-- Whether the schema that the settings name is there, and holds the pipeline's tables.
SELECT %(schema)s::text AS name, to_regnamespace(quote_ident(%(schema)s)) IS NOT NULL AS there,
    (
        SELECT count(*)
        FROM pg_class
        JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname = %(schema)s AND relname = ANY (%(tables)s)
    ) AS tables;

-- name: rules_of_tables
-- What else than types decides whether a row can be written: checks, triggers and policies, by their names.
SELECT title AS relation, 'constraint' AS kind, conname::text AS name
FROM unnest(%(tables)s::text[]) AS title
JOIN pg_constraint ON conrelid = to_regclass(title) AND contype IN ('c', 'x')
UNION ALL
SELECT title, 'trigger', tgname
FROM unnest(%(tables)s::text[]) AS title
JOIN pg_trigger ON tgrelid = to_regclass(title) AND NOT tgisinternal AND tgenabled <> 'D'
UNION ALL
SELECT title, 'policy', polname
FROM unnest(%(tables)s::text[]) AS title
JOIN pg_policy ON polrelid = to_regclass(title)
UNION ALL
SELECT title, 'table', title
FROM unnest(%(tables)s::text[]) AS title
WHERE to_regclass(title) IS NOT NULL;

-- name: rights_of_workers
-- Rights on our tables that a worker needs and a role lacks: the roles of running workers; where none runs, the one
-- that asks, if it is one for workers. Only they add runs or articles; and nobody else may be without the right to
-- read jobs, so that one without it has lost what it had.
WITH role AS (
    SELECT DISTINCT usename AS name
    FROM pg_stat_activity
    WHERE application_name = 'runbook-worker' AND usename IS NOT NULL AND datname = current_database()
), asked AS (
    SELECT name
    FROM role
    UNION ALL
    SELECT current_user
    WHERE NOT EXISTS (SELECT FROM role)
        AND (
            has_table_privilege(to_regclass('job_runs'), 'INSERT')
            OR has_table_privilege(to_regclass('articles'), 'INSERT')
            OR NOT has_table_privilege(to_regclass('content_jobs'), 'SELECT')
            OR EXISTS (
                SELECT
                FROM pg_namespace AS space
                JOIN pg_class ON relnamespace = space.oid AND relname = 'content_jobs'
                WHERE nspname = %(schema)s AND NOT has_schema_privilege(space.oid, 'USAGE')
            )
        )
)
SELECT asked.name AS role, wanted.relation, wanted.privilege
FROM asked
CROSS JOIN unnest(%(relations)s::text[], %(privileges)s::text[]) AS wanted (relation, privilege)
WHERE to_regclass(wanted.relation) IS NOT NULL
    AND NOT has_table_privilege(asked.name, to_regclass(wanted.relation), wanted.privilege)
UNION ALL
SELECT asked.name, 'schema ' || nspname, 'USAGE'
FROM asked
JOIN pg_namespace ON nspname = %(schema)s AND NOT has_schema_privilege(asked.name, pg_namespace.oid, 'USAGE')
ORDER BY 1, 2, 3;

-- name: table_statistics
-- Live and dead rows of the pipeline's tables, partitions added up, and when they were last vacuumed.
SELECT coalesce(pg_partition_root(relid), relid::regclass)::text AS relation,
    sum(n_live_tup)::bigint AS live_rows, sum(n_dead_tup)::bigint AS dead_rows,
    sum(seq_scan)::bigint AS sequential_scans, sum(n_mod_since_analyze)::bigint AS changed_since_analyze,
    max(greatest(last_autovacuum, last_vacuum)) AS last_vacuum,
    max(greatest(last_autoanalyze, last_analyze)) AS last_analyze
FROM pg_stat_user_tables
WHERE coalesce(pg_partition_root(relid), relid::regclass) IN (SELECT to_regclass(title) FROM unnest(%(tables)s::text[]) AS title)
GROUP BY 1;

-- name: running_statements
-- Statements of clients that have run for longer than a second and wait for no lock.
SELECT count(*) AS statements,
    max(extract(epoch FROM clock_timestamp() - query_start))::double precision AS longest_seconds
FROM pg_stat_activity
WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid()
    AND query_start < clock_timestamp() - interval '1 second'
    AND coalesce(wait_event_type, '') <> 'Lock' AND query NOT ILIKE '%%pg_sleep%%';

-- name: sessions
-- Sessions of this database by application and role: how many, since when, and how many began within a minute.
SELECT coalesce(nullif(application_name, ''), '(no name)') AS application, usename AS role, count(*) AS sessions,
    count(*) FILTER (WHERE backend_start > now() - interval '1 minute') AS new_sessions,
    extract(epoch FROM now() - min(backend_start))::double precision AS oldest_seconds,
    count(*) FILTER (WHERE state = 'idle') AS idle
FROM pg_stat_activity
WHERE datname = current_database() AND coalesce(backend_type, 'client backend') = 'client backend'
GROUP BY 1, 2
ORDER BY 3 DESC
LIMIT 50;

-- name: schedulers
-- Schedulers that did not say that they stopped and were heard of within a day; since when each is at a run.
SELECT scheduler, host, pid, extract(epoch FROM now() - heartbeat_at)::double precision AS silent_seconds,
    (
        SELECT extract(epoch FROM now() - min(claimed_at))::double precision
        FROM schedule_runs
        WHERE claimed_by = scheduler AND outcome = 'started'
    ) AS at_a_run_seconds
FROM schedulers
WHERE stopped_at IS NULL AND heartbeat_at > now() - interval '1 day'
ORDER BY heartbeat_at DESC
LIMIT 20;

-- name: tablespaces
-- Where the tables of this database are kept: the server's own directory, and tablespaces elsewhere.
SELECT spcname AS name, pg_tablespace_location(oid) AS directory
FROM pg_tablespace
WHERE pg_tablespace_location(oid) <> '';

-- name: limited_providers
-- Providers whose rate or daily cap of ours may be what jobs wait for: something began within two minutes, or
-- nearly all of the day's budget is used.
SELECT limits.provider
FROM provider_limits AS limits
LEFT JOIN provider_usage AS used ON used.provider = limits.provider AND used.usage_date = (now() AT TIME ZONE 'UTC')::date
WHERE (
        limits.requests_per_minute IS NOT NULL
        AND EXISTS (SELECT FROM jobs WHERE started_at > now() - interval '2 minutes')
    )
    OR used.cost_usd >= 0.9 * limits.daily_cost_usd
    OR used.prompt_tokens + used.completion_tokens >= 0.9 * limits.daily_tokens;
