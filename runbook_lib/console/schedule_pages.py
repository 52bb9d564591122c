"""Schedules: what runs by itself, when it did last and will next, and running it now."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from runbook_lib.console.house import TheCaller, TheContext, TheHouse
from runbook_lib.database.statements import load
from runbook_lib.errors import RunbookError
from runbook_lib.scheduling.schedules import load_schedules

router = APIRouter(include_in_schema=False)
TIMES_SHOWN = 3


@router.get("/schedules")
def list_schedules(request: Request, house: TheHouse, context: TheContext) -> Response:
    """Every schedule with its last and next times; a file that does not fit is said, and why."""
    found, now = load_schedules(house.settings), datetime.now(UTC)
    with context.sources.bookkeeping.transaction(read_only=True) as transaction:
        rows = transaction.rows(load("schedule_runs")["last_dealt_with"])
    return house.pages.show(
        request, "schedules.html.j2", title="Schedules", live_seconds=10,
        schedules=found.schedules.values(), problems=found.problems,
        last={row.schedule_id: row for row in rows}, at=now,
        next_times={each.id: each.next_times(now, TIMES_SHOWN) for each in found.schedules.values()},
    )  # fmt: skip


@router.post("/schedules/{schedule_id}/run")
def run_now(house: TheHouse, context: TheContext, caller: TheCaller, schedule_id: str) -> Response:
    """Runs what a schedule would run. Its due times stay as they are."""
    try:
        found = load_schedules(house.settings).get(schedule_id)
        run_id = house.runs.start(
            context, found.procedure, found.parameters, caller.actor, trigger="run-now",
            schedule_id=found.id,
        )  # fmt: skip
    except RunbookError as error:
        return house.pages.refused("/schedules", error)
    to = f"/runs/{run_id}" if run_id else f"/runs?procedure={found.procedure}"
    return house.pages.done(to, f"{found.procedure}: started, as the schedule {found.id} would.")
