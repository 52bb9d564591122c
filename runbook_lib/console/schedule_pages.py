"""Schedules: what runs by itself, when it did last and will next; running one now, pausing one."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from runbook_lib.console.house import Fields, TheCaller, TheContext, TheHouse
from runbook_lib.database.statements import load
from runbook_lib.errors import RunbookError
from runbook_lib.pipeline.moments import length_of_time
from runbook_lib.scheduling import pauses
from runbook_lib.scheduling.ledger import last_dealt_with
from runbook_lib.scheduling.schedules import load_schedules

router = APIRouter(include_in_schema=False)
TIMES_SHOWN = 3
LENGTHS = (
    ("", "until somebody resumes it"),
    ("4h", "for 4 hours"),
    ("24h", "for a day"),
    ("1w", "for a week"),
)


@router.get("/schedules")
def list_schedules(request: Request, house: TheHouse, context: TheContext) -> Response:
    """Every schedule with its last and next times; a file that does not fit is said, and why."""
    found, now = load_schedules(house.settings), datetime.now(UTC)
    database = context.sources.bookkeeping
    with database.transaction(read_only=True) as transaction:
        sign_of_life = transaction.row(
            load("scheduling")["heartbeat"],
            silent_seconds=context.policy.thresholds.scheduler_silent_seconds,
        )
    return house.pages.show(
        request, "schedules.html.j2", title="Schedules", live_seconds=10,
        schedules=found.schedules.values(), problems=found.problems, at=now,
        last=last_dealt_with(database), paused=pauses.pauses(database), lengths=LENGTHS,
        next_times={each.id: each.next_times(now, TIMES_SHOWN) for each in found.schedules.values()},
        sign_of_life=sign_of_life,
    )  # fmt: skip


@router.post("/schedules/{schedule_id}/run")
def run_now(house: TheHouse, context: TheContext, caller: TheCaller, schedule_id: str) -> Response:
    """Runs what a schedule would run. Its due times stay as they are."""
    try:
        found = load_schedules(house.settings).get(schedule_id)
        deadline = found.deadline_minutes
        run_id = house.runs.start(
            context, found.procedure, found.parameters, caller.actor, trigger="run-now",
            schedule_id=found.id, allow_changes=found.allow_changes,
            deadline_seconds=deadline * 60 if deadline else None,
        )  # fmt: skip
    except RunbookError as error:
        return house.pages.refused("/schedules", error)
    to = f"/runs/{run_id}" if run_id else f"/runs?procedure={found.procedure}"
    return house.pages.done(to, f"{found.procedure}: started, as the schedule {found.id} would.")


@router.post("/schedules/{schedule_id}/pause")
def pause(
    house: TheHouse, context: TheContext, caller: TheCaller, fields: Fields, schedule_id: str
) -> Response:
    """Pauses a schedule: what comes due meanwhile is recorded as skipped."""
    try:
        length = fields.get("for", "")
        pauses.pause(
            context.sources.bookkeeping, load_schedules(house.settings).get(schedule_id).id,
            actor=caller.actor, reason=fields.get("reason", ""),
            until=datetime.now(UTC) + length_of_time(length) if length else None,
        )  # fmt: skip
    except RunbookError as error:
        return house.pages.refused("/schedules", error)
    return house.pages.done(
        "/schedules", f"{schedule_id}: paused. What comes due is recorded as skipped."
    )


@router.post("/schedules/{schedule_id}/resume")
def resume(house: TheHouse, context: TheContext, caller: TheCaller, schedule_id: str) -> Response:
    try:
        ended = pauses.resume(context.sources.bookkeeping, schedule_id, actor=caller.actor)
    except RunbookError as error:
        return house.pages.refused("/schedules", error)
    said = "resumed." if ended else "it was not paused by hand; a pause in its file ends there."
    return house.pages.done("/schedules", f"{schedule_id}: {said}")
