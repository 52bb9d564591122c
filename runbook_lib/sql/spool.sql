-- Entries of the spool: what was written to files while the database was away.

-- name: note_filing
-- Notes that an entry is filed, in the transaction that files it. No row: it was filed already.
INSERT INTO spool_filings (entry_id, kind, happened_at, host, filed_by)
VALUES (%(entry_id)s::uuid, %(kind)s, %(happened_at)s, %(host)s, %(filed_by)s)
ON CONFLICT (entry_id) DO NOTHING
RETURNING entry_id;
