"""The figures in Prometheus' text format, for whoever scrapes them with the read token."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import PlainTextResponse

from runbook_lib.console.house import TheHouse
from runbook_lib.health.exposition import CONTENT_TYPE, prometheus_text

router = APIRouter()


@router.get("/metrics", response_class=PlainTextResponse, tags=["metrics"])
def metrics(house: TheHouse) -> PlainTextResponse:
    """Attempts, durations, failures, the queue and costs, as gauges."""
    return PlainTextResponse(
        prometheus_text(house.workplace.context()), headers={"Content-Type": CONTENT_TYPE}
    )
