-- Decoys: harmless changes that a disposable system remembers from before the onset.

-- name: age_what_was_changed
-- What somebody changed is so many seconds older than it is.
WITH acted AS (
    UPDATE admin_actions
    SET acted_at = acted_at - make_interval(secs => %(seconds)s), ended_at = ended_at - make_interval(secs => %(seconds)s)
    WHERE actor = %(who)s
),
told AS (
    UPDATE events
    SET occurred_at = occurred_at - make_interval(secs => %(seconds)s)
    WHERE worker = %(who)s
),
ticked AS (
    UPDATE checklist_ticks
    SET at = at - make_interval(secs => %(seconds)s)
    WHERE ticked_by = %(who)s
)
UPDATE provider_limits
SET updated_at = updated_at - make_interval(secs => %(seconds)s)
WHERE updated_by = %(who)s;

-- name: add_stopped_worker
-- A worker of the last days that was stopped in order a minute ago.
INSERT INTO workers (worker, host, pid, version, concurrency, prefetch, settings_digest, started_at, heartbeat_at, progress_at,
    in_flight, finished_count, clock_offset_seconds, stopped_at)
VALUES (%(worker)s, 'earlier-host', 1, '0.1.0', 3, 0, 'the same', now() - interval '3 days', now() - interval '1 minute', now() - interval '1 minute',
    0, 900, 0.01, now() - interval '1 minute');
