"""Runs: the list, a run while it goes on and afterwards, its archived page, and how it differs from another."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from runbook_lib.archive.diff import compare, flat
from runbook_lib.archive.entries import find_entry, state_of_notebook
from runbook_lib.archive.store import open_store
from runbook_lib.console.house import TheCaller, TheContext, TheHouse
from runbook_lib.database.statements import load
from runbook_lib.errors import NotFoundError, RunbookError, UsageError
from runbook_lib.health.context import Context
from runbook_lib.procedures.pulse import request_cancel

router = APIRouter(include_in_schema=False)
ROWS_ON_A_PAGE = 50
STATUSES = ("running", "succeeded", "failed", "timed_out", "killed", "lost", "refused")
VERDICTS = ("ok", "warning", "critical", "not_enough_data")
# The archived page brings its own policy; this one holds it in a frame whatever it brings.
ARCHIVED_POLICY = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
Text = Annotated[str, Query(max_length=200)]


@router.get("/runs")
def list_runs(
    request: Request, house: TheHouse, context: TheContext, procedure: Text = "", status: Text = "",
    verdict: Text = "", actor: Text = "", before: Text = "",
) -> Response:  # fmt: skip
    """The newest runs that fit, fifty on a page."""
    chosen = {"procedure": procedure, "status": status, "verdict": verdict, "actor": actor}
    for value, known in ((status, STATUSES), (verdict, VERDICTS)):
        if value and value not in known:
            raise UsageError(f"{value!r} is none of {', '.join(known)}.")
    runs = find_runs(
        context, procedure=procedure or None, status=status or None, verdict=verdict or None,
        actor=f"%{actor}%" if actor else None, before=_run_id(before) if before else None,
        row_count=ROWS_ON_A_PAGE + 1,
    )  # fmt: skip
    return house.pages.show(
        request, "runs.html.j2", title="Runs", live_seconds=0 if before else 5,
        runs=runs[:ROWS_ON_A_PAGE], more=len(runs) > ROWS_ON_A_PAGE, chosen=chosen, before=before,
        statuses=STATUSES, verdicts=VERDICTS,
    )  # fmt: skip


@router.get("/runs/{run_id}")
def show_run(request: Request, house: TheHouse, context: TheContext, run_id: UUID) -> Response:
    """One run: how far it is, or what it found, with its archived page."""
    database = context.sources.bookkeeping
    run = find_entry(database, str(run_id))
    running = run["status"] == "running"
    with database.transaction(read_only=True) as transaction:
        earlier = transaction.value(load("console")["earlier_run"], run_id=run["run_id"])
    return house.pages.show(
        request, "run.html.j2", title=f"{run['procedure']} {run['run_id'][:13]}",
        live_seconds=2 if running else 0, run=run, earlier=earlier,
        kept=None if running else _kept(house.settings, run),
        figures=flat({name: each for name, each in run["results"].items() if not _is_table(each)}),
        tables={name: each for name, each in run["results"].items() if _is_table(each)},
    )  # fmt: skip


@router.get("/runs/{run_id}/page")
def archived_page(house: TheHouse, context: TheContext, run_id: UUID) -> Response:
    """The archived page as it was kept. It may do nothing: no script, no form, nothing from elsewhere."""
    run = find_entry(context.sources.bookkeeping, str(run_id))
    if run["archive_html"] is None:
        raise NotFoundError(f"Run {run_id} has no archived page; it {run['status']}.")
    page = open_store(house.settings).read(run["archive_html"])
    return Response(
        page, media_type="text/html; charset=utf-8",
        headers={"content-security-policy": ARCHIVED_POLICY, "x-frame-options": "SAMEORIGIN"},
    )  # fmt: skip


@router.post("/runs/{run_id}/cancel")
def cancel_run(house: TheHouse, context: TheContext, caller: TheCaller, run_id: UUID) -> Response:
    """Asks a run to end, wherever it goes on; what was done until then is archived."""
    try:
        request_cancel(context.sources.bookkeeping, str(run_id), caller.actor)
    except RunbookError as error:
        return house.pages.refused(f"/runs/{run_id}", error)
    return house.pages.done(f"/runs/{run_id}", "The run was asked to end.")


@router.get("/diff/{first}/{second}")
def show_difference(
    request: Request, house: TheHouse, context: TheContext, first: UUID, second: UUID
) -> Response:
    """Two runs beside each other: what differs in verdict, figures, parameters and cells."""
    runs = [find_entry(context.sources.bookkeeping, str(run_id)) for run_id in (first, second)]
    return house.pages.show(
        request, "diff.html.j2", title="Two runs", runs=runs,
        difference=compare(open_store(house.settings), *runs),
    )  # fmt: skip


def find_runs(context: Context, **chosen: Any) -> list[dict[str, Any]]:
    """Runs that fit, the newest first."""
    empty = dict.fromkeys(("procedure", "status", "verdict", "actor", "before"))
    with context.sources.bookkeeping.transaction(read_only=True) as transaction:
        rows = transaction.rows(load("console")["runs"], **{**empty, **chosen})
    return [row._asdict() for row in rows]


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _kept(settings: Any, run: dict[str, Any]) -> str:
    """Whether the archived notebook is what its row says, or why that cannot be said."""
    try:
        return state_of_notebook(open_store(settings), run)
    except RunbookError as error:
        return str(error)


def _run_id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise NotFoundError(f"{text!r} is no run to go on from. Begin with the newest.") from None
