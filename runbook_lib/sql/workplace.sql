-- name: who_and_where
-- Which role this is, on which server, and what time the server has.
SELECT current_user AS role, current_setting('server_version') AS server_version, now() AS server_time;
