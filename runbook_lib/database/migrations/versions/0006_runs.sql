-- What runs of procedures need beyond their record.
SELECT 1;
