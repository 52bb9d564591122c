-- Taking back jobs whose worker vanished, as a planned change; and who holds what.

-- name: held_jobs
-- Jobs in processing, the longest expired first: who holds them, since when that lease is over, and when that
-- worker was heard of last.
SELECT job.job_id::text, left(job.topic, 120) AS topic, job.stage, job.attempt, job.worker, job.lost_count,
    job.lease_until,
    extract(epoch FROM now() - job.lease_until)::double precision AS expired_for_seconds,
    extract(epoch FROM now() - worker.heartbeat_at)::double precision AS silent_seconds,
    worker.stopped_at IS NOT NULL AS stopped,
    count(*) OVER () AS total
FROM content_jobs AS job
LEFT JOIN workers AS worker ON worker.worker = job.worker
WHERE job.status = 'processing'
    AND (%(job_ids)s::uuid[] IS NULL OR job.job_id = ANY (%(job_ids)s::uuid[]))
    AND (%(worker)s::text IS NULL OR job.worker = %(worker)s)
    AND (NOT %(only_left)s OR (
        job.lease_until < now()
        AND (worker.worker IS NULL OR worker.stopped_at IS NOT NULL
            OR worker.heartbeat_at < now() - make_interval(secs => %(silent_seconds)s))
    ))
ORDER BY job.lease_until, job.job_id
LIMIT %(row_count)s;
