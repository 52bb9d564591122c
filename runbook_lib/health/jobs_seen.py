"""Jobs of any pipeline, ours or not: counts by status, and one job with its attempts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg2.errors

from runbook_lib.database.statements import load
from runbook_lib.errors import NotFoundError
from runbook_lib.health.sources import Sources

_SQL = load("jobs_seen")
MOST_RUNS = 100


@dataclass(frozen=True)
class SeenJob:
    """One job and its attempts, the newest first; columns that the pipeline lacks are left out."""

    job: dict[str, Any]
    runs: list[dict[str, Any]]


def jobs_by_status(sources: Sources) -> dict[str, int]:
    """How many jobs there are of each status; a word of theirs that is not mapped stands as it is."""
    with sources.pipeline.transaction(read_only=True) as transaction:
        rows = transaction.rows(sources.reading(_SQL["jobs_by_status"]))
    return {row.status: row.jobs for row in rows}


def job_with_runs(sources: Sources, job_id: str) -> SeenJob:
    """One job by its id. Raises `NotFoundError`, also for what cannot be an id there."""
    job, runs = (sources.reading(_SQL[name]) for name in ("job", "runs_of_job"))
    try:
        with sources.pipeline.transaction(read_only=True) as transaction:
            found = transaction.row(job, job_id=job_id)
            attempts = transaction.rows(runs, job_id=job_id, row_count=MOST_RUNS)
    except (psycopg2.errors.InvalidTextRepresentation, psycopg2.errors.NumericValueOutOfRange):
        found, attempts = None, []
    if found is None:
        raise NotFoundError(f"There is no job {job_id!r}.")
    return SeenJob(
        _known(sources, "jobs", found), [_known(sources, "runs", row) for row in attempts]
    )


def _known(sources: Sources, relation: str, row: Any) -> dict[str, Any]:
    columns = row._asdict()
    del columns["job_key"]
    lacking = set(sources.missing(f"{relation}.{name}" for name in columns))
    return {name: value for name, value in columns.items() if f"{relation}.{name}" not in lacking}
