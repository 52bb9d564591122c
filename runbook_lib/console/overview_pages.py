"""The overview: how the pipeline is, in words."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from runbook_lib.console.access_log import recent_entries
from runbook_lib.console.house import TheContext, TheHouse

router = APIRouter(include_in_schema=False)


@router.get("/")
def overview(request: Request, house: TheHouse, context: TheContext) -> Response:
    return house.pages.show(request, "overview.html.j2", title="Overview")


@router.get("/access")
def access(request: Request, house: TheHouse, context: TheContext) -> Response:
    """The access log: who was here, and who was not let in."""
    entries = recent_entries(context.sources.bookkeeping)
    return house.pages.show(request, "access.html.j2", title="Access log", entries=entries)
