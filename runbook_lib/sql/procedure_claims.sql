-- name: claim
-- Claims a procedure with effects for one run; nothing when another run has it.
INSERT INTO procedure_claims (procedure, run_id, actor, host, expires_at)
VALUES (
    %(procedure)s, %(run_id)s::uuid, %(actor)s, %(host)s, now() + make_interval(secs => %(lease_seconds)s)
)
ON CONFLICT (procedure) DO UPDATE
SET run_id = excluded.run_id, actor = excluded.actor, host = excluded.host, claimed_at = now(),
    expires_at = excluded.expires_at
WHERE procedure_claims.expires_at < now()
RETURNING run_id::text;

-- name: holder
-- Who has a procedure now.
SELECT run_id::text, actor, host, claimed_at
FROM procedure_claims
WHERE procedure = %(procedure)s;

-- name: renew
-- Keeps a claim for another lease; nothing when it was lost meanwhile.
UPDATE procedure_claims
SET expires_at = now() + make_interval(secs => %(lease_seconds)s)
WHERE procedure = %(procedure)s AND run_id = %(run_id)s::uuid
RETURNING run_id::text;

-- name: release
-- Gives a claim back.
DELETE FROM procedure_claims
WHERE procedure = %(procedure)s AND run_id = %(run_id)s::uuid;
