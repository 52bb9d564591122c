-- The hourly rollup of runs: which hours are to be made again, what they hold, and putting it in place.

-- name: lock
-- One refresh at a time: what it reads after this is newer than what any other has written. Ends with
-- the transaction, so it works through a pooler.
SELECT pg_advisory_xact_lock(hashtext('runbook rollup'), 'run_slots'::regclass::oid::integer);

-- name: mark_changed_partitions
-- Marks the hours of partitions that came, went or were emptied since the last refresh, as far as there
-- is something in them or in their rollup. A default partition that was emptied marks every hour.
WITH present AS (
    SELECT
        child.oid AS partition, child.relfilenode AS file,
        substring(bound FROM $$FROM \('([^']+)'\)$$)::timestamptz AS since,
        substring(bound FROM $$TO \('([^']+)'\)$$)::timestamptz AS until
    FROM pg_inherits
    JOIN pg_class AS child ON child.oid = inhrelid
    CROSS JOIN LATERAL pg_get_expr(child.relpartbound, child.oid) AS bound
    WHERE inhparent = 'job_runs'::regclass
), changed AS (
    (TABLE present EXCEPT TABLE rollup_partitions)
    UNION
    (TABLE rollup_partitions EXCEPT TABLE present)
), forgotten AS (
    DELETE FROM rollup_partitions
    WHERE EXISTS (SELECT FROM changed)
), known AS (
    INSERT INTO rollup_partitions
    SELECT *
    FROM present
    WHERE EXISTS (SELECT FROM changed)
)
INSERT INTO dirty_run_hours (begins)
SELECT begins
FROM (SELECT DISTINCT since, until FROM changed WHERE since IS NOT NULL AND until IS NOT NULL) AS period
CROSS JOIN LATERAL generate_series(since, until - interval '1 hour', interval '1 hour') AS begins
WHERE EXISTS (SELECT FROM job_runs WHERE execution_time >= since AND execution_time < until)
UNION
SELECT begins
FROM run_slots
WHERE minutes = 60
    AND EXISTS (
        SELECT FROM changed
        WHERE begins >= coalesce(since, '-infinity') AND begins < coalesce(until, 'infinity')
    );

-- name: count_runs
-- Of each hour with runs, how many there are of each outcome: what an attached pipeline's hours are
-- compared by.
SELECT
    date_bin('1 hour', execution_time, '2000-01-01 00:00+00') AS begins,
    count(*) AS attempts,
    count(*) FILTER (WHERE status = 'completed') AS completed,
    count(*) FILTER (WHERE status = 'released') AS released
FROM runs
WHERE execution_time >= coalesce(%(since)s::timestamptz, '-infinity')
    AND isfinite(execution_time)
    AND status IN ('completed', 'error', 'lost', 'released', 'left_out')
GROUP BY 1;

-- name: mark_differing_hours
-- Marks the hours whose counts differ from those that were counted, and those that are still open.
INSERT INTO dirty_run_hours (begins)
SELECT coalesce(counted.begins, slot.begins)
FROM jsonb_to_recordset(%(counted)s::jsonb) AS counted (begins timestamptz, attempts integer, completed integer, released integer)
FULL JOIN (
    SELECT begins, completed + error + lost + released + left_out AS attempts, completed, released
    FROM run_slots
    WHERE minutes = 60 AND begins >= coalesce(%(since)s::timestamptz, '-infinity')
) AS slot USING (begins)
WHERE (counted.attempts, counted.completed, counted.released) IS DISTINCT FROM (slot.attempts, slot.completed, slot.released)
    OR counted.begins >= %(open_since)s;

-- name: state
-- When the rollup was refreshed, when everything was last compared, and the database's clock.
SELECT refreshed_at, recounted_at, now() AS now
FROM rollup_state;

-- name: marked_hours
-- The newest hours that are marked: the present is made right first.
SELECT DISTINCT begins
FROM dirty_run_hours
ORDER BY begins DESC
LIMIT %(count)s;

