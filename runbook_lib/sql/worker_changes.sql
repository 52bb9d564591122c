-- Draining a worker as a planned change: looked at and locked before it is asked.

-- name: worker_to_drain
-- Running workers whose name is this, or begins so; `others` give a sign of life and take jobs beside it.
SELECT worker.worker, worker.host, worker.version, worker.in_flight, worker.started_at,
    worker.drain_requested_at IS NOT NULL AS draining,
    extract(epoch FROM now() - worker.heartbeat_at)::double precision AS silent_seconds,
    (
        SELECT count(*)
        FROM workers AS other
        WHERE other.worker <> worker.worker AND other.stopped_at IS NULL AND other.drain_requested_at IS NULL
            AND other.heartbeat_at > now() - make_interval(secs => %(silent_seconds)s)
    ) AS others
FROM workers AS worker
WHERE worker.stopped_at IS NULL AND starts_with(worker.worker, %(name)s)
ORDER BY worker.worker <> %(name)s, worker.worker
LIMIT 2;

-- name: workers_drained
-- The workers that a change asked to drain, and whether they still run and are still asked.
SELECT worker.worker, worker.in_flight, worker.started_at, worker.stopped_at IS NOT NULL AS stopped,
    worker.drain_requested_at IS NOT NULL AS draining
FROM change_rows AS made
JOIN workers AS worker ON worker.worker = made.row_key
WHERE made.change_id = %(change_id)s::uuid AND made.outcome = 'changed';

-- name: lock_workers
-- Locks the rows of these workers.
SELECT worker
FROM workers
WHERE worker = ANY (%(workers)s)
ORDER BY worker
FOR UPDATE;

-- name: try_again_now
-- Pauses that this worker made by itself come to their trial at once: another worker tries with what it has.
UPDATE provider_pauses
SET until = now()
WHERE automatic AND paused_by = %(worker)s AND until > now() AND error_class IS DISTINCT FROM 'daily_cap_reached'
RETURNING provider;
