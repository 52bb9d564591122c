-- What the sweeper would take back.

-- name: leases
-- Jobs in processing, and those of them whose lease ran out.
SELECT count(*) AS processing,
    count(*) FILTER (WHERE lease_until < now()) AS expired
FROM content_jobs
WHERE status = 'processing';

-- name: expired_leases
-- Jobs whose lease ran out, the longest expired first.
SELECT job_id::text, left(topic, 200) AS topic, attempt, worker, stage, started_at, lease_until,
    extract(epoch FROM now() - lease_until)::double precision AS expired_for_seconds
FROM content_jobs
WHERE status = 'processing' AND lease_until < now()
ORDER BY lease_until
LIMIT %(row_count)s;
