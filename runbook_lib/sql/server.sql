-- Statements of the embedded server's own upkeep.

-- name: database_exists
-- Whether the server has a database of this name.
SELECT EXISTS (SELECT FROM pg_database WHERE datname = %(name)s);

-- name: create_database
-- The workbench's own database in the embedded server. Cannot run inside a transaction.
CREATE DATABASE runbook;

-- name: create_statement_statistics
-- Lets `pg_stat_statements` be read; it was loaded when the server started.
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;

-- name: statement_statistics_exist
-- Whether `pg_stat_statements` can be read in this database.
SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_stat_statements');
