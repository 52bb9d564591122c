"""Triage as a page: which layer is broken, why, and what is safe."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from runbook_lib.console.house import TheContext, TheHouse
from runbook_lib.procedures.first_action import who
from runbook_lib.triage.diagnosis import VERDICTS, in_short

router = APIRouter(include_in_schema=False)


@router.get("/triage")
def show_triage(request: Request, house: TheHouse, context: TheContext) -> Response:
    """Asks everything at once, changes nothing, and says what is wrong."""
    found = house.diagnosis.read(context)
    return house.pages.show(
        request, "triage.html.j2", title="Triage", found=found, verdict=VERDICTS[found.verdict],
        scope=found.scope(), who=who, in_short=in_short,
    )  # fmt: skip