-- name: left_marked
-- How many hours are still marked.
SELECT count(DISTINCT begins)
FROM dirty_run_hours;

-- name: take_marks
-- Takes the marks of these hours; whatever is committed from here on leaves new ones.
DELETE FROM dirty_run_hours
WHERE begins = ANY (%(hours)s::timestamptz[]);

-- name: summarise
-- What some hours hold, as texts in JSON: attempts and costs by slot, durations by slot on a logarithmic
-- scale, failures by hour and cause, and the newest error text of each cause. Where runs do not say of
-- which job they are, each failure counts as a job of its own.
WITH attempts AS MATERIALIZED (
    SELECT
        date_bin('15 minutes', execution_time, '2000-01-01 00:00+00') AS begins,
        job_id::text AS job_id, execution_time,
        CASE WHEN status = 'error' AND error_class = ANY (%(left_out)s) THEN 'left_out' ELSE status END AS outcome,
        CASE WHEN NOT coalesce(error_class = ANY (%(left_out)s), false) THEN job_status END AS job_status,
        CASE WHEN status IN ('error', 'lost') THEN coalesce(error_class, 'unclassed') END AS error_class,
        CASE
            WHEN status IN ('error', 'lost') THEN coalesce(
                fingerprint,
                'text:' || left(md5(regexp_replace(left(error, 200), '[[:xdigit:]-]{8,}|[0-9]+', '#', 'g')), 12),
                ''
            )
        END AS fingerprint,
        CASE WHEN status IN ('error', 'lost') THEN error END AS error,
        coalesce(model, 'unknown') AS model, prompt_tokens, completion_tokens, tokens, cost_usd,
        write_seconds, publish_seconds,
        CASE
            WHEN isfinite(started_at) AND isfinite(completed_at)
            THEN greatest(0, extract(epoch FROM completed_at - started_at)::double precision)
        END AS whole_seconds
    FROM runs
    WHERE execution_time >= %(since)s
        AND execution_time < %(until)s
        AND status IN ('completed', 'error', 'lost', 'released', 'left_out')
), quarters AS (
    SELECT
        begins,
        count(*) FILTER (WHERE outcome = 'completed') AS completed,
        count(*) FILTER (WHERE outcome = 'error') AS error,
        count(*) FILTER (WHERE outcome = 'lost') AS lost,
        count(*) FILTER (WHERE outcome = 'released') AS released,
        count(*) FILTER (WHERE outcome = 'left_out') AS left_out,
        count(*) FILTER (WHERE outcome = 'completed') AS jobs_completed,
        count(*) FILTER (WHERE outcome IN ('error', 'lost') AND job_status = 'error') AS jobs_failed,
        max(execution_time) FILTER (WHERE outcome = 'completed') AS last_completed_at
    FROM attempts
    GROUP BY 1
), slots AS (
    SELECT 15 AS minutes, *
    FROM quarters
    UNION ALL
    SELECT
        60, date_bin('1 hour', begins, '2000-01-01 00:00+00') AS hour, sum(completed), sum(error), sum(lost),
        sum(released), sum(left_out), sum(jobs_completed), sum(jobs_failed), max(last_completed_at)
    FROM quarters
    GROUP BY 2
), measured AS (
    SELECT
        begins, stage, CASE stage WHEN 'writing' THEN model ELSE '' END AS model,
        outcome = 'completed' AS completed,
        CASE WHEN seconds > 0.001 THEN ceil(ln(seconds / 0.001) / ln(1.1::double precision)) ELSE 0 END::smallint AS bucket,
        count(*) AS attempts, sum(seconds) AS seconds, max(seconds) AS longest
    FROM attempts
    CROSS JOIN LATERAL (VALUES
        ('writing', write_seconds),
        ('publishing', publish_seconds),
        ('whole', whole_seconds),
        ('own', greatest(0, whole_seconds - coalesce(write_seconds, 0) - coalesce(publish_seconds, 0)))
    ) AS taken (stage, seconds)
    WHERE outcome IN ('completed', 'error', 'lost')
        AND seconds < 1e9 -- neither NaN nor infinite: such a duration is none
    GROUP BY 1, 2, 3, 4, 5
), hourly AS (
    SELECT
        date_bin('1 hour', begins, '2000-01-01 00:00+00') AS begins, stage, model, completed, bucket,
        sum(attempts) AS attempts, sum(seconds) AS seconds, max(longest) AS longest
    FROM measured
    GROUP BY 1, 2, 3, 4, 5
), durations AS (
    SELECT
        minutes, begins, stage, model, completed,
        sum(attempts) AS attempts, sum(seconds) AS seconds, max(longest) AS longest,
        array_agg(bucket ORDER BY bucket) AS buckets,
        array_agg(attempts ORDER BY bucket) AS counts
    FROM (
        SELECT 15 AS minutes, * FROM measured
        UNION ALL
        SELECT 60, * FROM hourly
    ) AS both_levels
    GROUP BY 1, 2, 3, 4, 5
), causes AS (
    SELECT
        date_bin('1 hour', begins, '2000-01-01 00:00+00') AS begins, error_class, fingerprint,
        count(*) AS attempts,
        array_agg(DISTINCT ('x' || left(md5(coalesce(job_id, execution_time::text)), 8))::bit(32)::integer) AS job_hashes,
        min(execution_time) AS first_seen,
        max(execution_time) AS last_seen
    FROM attempts
    WHERE error_class IS NOT NULL
    GROUP BY 1, 2, 3
), failures AS (
    SELECT
        begins, error_class, fingerprint, attempts,
        (ARRAY(SELECT hash FROM unnest(job_hashes) AS hash ORDER BY hash LIMIT 64)) AS job_hashes,
        first_seen, last_seen
    FROM causes
), samples AS (
    SELECT DISTINCT ON (error_class, fingerprint)
        error_class, fingerprint, coalesce(job_id, '') AS sample_job, left(error, 1000) AS sample, execution_time AS seen_at
    FROM attempts
    WHERE error_class IS NOT NULL
    ORDER BY error_class, fingerprint, execution_time DESC, job_id
), quarter_costs AS (
    SELECT
        begins, model, count(*) AS calls,
        coalesce(sum(prompt_tokens), 0) AS prompt_tokens,
        coalesce(sum(completion_tokens), 0) AS completion_tokens,
        coalesce(sum(tokens), 0) AS tokens,
        coalesce(sum(cost_usd), 0) AS cost_usd,
        count(*) FILTER (WHERE cost_usd IS NULL) AS calls_without_price
    FROM attempts
    WHERE tokens > 0
    GROUP BY 1, 2
), costs AS (
    SELECT 15 AS minutes, *
    FROM quarter_costs
    UNION ALL
    SELECT
        60, date_bin('1 hour', begins, '2000-01-01 00:00+00') AS hour, model, sum(calls), sum(prompt_tokens),
        sum(completion_tokens), sum(tokens), sum(cost_usd), sum(calls_without_price)
    FROM quarter_costs
    GROUP BY 2, 3
)
SELECT
    (SELECT count(*) FROM attempts) AS attempts,
    (SELECT coalesce(json_agg(slots), '[]')::text FROM slots) AS slots,
    (SELECT coalesce(json_agg(durations), '[]')::text FROM durations) AS durations,
    (SELECT coalesce(json_agg(failures), '[]')::text FROM failures) AS failures,
    (SELECT coalesce(json_agg(costs), '[]')::text FROM costs) AS costs,
    (SELECT coalesce(json_agg(samples), '[]')::text FROM samples) AS samples;

