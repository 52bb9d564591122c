-- Scenes that only look alarming, and causes that no rule knows. Never run on a real system.

-- name: one_long_article
-- A job that its worker has been writing for 40 seconds.
INSERT INTO content_jobs (topic, status, stage, worker, attempt, lease_until, started_at)
VALUES ('long', 'processing', 'write', 'w1', 1, now() + interval '20 seconds', now() - interval '40 seconds');

-- name: pause_by_hand
-- Somebody paused OpenAI for work that was planned.
INSERT INTO provider_pauses (provider, reason, paused_by, automatic)
VALUES ('openai', 'planned work', 'ana', false);

-- name: waiting_for_minutes
-- What waits has waited for two minutes.
UPDATE content_jobs
SET created_at = now() - interval '2 minutes', updated_at = now() - interval '2 minutes'
WHERE status = 'pending';

-- name: one_request_a_minute
-- A rate that the team set.
UPDATE provider_limits
SET requests_per_minute = 1
WHERE provider = 'openai';

-- name: pending_failed_as
-- What waits failed with a class before.
UPDATE content_jobs
SET error_class = %(error_class)s
WHERE status = 'pending';
