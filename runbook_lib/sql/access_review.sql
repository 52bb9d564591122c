-- Who created jobs, who acted, and who was refused: for the review of access.

-- name: jobs_by_producer
-- Who created the jobs of these days, by source and database role, with one of their ids: one that waits, if any.
-- A file names the line of each of its jobs behind a colon; it is one producer all the same.
SELECT
    regexp_replace(source, ':[0-9]+$', '') AS source, created_by, count(*) AS jobs,
    count(*) FILTER (WHERE status = 'pending') AS pending,
    count(*) FILTER (WHERE status = 'completed') AS completed,
    min(created_at) AS first_at, max(created_at) AS last_at,
    (array_agg(job_id ORDER BY status <> 'pending', created_at))[1] AS example
FROM jobs
WHERE created_at >= %(since)s AND created_at < %(until)s
GROUP BY 1, 2
ORDER BY jobs DESC, 1, 2;

-- name: actions_by_actor
-- What each person did in these days: how much of it was refused, failed, or outside of working hours, and
-- whether they ever acted before. Saturday and Sunday are outside.
SELECT
    actor, count(*) AS actions,
    count(*) FILTER (WHERE outcome = 'refused') AS refused,
    count(*) FILTER (WHERE outcome = 'failed') AS failed,
    count(*) FILTER (WHERE outside) AS outside_hours,
    count(DISTINCT host) AS hosts, min(acted_at) AS first_at, max(acted_at) AS last_at,
    EXISTS (SELECT FROM admin_actions AS earlier WHERE earlier.actor = seen.actor AND earlier.acted_at < %(since)s) AS acted_before
FROM (
    SELECT *,
        extract(isodow FROM acted_at AT TIME ZONE %(time_zone)s) > 5
        OR extract(hour FROM acted_at AT TIME ZONE %(time_zone)s) < %(begin_hour)s
        OR extract(hour FROM acted_at AT TIME ZONE %(time_zone)s) >= %(end_hour)s AS outside
    FROM admin_actions
    WHERE acted_at >= %(since)s AND acted_at < %(until)s
) AS seen
GROUP BY actor
ORDER BY actions DESC, actor;

-- name: actions_before
-- Whether anybody acted before these days: else everybody is new, and that says nothing.
SELECT EXISTS (SELECT FROM admin_actions WHERE acted_at < %(since)s);

-- name: actions_to_look_at
-- Actions that were refused or done outside of working hours, the newest first.
SELECT acted_at, actor, host, action, target, outcome, coalesce(error, reason) AS said
FROM admin_actions
WHERE acted_at >= %(since)s AND acted_at < %(until)s
    AND (
        outcome = 'refused'
        OR extract(isodow FROM acted_at AT TIME ZONE %(time_zone)s) > 5
        OR extract(hour FROM acted_at AT TIME ZONE %(time_zone)s) < %(begin_hour)s
        OR extract(hour FROM acted_at AT TIME ZONE %(time_zone)s) >= %(end_hour)s
    )
ORDER BY acted_at DESC
LIMIT %(row_count)s;

-- name: requests_of_days
-- How many requests the console's log holds of these days, and how many of them were refused.
SELECT count(*) AS requests, count(*) FILTER (WHERE outcome = 'refused') AS refused
FROM access_log
WHERE at >= %(since)s AND at < %(until)s;

-- name: refusals_by_client
-- Who was refused by the console: by address and the name of what was shown, and whether the same address
-- was let in after its first refusal.
SELECT
    refused.client, refused.token, refused.requests, refused.routes, refused.first_at, refused.last_at,
    coalesce(served.requests, 0) AS served_after
FROM (
    SELECT client, token, count(*) AS requests, count(DISTINCT route) AS routes, min(at) AS first_at, max(at) AS last_at
    FROM access_log
    WHERE outcome = 'refused' AND status IN (401, 403, 421, 429) AND at >= %(since)s AND at < %(until)s
    GROUP BY client, token
) AS refused
LEFT JOIN LATERAL (
    SELECT count(*) AS requests
    FROM access_log
    WHERE client = refused.client AND outcome = 'served' AND token <> 'none'
        AND at >= refused.first_at AND at < %(until)s
) AS served ON true
ORDER BY refused.requests DESC, refused.client, refused.token
LIMIT %(row_count)s;
