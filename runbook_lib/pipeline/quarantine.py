"""Setting one job aside as a planned change, before it takes the next worker with it.

The sweep does so by itself after some losses in a row; this is for a person, or for triage, that sees it
sooner. A job that a live worker holds is left alone: it would be in error and published all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from runbook_lib import changes
from runbook_lib.changes import ChangedRow, Preview, SeenRow, TransactionalKind
from runbook_lib.credentials.masking import mask
from runbook_lib.database.connection import Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import NotFoundError, PlanRefused, UsageError
from runbook_lib.pipeline import jobs
from runbook_lib.pipeline.operations import full_job_id
from runbook_lib.pipeline.permits import Event, add_event
from runbook_lib.policy import load_policy
from runbook_lib.settings import load_settings

_SQL = load("quarantine")
_LOCK_JOBS = load("retries")["lock_jobs"]
CLASS = "quarantined"
_KEPT = ("status", "error_class", "last_error", "retry_count", "lost_count", "attempt")


class _OfJobs(TransactionalKind):
    """One row a job."""

    row_limit = 1

    def lock(self, transaction: Transaction, rows: Sequence[SeenRow]) -> None:
        transaction.rows(_LOCK_JOBS, job_ids=[row.key for row in rows])


class Quarantine(_OfJobs):
    """One job ends as quarantined: no worker takes it, and retrying many at once leaves it out."""

    name = "jobs.quarantine"
    summary = "Sets one job aside: no worker takes it until somebody lets it go."
    parameters: ClassVar[Mapping[str, str]] = {
        "job_id": "the whole id of the job",
        "reason": "why; it stands in the job's last_error",
    }
    inverse = "jobs.unquarantine"

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        if not given.get("job_id"):
            raise UsageError("Say which job: job_id=….")
        reason = str(given.get("reason") or "").strip()
        if not reason:
            raise UsageError("Say why: reason=….")
        return {"job_id": full_job_id(str(given["job_id"])), "reason": mask(reason)}

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        job = _job(transaction, parameters["job_id"])
        if job.status == "error" and job.error_class == CLASS:
            return Preview([], 0)
        _refuse_unless_free(job)
        # The attempt is not looked at: such a job is claimed again and again while one looks. Whether
        # somebody holds it is, under lock.
        shown = {"topic": job.topic, "category": job.category, "status": job.status, "attempt": job.attempt, "lost_count": job.lost_count}  # fmt: skip
        return Preview([SeenRow(job.job_id, {"quarantined": False}, shown, job.updated_at)], 1)

    def apply(
        self, transaction: Transaction, rows: Sequence[SeenRow], parameters: Mapping[str, Any], actor: str
    ) -> list[ChangedRow]:  # fmt: skip
        return [_set_aside(transaction, row.key, parameters["reason"], actor) for row in rows]


class Unquarantine(_OfJobs):
    """Lets a job go that a change set aside: it waits again, or stands in error as it did before."""

    name = "jobs.unquarantine"
    summary = "Lets a job go again that a change set aside."
    parameters: ClassVar[Mapping[str, str]] = {"change": "the change that set it aside"}

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return changes.undo_parameters(given)

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        rows = [
            SeenRow(row.job_id, {"before": row.before, "attempt": row.attempt}, {"topic": row.topic}, row.created_at)
            for row in transaction.rows(_SQL["jobs_set_aside"], change_id=parameters["change"])
        ]  # fmt: skip
        return Preview(rows, len(rows))

    def apply(
        self, transaction: Transaction, rows: Sequence[SeenRow], parameters: Mapping[str, Any], actor: str
    ) -> list[ChangedRow]:  # fmt: skip
        found = []
        for row in rows:
            before = row.seen["before"]
            after = {**before, "status": "error" if before["status"] == "error" else "pending"}
            transaction.run(_SQL["let_go"], job_id=row.key, **{**after, "attempt": row.seen["attempt"]})  # fmt: skip
            add_event(transaction, actor, Event("job_let_go", f"{actor} let job {row.key} out of quarantine", job_id=row.key))  # fmt: skip
            found.append(ChangedRow(row.key, {"status": "error", "error_class": CLASS}, after))
        jobs.notify_workers(transaction)
        return found


def _set_aside(transaction: Transaction, job_id: str, reason: str, actor: str) -> ChangedRow:
    job = _job(transaction, job_id)
    if job.status == "processing":
        # Its worker vanished: the sweep takes it back, with the row of the lost attempt, straight into quarantine.
        taken = jobs.sweep(transaction, quarantine_after=1, count=1, job_ids=[job_id])
        done = [each.job_id for each in taken]
    else:
        done = transaction.rows(
            _SQL["set_aside"], job_id=job_id, attempt=job.attempt,
            last_error=f"Set aside by {actor}: {reason}",
        )  # fmt: skip
    if not done:
        raise PlanRefused(f"Job {job_id} was taken by somebody else. Plan again.")
    words = f"{actor} put job {job_id} into quarantine: {reason}"
    add_event(transaction, actor, Event("job_quarantined", words, "warning", job_id=job_id))
    before = {name: getattr(job, name) for name in _KEPT}
    after = {"status": "error", "error_class": CLASS, "attempt": job.attempt}
    return ChangedRow(job_id, before, after)


def _job(transaction: Transaction, job_id: str) -> Any:
    silent_seconds = load_policy(load_settings()).thresholds.worker_silent_seconds
    job = transaction.row(_SQL["job_to_set_aside"], job_id=job_id, silent_seconds=silent_seconds)
    if job is None:
        raise NotFoundError(f"There is no job {job_id}. See `runbook jobs list`.")
    return job


def _refuse_unless_free(job: Any) -> None:
    if job.status == "completed":
        raise PlanRefused(f"Job {job.job_id} is completed: there is nothing to set aside. Its post is taken back by `runbook posts unpublish`.")  # fmt: skip
    if job.status != "processing":
        return
    left = job.lease_left_seconds
    if left > 0 or job.worker_lives:
        when = (
            f"its lease ends in {left:.0f} s"
            if left > 0
            else "its worker is silent, or has swept it"
        )
        raise PlanRefused(
            f"Job {job.job_id} is in the hands of {job.worker} (attempt {job.attempt}): set aside now, it might be "
            f"published all the same. Do it again when {when}."
        )


changes.register(Quarantine())
changes.register(Unquarantine())
