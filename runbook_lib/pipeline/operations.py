"""What an operator asks of jobs: list them, show one with its history, cancel some."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from runbook_lib.changes import admin_action
from runbook_lib.credentials.masking import mask
from runbook_lib.database.connection import Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone, NotFoundError, UsageError

_SQL = load("operations")
_HEXADECIMAL = re.compile(r"[0-9a-f]{4,32}")


@dataclass(frozen=True)
class JobHistory:
    """A job with everything that is known about it; each part as plain values."""

    job: dict[str, Any]
    runs: list[dict[str, Any]]
    article: dict[str, Any] | None
    events: list[dict[str, Any]]


@dataclass(frozen=True)
class Cancelled:
    """A cancelled job. `draft_may_exist`: a draft of it may stand at WordPress."""

    job_id: str
    topic: str
    already: bool
    draft_may_exist: bool


def list_jobs(
    database: Database,
    *,
    status: str | None = None,
    error_class: str | None = None,
    category: str | None = None,
    since: datetime | None = None,
    search: str | None = None,
    before: str | None = None,
    row_count: int = 50,
) -> list[dict[str, Any]]:
    """The newest jobs, newest first. `since` is the time of their last change.

    `search` is a part of the topic or of the last error, in any case of letters; `before` is the id of
    the last job that was seen, to go on from there.
    """
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows(
            _SQL["list_jobs"],
            status=status,
            error_class=error_class,
            category=category,
            since=since,
            search=None if search is None else f"%{_literal(search)}%",
            before=before,
            row_count=row_count,
        )
    return [row._asdict() for row in rows]


def show_job(database: Database, job_id: str) -> JobHistory:
    """A job with its attempts, article and events. Takes an id, or its beginning if that is unique.

    Raises `NotFoundError`.
    """
    with database.transaction(read_only=True) as transaction:
        found = find_job_id(transaction, job_id)
        article = transaction.row(_SQL["article_of_job"], job_id=found)
        return JobHistory(
            job=transaction.row(_SQL["show_job"], job_id=found)._asdict(),  # type: ignore[union-attr]
            runs=[row._asdict() for row in transaction.rows(_SQL["runs_of_job"], job_id=found)],
            article=None if article is None else article._asdict(),
            events=[row._asdict() for row in transaction.rows(_SQL["events_of_job"], job_id=found)],
        )


def cancel_job(
    database: Database, job_id: str, *, actor: str, reason: str | None = None
) -> Cancelled:
    """Cancels a pending job: it ends as error, class `cancelled`, and no worker takes it.

    Raises `CouldNotBeDone` for one that a worker has right now, `UsageError` for one that is over,
    `NotFoundError` for an id that no job has. Leaves a row in `admin_actions` in each case.
    """
    note = f": {mask(reason)}" if reason else ""
    with (
        admin_action(
            database, actor=actor, action="jobs.cancel", target=job_id, reason=reason
        ) as action,
        database.transaction() as transaction,
    ):
        found = find_job_id(transaction, job_id)
        job = transaction.row(_SQL["lock_job"], job_id=found)
        assert job is not None
        already = job.status == "error" and job.error_class == "cancelled"
        if not already:
            _refuse_unless_pending(job)
            transaction.run(
                _SQL["cancel_job"], job_id=found, last_error=f"Cancelled by {actor}{note}"
            )
        action.done(
            transaction,
            before={"job_id": found, "status": job.status, "run_at": job.run_at},
            after={"job_id": found, "status": "error", "error_class": "cancelled"},
        )
    return Cancelled(
        found, job.topic, already, job.draft_requested_at is not None or job.post_id is not None
    )


def _refuse_unless_pending(job: Any) -> None:
    if job.status == "processing":
        raise CouldNotBeDone(
            f"Job {job.job_id} is being worked on by {job.worker} (attempt {job.attempt}) and cannot "
            "be cancelled now. Wait until it has ended; `runbook posts unpublish` takes its post back."
        )
    if job.status != "pending":
        raise UsageError(
            f"Job {job.job_id} is {job.status} already; only pending jobs are cancelled."
        )


def find_job_id(transaction: Transaction, given: str) -> str:
    """The id of the one job whose id begins so. Raises `NotFoundError` for none and for several."""
    digits = given.strip().lower().replace("-", "")
    if not _HEXADECIMAL.fullmatch(digits):
        raise NotFoundError(f"{given!r} is no job id: give at least 4 of its digits (0-9, a-f).")
    rows = transaction.rows(
        _SQL["find_jobs"],
        first=str(UUID(digits.ljust(32, "0"))),
        last=str(UUID(digits.ljust(32, "f"))),
    )
    if not rows:
        raise NotFoundError(f"There is no job {given!r}. See `runbook jobs list`.")
    if len(rows) > 1:
        raise NotFoundError(
            f"More than one job begins with {given!r}: {rows[0].job_id}, {rows[1].job_id}. Give more of it."
        )
    found: str = rows[0].job_id
    return found


def _literal(text: str) -> str:
    """A text as LIKE takes it for itself."""
    return re.sub(r"([\\%_])", r"\\\1", text)


def full_job_id(given: str) -> str:
    """A whole job id in its usual form. Raises `UsageError`."""
    try:
        return str(UUID(given.strip()))
    except ValueError:
        raise UsageError(f"{given!r} is no whole job id.") from None
