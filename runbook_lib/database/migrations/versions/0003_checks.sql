-- Snapshots that checks compare.
SELECT 1;
