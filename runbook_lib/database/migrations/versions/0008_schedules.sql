-- What schedulers leave behind.
SELECT 1;
