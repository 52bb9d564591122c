"""Jobs: the list with filters and search, and one job with every attempt."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from runbook_lib import changes
from runbook_lib.console.house import Fields, TheCaller, TheContext, TheHouse
from runbook_lib.errors import NotFoundError, RunbookError, UsageError
from runbook_lib.pipeline import operations, retries
from runbook_lib.pipeline.failures import FAILURE_CLASSES
from runbook_lib.pipeline.moments import moment

router = APIRouter(include_in_schema=False)
ROWS_ON_A_PAGE = 50
STATUSES = ("pending", "processing", "completed", "error")
SINCE = (
    ("1h", "the last hour"),
    ("24h", "the last 24 hours"),
    ("7d", "the last 7 days"),
    ("30d", "the last 30 days"),
)
Text = Annotated[str, Query(max_length=400)]


@router.get("/jobs")
def list_jobs(
    request: Request, house: TheHouse, context: TheContext,
    status: Text = "", error_class: Annotated[str, Query(alias="class", max_length=100)] = "",
    category: Text = "", search: Text = "", since: Text = "", before: Text = "",
) -> Response:  # fmt: skip
    """The newest jobs that fit, fifty on a page."""
    chosen = {
        "status": status,
        "class": error_class,
        "category": category,
        "search": search,
        "since": since,
    }
    now = datetime.now(UTC)
    if status and status not in STATUSES:
        raise UsageError(f"There is no status {status!r}; there is {', '.join(STATUSES)}.")
    jobs = operations.list_jobs(
        context.sources.pipeline,
        status=status or None,
        error_class=error_class or None,
        category=category or None,
        search=search.strip() or None,
        since=moment(since, now) if since else None,
        before=_job_id(before) if before else None,
        row_count=ROWS_ON_A_PAGE + 1,
    )
    return house.pages.show(
        request, "jobs.html.j2", title="Jobs", live_seconds=0 if before else 10,
        jobs=jobs[:ROWS_ON_A_PAGE], more=len(jobs) > ROWS_ON_A_PAGE, chosen=chosen, before=before,
        statuses=STATUSES, classes=FAILURE_CLASSES, since_choices=SINCE,
    )  # fmt: skip


@router.get("/jobs/{job_id}")
def show_job(request: Request, house: TheHouse, context: TheContext, job_id: str) -> Response:
    """One job; the beginning of its id is enough."""
    history = operations.show_job(context.sources.pipeline, job_id)
    known = FAILURE_CLASSES.get(history.job["error_class"] or "")
    return house.pages.show(
        request, "job.html.j2", title=f"Job {history.job['job_id'][:13]}", live_seconds=5,
        job=history.job, runs=history.runs, article=history.article, events=history.events,
        failure=known if history.job["status"] == "error" or history.job["retry_count"] else None,
        classes=FAILURE_CLASSES,
    )  # fmt: skip


@router.post("/jobs/{job_id}/cancel")
def cancel_job(
    house: TheHouse, context: TheContext, caller: TheCaller, fields: Fields, job_id: UUID
) -> Response:
    page = f"/jobs/{job_id}"
    try:
        found = operations.cancel_job(
            context.sources.pipeline, str(job_id), actor=caller.actor, reason=fields.get("reason")
        )
    except RunbookError as error:
        return house.pages.refused(page, error)
    draft = " A draft of it may stand at WordPress." if found.draft_may_exist else ""
    return house.pages.done(page, f"The job is cancelled.{draft}")


@router.post("/jobs/{job_id}/retry")
def retry_job(
    house: TheHouse, context: TheContext, caller: TheCaller, fields: Fields, job_id: UUID
) -> Response:
    """Sets one failed job back to pending: planned and applied at once, as it is named."""
    page, database = f"/jobs/{job_id}", context.sources.pipeline
    try:
        parameters = {
            "job_ids": str(job_id),
            "per_minute": retries.default_jobs_per_minute(database),
        }
        plan = changes.plan(database, "jobs.retry", parameters, actor=caller.actor)
        result: Any = changes.apply(
            database, plan.change_id, actor=caller.actor, dry_run=False, reason=fields.get("reason")
        )
    except RunbookError as error:
        return house.pages.refused(page, error)
    if not result.changed:
        return house.pages.refused(
            page, UsageError("Only jobs in error are retried; nothing was changed.")
        )
    return house.pages.done(page, "The job is pending again. A paid article is not bought again.")


def _job_id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise NotFoundError(f"{text!r} is no job to go on from. Begin with the newest.") from None
