-- What speaks against giving a provider more at once.

-- name: failed_lately
-- Attempts of so many minutes that failed since the provider had too much, or was too slow, by class.
SELECT error_class, count(*) AS attempts
FROM job_runs
WHERE execution_time > now() - make_interval(mins => %(minutes)s) AND status = 'error' AND error_class = ANY (%(classes)s::text[])
GROUP BY 1
ORDER BY 2 DESC;

-- name: seconds_at_provider
-- The median time inside the provider's calls, of so many minutes and of the day before them.
SELECT lately.attempts, lately.seconds, before.attempts AS attempts_before, before.seconds AS seconds_before
FROM (
    SELECT count(*) AS attempts, percentile_cont(0.5) WITHIN GROUP (ORDER BY CASE %(provider)s WHEN 'openai' THEN write_seconds ELSE publish_seconds END) AS seconds
    FROM job_runs
    WHERE execution_time > now() - make_interval(mins => %(minutes)s)
        AND CASE %(provider)s WHEN 'openai' THEN write_seconds ELSE publish_seconds END > 0
) AS lately
CROSS JOIN (
    SELECT count(*) AS attempts, percentile_cont(0.5) WITHIN GROUP (ORDER BY CASE %(provider)s WHEN 'openai' THEN write_seconds ELSE publish_seconds END) AS seconds
    FROM job_runs
    WHERE execution_time BETWEEN now() - make_interval(mins => %(minutes)s, hours => 24) AND now() - make_interval(mins => %(minutes)s)
        AND CASE %(provider)s WHEN 'openai' THEN write_seconds ELSE publish_seconds END > 0
) AS before;

-- name: connections
-- Sessions beside what the server, this role and this database take; NULL is no limit of its own.
SELECT
    (SELECT count(*) FROM pg_stat_activity WHERE coalesce(backend_type, 'client backend') = 'client backend') AS of_server,
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer AS server_takes,
    (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user) AS of_role,
    (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user) AS role_takes,
    (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS of_database,
    (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()) AS database_takes;