-- name: forget_slots
-- Takes the slots of some hours away.
DELETE FROM run_slots
WHERE minutes IN (15, 60) AND begins >= %(since)s AND begins < %(until)s;

-- name: forget_durations
-- Takes the durations of some hours away.
DELETE FROM run_slot_durations
WHERE minutes IN (15, 60) AND begins >= %(since)s AND begins < %(until)s;

-- name: forget_failures
-- Takes the failures of some hours away.
DELETE FROM run_hour_failures
WHERE begins >= %(since)s AND begins < %(until)s;

-- name: forget_costs
-- Takes the costs of some hours away.
DELETE FROM run_slot_costs
WHERE minutes IN (15, 60) AND begins >= %(since)s AND begins < %(until)s;

-- name: put_slots
-- Puts slots in place, as `summarise` gives them.
INSERT INTO run_slots (
    minutes, begins, completed, error, lost, released, left_out, jobs_completed, jobs_failed, last_completed_at
)
SELECT
    minutes, begins, completed, error, lost, released, left_out, jobs_completed, jobs_failed, last_completed_at
FROM json_to_recordset(%(slots)s::json) AS slot (
    minutes smallint, begins timestamptz, completed integer, error integer, lost integer, released integer,
    left_out integer, jobs_completed integer, jobs_failed integer, last_completed_at timestamptz
);

