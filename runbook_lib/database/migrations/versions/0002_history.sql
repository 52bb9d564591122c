-- The hourly rollup of runs and what marks its hours.
SELECT 1;
