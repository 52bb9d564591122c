-- Supabase Vault's own interface. No statement holds a value: it comes by COPY, so that no log has it.

-- name: entries
-- When each of our secrets was set; decrypts nothing.
SELECT name, created_at, updated_at
FROM vault.secrets
WHERE name = ANY (%(names)s);

-- name: value_of
-- One secret. One at a time: a row that was not encrypted breaks the view for every row that is read with it.
SELECT decrypted_secret
FROM vault.decrypted_secrets
WHERE name = %(name)s;

-- name: id_of
-- The id under which a name is kept; update_secret wants it, and says nothing when it is wrong.
SELECT id
FROM vault.secrets
WHERE name = %(name)s
FOR UPDATE;

-- name: may_write
-- Whether this role may call what writes.
SELECT has_schema_privilege('vault', 'USAGE')
    AND bool_and(has_function_privilege(oid, 'EXECUTE')) AS allowed
FROM pg_proc
WHERE pronamespace = to_regnamespace('vault') AND proname IN ('create_secret', 'update_secret');

-- name: make_hand_over
-- Where the value waits for the next statement; gone with the transaction, and never in the WAL.
CREATE TEMPORARY TABLE runbook_hand_over (value text NOT NULL) ON COMMIT DROP;

-- name: hand_over
-- Takes the value.
COPY runbook_hand_over (value) FROM STDIN;

-- name: create
-- A secret under a name that is not taken.
SELECT vault.create_secret((SELECT value FROM runbook_hand_over), %(name)s, 'Kept by the runbook workbench');

-- name: update
-- Another value for a secret that is there; its name stays.
SELECT vault.update_secret(%(id)s::uuid, (SELECT value FROM runbook_hand_over), %(name)s);
