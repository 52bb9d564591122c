-- Brakes as planned changes: what stands, looked at and locked before it is changed.

-- name: pause_to_make
-- The provider, where no pause stands: one that workers made by themselves ends by itself, and stays.
SELECT limits.provider
FROM provider_limits AS limits
WHERE limits.provider = %(provider)s
    AND NOT EXISTS (
        SELECT FROM provider_pauses AS pause
        WHERE pause.provider = limits.provider AND (until IS NULL OR until > now() OR automatic)
    );

-- name: pauses_made
-- The pauses that a change made and that still stand as it made them.
SELECT pause.provider, pause.paused_at, pause.reason
FROM change_rows AS made
JOIN provider_pauses AS pause ON pause.provider = made.row_key
WHERE made.change_id = %(change_id)s::uuid AND made.outcome = 'changed'
    AND pause.reason = made.after ->> 'reason';

-- name: limits_of
-- The limits of a provider that a change may lower.
SELECT provider, concurrency, requests_per_minute
FROM provider_limits
WHERE provider = %(provider)s;

-- name: limits_lowered
-- The limits that a change lowered and that nobody set since.
SELECT limits.provider, made.before, limits.concurrency, limits.requests_per_minute
FROM change_rows AS made
JOIN provider_limits AS limits ON limits.provider = made.row_key
WHERE made.change_id = %(change_id)s::uuid AND made.outcome = 'changed'
    AND limits.concurrency IS NOT DISTINCT FROM (made.after ->> 'concurrency')::integer
    AND limits.requests_per_minute IS NOT DISTINCT FROM (made.after ->> 'requests_per_minute')::integer;

-- name: lock_limits
-- Locks the rows of these providers.
SELECT provider
FROM provider_limits
WHERE provider = ANY (%(providers)s)
FOR UPDATE;
