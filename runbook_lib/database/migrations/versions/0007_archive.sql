-- Entries of the archive and their chain.
SELECT 1;
