-- The statements of the written runbook on content_jobs and job_runs, word for word.

SELECT COUNT(*) FROM content_jobs WHERE status = 'error';

SELECT job_id, last_error, retry_count, created_at
FROM content_jobs
WHERE status = 'error'
ORDER BY created_at DESC
LIMIT 10;

SELECT
  DATE(execution_time) as date,
  status,
  COUNT(*) as count
FROM job_runs
WHERE execution_time >= NOW() - INTERVAL '7 days'
GROUP BY DATE(execution_time), status
ORDER BY date DESC;

SELECT
  last_error,
  COUNT(*) as frequency
FROM content_jobs
WHERE status = 'error'
AND created_at >= NOW() - INTERVAL '24 hours'
GROUP BY last_error
ORDER BY frequency DESC;

SELECT COUNT(*) as total_runs,
       COUNT(*) FILTER (WHERE execution_time < NOW() - INTERVAL '30 days') as old_runs
FROM job_runs;

DELETE FROM job_runs
WHERE execution_time < NOW() - INTERVAL '90 days';

SELECT
  AVG(EXTRACT(EPOCH FROM (completed_at - started_at))) as avg_seconds,
  MAX(EXTRACT(EPOCH FROM (completed_at - started_at))) as max_seconds
FROM job_runs
WHERE status = 'completed'
AND execution_time >= NOW() - INTERVAL '7 days';

ANALYZE content_jobs;

ANALYZE job_runs;

SELECT
  DATE(execution_time) as date,
  COUNT(*) FILTER (WHERE status = 'completed') * 100.0 / COUNT(*) as success_rate
FROM job_runs
WHERE execution_time >= NOW() - INTERVAL '7 days'
GROUP BY DATE(execution_time)
ORDER BY date DESC;

SELECT
  DATE(execution_time) as date,
  AVG(EXTRACT(EPOCH FROM (completed_at - started_at))) as avg_processing_time
FROM job_runs
WHERE status = 'completed'
AND execution_time >= NOW() - INTERVAL '30 days'
GROUP BY DATE(execution_time)
ORDER BY date DESC;
