-- What DuckDB is asked about files of exported runs. Not PostgreSQL: {words in braces} are filled in, as
-- quoted texts and names, by runbook_lib/maintenance/parquet_files.py.

-- name: write
-- Turns what COPY sends through a pipe into one Parquet file, a group of rows at a time. Filters and
-- dictionaries of values that hardly repeat are left out: they are a third of the writing and spare nothing.
COPY (
    SELECT *
    FROM read_csv(
        {pipe}, auto_detect = false, header = false, delim = ',', quote = '"', escape = '"', nullstr = '\N',
        allow_quoted_nulls = false, parallel = false, strict_mode = true, max_line_size = 16777216,
        buffer_size = 33554432, columns = {columns}
    )
)
TO {file} (
    FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 100000, DICTIONARY_SIZE_LIMIT 1000, WRITE_BLOOM_FILTER false
);

-- name: totals
-- Reads a file again: how many rows, the sum of their checksums, made anew, the oldest and the newest, and
-- the sums of the columns.
SELECT
    count(*),
    coalesce(sum({checksum}), 0)::VARCHAR,
    min(execution_time)::VARCHAR,
    max(execution_time)::VARCHAR,
    {sums}
FROM read_parquet({file});

-- name: keys
-- What tells the rows of a file apart, and each row's checksum.
SELECT job_id::VARCHAR, attempt, execution_time::VARCHAR, {checksum}
FROM read_parquet({file});

-- name: checksum
-- The checksum of a row, as the server makes it too: the first sixty bits of the digest of its columns.
('0x' || left(md5(concat_ws(chr(31), {texts})), 15))::BIGINT;
