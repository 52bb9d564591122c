-- Errors of one provider, of `jobs` and `runs`, ours or any pipeline's.

-- name: last_success
-- When OpenAI last wrote and when WordPress last published, within the window.
SELECT
    max(execution_time) FILTER (WHERE status = 'completed' OR stage = 'publish' OR tokens > 0) AS openai,
    max(execution_time) FILTER (WHERE status = 'completed') AS wordpress,
    count(*) AS attempts
FROM runs
WHERE execution_time >= %(since)s AND execution_time < %(until)s;

-- name: sessions
-- Sessions of this role, by program and from where: one that nobody knows is a sign that the password is used elsewhere.
SELECT coalesce(nullif(application_name, ''), 'no name') AS program, coalesce(host(client_addr), 'this machine') AS came_from,
    count(*) AS sessions, min(backend_start) AS since
FROM pg_stat_activity
WHERE usename = current_user AND datname = current_database() AND backend_type = 'client backend'
GROUP BY 1, 2
ORDER BY 3 DESC, 1, 2
LIMIT 50;
