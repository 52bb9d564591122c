"""Alerts: what is open and who was told, and saying that somebody is at it."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from runbook_lib.console.house import Fields, TheCaller, TheContext, TheHouse
from runbook_lib.errors import RunbookError
from runbook_lib.health.alerts import acknowledge, list_alerts, show_alert, undelivered

router = APIRouter(include_in_schema=False)
DAYS = 7


@router.get("/alerts")
def show_alerts(request: Request, house: TheHouse, context: TheContext) -> Response:
    """What is open, the worst first; then what ended in the last days."""
    found = list_alerts(context, resolved=True, days=DAYS)
    return house.pages.show(
        request, "alerts.html.j2", title="Alerts", live_seconds=5, days=DAYS,
        standing=[alert for alert in found if alert["resolved_at"] is None],
        ended=[alert for alert in found if alert["resolved_at"] is not None],
        undelivered=undelivered(context), levels=context.policy.levels,
        telling=context.settings.runbook_alert_urls is not None,
    )  # fmt: skip


@router.get("/alerts/{alert_id}")
def show_one(request: Request, house: TheHouse, context: TheContext, alert_id: str) -> Response:
    """One alert with its evidence and everything that was sent of it."""
    alert = show_alert(context, alert_id)
    return house.pages.show(
        request, "alert.html.j2", title=f"Alert {alert['cause']}", live_seconds=5, alert=alert,
        evidence=alert["evidence"] or {}, levels=context.policy.levels,
    )  # fmt: skip


@router.post("/alerts/{alert_id}/acknowledge")
def acknowledge_alert(
    house: TheHouse, context: TheContext, caller: TheCaller, fields: Fields, alert_id: str
) -> Response:
    """Says that somebody is at it: its level is not raised while that holds."""
    try:
        alert = acknowledge(context, alert_id, actor=caller.actor, note=fields.get("note") or None)
    except RunbookError as error:
        return house.pages.refused("/alerts", error)
    return house.pages.done(
        "/alerts", f"{alert['cause']}: you have it. Its level is not raised while that holds."
    )
