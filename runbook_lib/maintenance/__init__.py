"""Room: what keeps a pipeline in order, as reviews that read and as changes that are planned first.

Clean-up of job_runs (`clean_up.py`, `run_exports.py`, `parquet_files.py`), statistics, indexes, statements,
sizes and what they grow by (`database_review.py` puts them together), and what to do about errors of the
database and about slow jobs. Rotation of keys and passwords (`rotation.py`, `retirement.py`), their stores,
tests and ages (`secret_…`).
"""
