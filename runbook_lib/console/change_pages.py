"""Changes: planned, looked at, then applied; what was applied can be taken back."""

from __future__ import annotations

import threading
from uuid import UUID

import psycopg2
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from runbook_lib import changes
from runbook_lib.changes import Plan, StepwiseKind
from runbook_lib.console.admission import Caller
from runbook_lib.console.house import Fields, House, TheCaller, TheContext, TheHouse
from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.errors import RunbookError, UsageError

router = APIRouter(include_in_schema=False)
ROWS_SHOWN = 50


@router.get("/changes")
def list_changes(request: Request, house: TheHouse, context: TheContext) -> Response:
    """The newest plans, and a form for each kind that can be planned here."""
    return house.pages.show(
        request, "changes.html.j2", title="Changes", live_seconds=10,
        plans=changes.list_changes(context.sources.bookkeeping, row_count=ROWS_SHOWN),
        kinds=_plannable(), wanted=_Wanted(request.query_params),
    )  # fmt: skip


@router.post("/changes/plan")
def plan_change(
    house: TheHouse, context: TheContext, caller: TheCaller, fields: Fields
) -> Response:
    """Looks at what a change would touch; changes nothing."""
    try:
        given = {
            name.removeprefix("parameter."): value
            for name, value in fields.items()
            if name.startswith("parameter.") and value
        }
        if fields.get("kind", "") not in _plannable():
            raise UsageError("Choose what to change.")
        plan = changes.plan(context.sources.bookkeeping, fields["kind"], given, actor=caller.actor)
    except RunbookError as error:
        return house.pages.refused("/changes", error)
    return house.pages.done(
        f"/changes/{plan.change_id}", "This is what would be changed. Nothing was changed yet."
    )


@router.get("/changes/{change_id}")
def show_change(
    request: Request, house: TheHouse, context: TheContext, change_id: UUID
) -> Response:
    """One plan: what it saw, whether it still holds, and what became of it."""
    database = context.sources.bookkeeping
    plan = changes.find(database, str(change_id))
    return house.pages.show(
        request, "change.html.j2", title=f"Change {plan.kind}",
        live_seconds=2 if plan.status == "applying" else 15,
        plan=plan, kind=changes.kinds().get(plan.kind), columns=_columns(plan),
        done=_done(database, plan), drifted=_drifted(database, plan),
    )  # fmt: skip


@router.post("/changes/{change_id}/apply")
def apply_change(
    house: TheHouse, context: TheContext, caller: TheCaller, fields: Fields, change_id: UUID
) -> Response:
    """Applies what was looked at. What takes long goes on behind the page, which shows how far it is."""
    page, database = f"/changes/{change_id}", context.sources.bookkeeping
    try:
        reason = fields.get("reason", "")
        if not reason:
            raise UsageError("Say why: the reason is kept with what was changed.")
        plan = changes.find(database, str(change_id))
        if isinstance(changes.kinds().get(plan.kind), StepwiseKind):
            changes.apply(database, plan.change_id, actor=caller.actor, dry_run=True)
            return _apply_behind(house, database, plan, caller, reason)
        result = changes.apply(
            database, plan.change_id, actor=caller.actor, dry_run=False, reason=reason
        )
    except RunbookError as error:
        return house.pages.refused(page, error)
    return house.pages.done(
        page, f"Applied: {result.changed} changed, {result.unchanged} were so already."
    )


@router.post("/changes/{change_id}/undo")
def plan_undo(house: TheHouse, context: TheContext, caller: TheCaller, change_id: UUID) -> Response:
    """Plans the change that takes this one back."""
    try:
        plan = changes.plan_undo(context.sources.bookkeeping, str(change_id), actor=caller.actor)
    except RunbookError as error:
        return house.pages.refused(f"/changes/{change_id}", error)
    return house.pages.done(
        f"/changes/{plan.change_id}", "This would take it back. Nothing was changed yet."
    )


def _apply_behind(
    house: House, database: Database, plan: Plan, caller: Caller, reason: str
) -> Response:
    def apply() -> None:
        try:
            changes.apply(
                database, plan.change_id, actor=caller.actor, dry_run=False, reason=reason
            )
        except (RunbookError, psycopg2.Error):
            pass  # it stands in admin_actions, and the page shows what is left

    threading.Thread(target=apply, name=f"change {plan.change_id}", daemon=True).start()
    return house.pages.done(
        f"/changes/{plan.change_id}",
        "It is being applied, row by row; this page shows how far it is.",
    )


class _Wanted(dict[str, str]):
    """What a link has filled in already; nothing for the rest."""

    def __missing__(self, name: str) -> str:
        return ""


def _plannable() -> dict[str, changes.ChangeKind]:
    """The kinds that take no other change back: those are planned from the change itself."""
    known = changes.kinds()
    inverses = {kind.inverse for kind in known.values()}
    return {name: kind for name, kind in known.items() if name not in inverses}


def _columns(plan: Plan) -> list[str]:
    return list(dict.fromkeys(name for row in plan.sample for name in row if name != "key"))


def _done(database: Database, plan: Plan) -> dict[str, int]:
    if plan.status == "planned":
        return {}
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows(load("changes")["count_rows"], change_id=plan.change_id)
    return {row.outcome: row.rows for row in rows}


def _drifted(database: Database, plan: Plan) -> str:
    """Why a plan cannot be applied as it is; nothing when it can."""
    if plan.status != "planned":
        return ""
    try:
        changes.apply(database, plan.change_id, actor="console", dry_run=True)
    except RunbookError as error:
        return str(error)
    return ""