-- name: put_durations
-- Puts durations in place, as `summarise` gives them.
INSERT INTO run_slot_durations (minutes, begins, stage, model, completed, attempts, seconds, longest, buckets, counts)
SELECT minutes, begins, stage, model, completed, attempts, seconds, longest, buckets, counts
FROM json_to_recordset(%(durations)s::json) AS slot (
    minutes smallint, begins timestamptz, stage text, model text, completed boolean, attempts integer,
    seconds double precision, longest double precision, buckets smallint[], counts integer[]
)
ORDER BY minutes, begins;

-- name: put_failures
-- Puts failures in place, as `summarise` gives them.
INSERT INTO run_hour_failures (begins, error_class, fingerprint, attempts, job_hashes, first_seen, last_seen)
SELECT begins, error_class, fingerprint, attempts, job_hashes, first_seen, last_seen
FROM json_to_recordset(%(failures)s::json) AS slot (
    begins timestamptz, error_class text, fingerprint text, attempts integer, job_hashes integer[],
    first_seen timestamptz, last_seen timestamptz
)
ORDER BY begins;

-- name: put_costs
-- Puts costs in place, as `summarise` gives them.
INSERT INTO run_slot_costs (
    minutes, begins, model, calls, prompt_tokens, completion_tokens, tokens, cost_usd, calls_without_price
)
SELECT minutes, begins, model, calls, prompt_tokens, completion_tokens, tokens, cost_usd, calls_without_price
FROM json_to_recordset(%(costs)s::json) AS slot (
    minutes smallint, begins timestamptz, model text, calls integer, prompt_tokens bigint,
    completion_tokens bigint, tokens bigint, cost_usd numeric, calls_without_price integer
)
ORDER BY minutes, begins;

-- name: put_samples
-- Keeps the newest error text of each cause.
INSERT INTO failure_samples (error_class, fingerprint, sample_job, sample, seen_at)
SELECT error_class, fingerprint, sample_job, sample, seen_at
FROM json_to_recordset(%(samples)s::json) AS given (
    error_class text, fingerprint text, sample_job text, sample text, seen_at timestamptz
)
ON CONFLICT (error_class, fingerprint) DO UPDATE
SET sample_job = EXCLUDED.sample_job,
    sample = EXCLUDED.sample,
    seen_at = EXCLUDED.seen_at
WHERE failure_samples.seen_at <= EXCLUDED.seen_at;

-- name: forget_old_samples
-- Texts of causes that were not seen for more than a year.
DELETE FROM failure_samples
WHERE seen_at < now() - interval '400 days';

-- name: note_refreshed
-- Everything that was committed before this transaction began is in the rollup now, but for marked hours.
UPDATE rollup_state
SET refreshed_at = greatest(refreshed_at, %(as_of)s::timestamptz),
    recounted_at = CASE WHEN %(recounted)s THEN %(as_of)s::timestamptz ELSE recounted_at END;
