-- What the history says of the providers.

-- name: refusals
-- Of the last day: attempts that OpenAI refused for want of credit or for too many requests, and when it
-- last refused for credit and last wrote.
SELECT count(*) FILTER (WHERE error_class = 'openai_quota_exhausted') AS quota,
    count(*) FILTER (WHERE error_class = 'openai_rate_limited') AS rate,
    max(execution_time) FILTER (WHERE error_class = 'openai_quota_exhausted') AS last_quota,
    max(execution_time) FILTER (WHERE tokens > 0) AS last_written,
    count(*) AS attempts
FROM runs
WHERE execution_time > now() - interval '1 day';

-- name: used_by_day
-- What our own attempts used of a provider, by day (UTC).
SELECT usage_date, requests, prompt_tokens + completion_tokens AS tokens, cost_usd
FROM provider_usage
WHERE provider = %(provider)s AND usage_date >= %(first_day)s
ORDER BY usage_date;

-- name: missed_categories
-- The categories that most jobs ended for lack of within a day.
SELECT category
FROM jobs
WHERE status = 'error' AND error_class = 'wordpress_category_missing' AND category IS NOT NULL
    AND updated_at > now() - interval '1 day'
GROUP BY category
ORDER BY count(*) DESC, category
LIMIT 3;
