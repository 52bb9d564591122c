"""The overview: how the pipeline is, in words, then in figures."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from runbook_lib.console import charts
from runbook_lib.console.access_log import recent_entries
from runbook_lib.console.charts import Chart, Limit, Line
from runbook_lib.console.figures import HOURS, Figures
from runbook_lib.console.house import TheContext, TheHouse
from runbook_lib.errors import RunbookError
from runbook_lib.health.context import Context
from runbook_lib.incidents import records
from runbook_lib.pipeline import brakes
from runbook_lib.policy import Policy
from runbook_lib.procedures import catalogue
from runbook_lib.procedures.automation import done_lately

router = APIRouter(include_in_schema=False)


@router.get("/")
def overview(request: Request, house: TheHouse, context: TheContext) -> Response:
    """Every check, worst first; the queue; the last two days."""
    checks, figures = house.overview.read(context)
    reachable = figures.problem is None and not context.sources.attached
    states = brakes.provider_states(context.sources.pipeline) if reachable else []
    return house.pages.show(
        request, "overview.html.j2", title="Overview", live_seconds=5, checks=checks,
        figures=figures, charts=draw(figures, context.policy),
        incidents=_open_incidents(context), pauses=[state.pause for state in states if state.pause],
        by_itself=[row for row in _done_by_itself(context, reachable) if row.outcome == "done"],
        overdue=catalogue.overdue(house.settings, datetime.now(UTC).date()),
    )  # fmt: skip


def _done_by_itself(context: Context, reachable: bool) -> list[Any]:
    return done_lately(context.sources.pipeline) if reachable else []


def _open_incidents(context: Context) -> list[dict[str, Any]]:
    try:
        return records.list_incidents(context.sources.bookkeeping, closed=False, limit=5)
    except RunbookError:
        return []  # The database is away, which the page says by itself.


@router.get("/access")
def access(request: Request, house: TheHouse, context: TheContext) -> Response:
    """The access log: who was here, and who was not let in."""
    entries = recent_entries(context.sources.bookkeeping)
    return house.pages.show(request, "access.html.j2", title="Access log", entries=entries)


def draw(figures: Figures, policy: Policy) -> list[Chart]:
    """The charts of the overview; none when there are no figures."""
    hours = figures.hours
    if not hours:
        return []
    attempts, failed = (
        figures.sum_of("attempts", HOURS),
        figures.sum_of("error", HOURS) + figures.sum_of("lost", HOURS),
    )
    silent = sum(not row["attempts"] for row in hours)
    warning = policy.thresholds.failure_rate_warning_percent
    critical = policy.thresholds.failure_rate_critical_percent
    above = sum((row["failures_percent"] or 0) > critical for row in hours)
    slowest = max((row["p50_seconds"] or 0 for row in hours), default=0)
    return [
        charts.outcomes(
            f"Attempts an hour, last {HOURS} hours", hours, _hour,
            f"{attempts} attempts, {failed} of them failed; {silent} hours without any.",
        ),
        charts.lines(
            "Failures, percent of attempts", hours, _hour, [Line("failures_percent", "failures")],
            f"Above {critical:g} % in {above} of {HOURS - silent} hours with attempts. An hour without attempts has no rate.",
            unit=" %", limits=(Limit(warning, f"warning {warning:g} %", "limit-warning"), Limit(critical, f"critical {critical:g} %")),
        ),
        charts.lines(
            "Duration of completed attempts", hours, _hour,
            [Line("p50_seconds", "half took less"), Line("p95_seconds", "95 % took less", "line line-2")],
            f"In the slowest hour half of the attempts took less than {slowest:.1f} s.", unit=" s",
        ),
    ]  # fmt: skip


def _hour(row: Mapping[str, Any]) -> str:
    at = row["hour"]
    moment = at if isinstance(at, datetime) else datetime.fromisoformat(str(at))
    return f"{moment.astimezone(UTC):%a %H:%M}"
