-- Who called the console and the functions.
SELECT 1;
