-- Causes of failures by fingerprint.

-- name: load_templates
-- Templates of one ruleset that changed after a moment, the oldest first: the first one's id is kept.
SELECT fingerprint, key, words, error_class, sample, joined, changed_at
FROM failure_templates
WHERE ruleset = %(ruleset)s AND changed_at >= %(changed_since)s
ORDER BY first_seen, fingerprint;

-- name: save_template
-- Stores a template, or what was learned about it.
INSERT INTO failure_templates AS known (fingerprint, ruleset, key, words, error_class, sample, joined)
VALUES (%(fingerprint)s, %(ruleset)s, %(key)s, %(words)s::text[], %(error_class)s, %(sample)s, %(joined)s)
ON CONFLICT (fingerprint) DO UPDATE
SET words = EXCLUDED.words,
    joined = coalesce(known.joined, EXCLUDED.joined),
    changed_at = now();
