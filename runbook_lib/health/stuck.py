"""Jobs that seem to be left by their worker: by their lease, or by their age where there are no leases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runbook_lib.database.statements import load
from runbook_lib.health.sources import Sources

_SQL = load("stuck")
LIVING_MINUTES = 10


@dataclass(frozen=True)
class Stuck:
    """How many jobs are worked on, how many of them seem stuck, and some of those.

    `missing` names what it cannot be told without; then nothing is counted. `by_age`: there are no
    leases, so that each of them may still be running.
    """

    processing: int | None
    count: int
    jobs: list[dict[str, Any]]
    by_age: bool
    older_than_seconds: float
    missing: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        if self.missing:
            return f"This pipeline has neither leases nor {self.missing[0]}: nothing tells a stuck job from one that is worked on."
        if self.by_age:
            return (
                f"{self.count} of {self.processing} jobs in processing were begun more than "
                f"{self.older_than_seconds:g} s ago. There are no leases: they may still be running."
            )
        return f"{self.count} of {self.processing} jobs in processing have an expired lease."


def stuck_jobs(sources: Sources, *, older_than_seconds: float, row_count: int) -> Stuck:
    """Looks; changes nothing."""
    by_age = not sources.has_leases
    if by_age and (missing := sources.missing(["jobs.started_at"])):
        return Stuck(None, 0, [], by_age, older_than_seconds, tuple(missing))
    binds = {"has_leases": not by_age, "older_than_seconds": older_than_seconds}
    count, rows = (sources.reading(_SQL[name]) for name in ("count_stuck", "stuck_jobs"))
    with sources.pipeline.transaction(read_only=True) as transaction:
        counted = transaction.row(count, **binds)
        found = transaction.rows(rows, row_count=row_count, **binds)
    assert counted is not None
    jobs = [row._asdict() for row in found]
    return Stuck(counted.processing, counted.stuck, jobs, by_age, older_than_seconds)


def attempts_ended_lately(sources: Sources) -> int:
    """How many attempts ended within some minutes: where there are any, workers live."""
    if sources.missing(["runs.execution_time"]):
        return 0
    with sources.pipeline.transaction(read_only=True) as transaction:
        return int(transaction.value(sources.reading(_SQL["ended_lately"]), minutes=LIVING_MINUTES))


def job_now(sources: Sources, job_id: str) -> Any | None:
    """What this job is now: `status`, `started_at`; None when it is gone."""
    with sources.pipeline.transaction(read_only=True) as transaction:
        return transaction.row(sources.reading(_SQL["job_now"]), job_id=job_id)
