-- Failures by fingerprint.
SELECT 1;
