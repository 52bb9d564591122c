-- What the console's pages ask beside what the rooms below answer.

-- name: check_states
-- What each check answered last, and since when; `since` is what a single look cannot know.
SELECT check_name, verdict, message, value, unit, threshold, since, checked_at, details
FROM check_states
WHERE checked_at > now() - make_interval(secs => %(fresh_seconds)s);

-- name: recent_events
-- What happened of late that somebody should know.
SELECT occurred_at, level, message, job_id::text
FROM events
WHERE level <> 'info' AND occurred_at > now() - interval '24 hours'
ORDER BY occurred_at DESC
LIMIT %(row_count)s;

-- name: errors_now
-- How many jobs stand in error: the index of failed jobs is read, and no more.
SELECT count(*)
FROM content_jobs
WHERE status = 'error';
