-- States of checks, alerts and their deliveries.
SELECT 1;
