"""Pauses, limits and workers: the brakes, as forms."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from runbook_lib.console.house import Fields, TheCaller, TheContext, TheHouse
from runbook_lib.errors import RunbookError, UsageError
from runbook_lib.pipeline import brakes
from runbook_lib.pipeline.moments import length_of_time
from runbook_lib.procedures.automation import done_lately

router = APIRouter(include_in_schema=False)
LENGTHS = (
    ("", "until somebody resumes it"),
    ("15m", "for 15 minutes"),
    ("1h", "for an hour"),
    ("4h", "for 4 hours"),
    ("24h", "for a day"),
)
# Limit, label, unit, and the provider that alone has it.
LIMITS = (
    ("requests_per_minute", "Requests", "a minute", None),
    ("burst_requests", "At once", "requests", None),
    ("concurrency", "Jobs", "at the same time", None),
    ("daily_tokens", "Tokens", "a day (UTC)", "openai"),
    ("daily_cost_usd", "Cost", "US dollars a day (UTC)", "openai"),
)


@router.get("/brakes")
def show_brakes(request: Request, house: TheHouse, context: TheContext) -> Response:
    """Both providers with their pause, limits and today's use, and the workers."""
    return house.pages.show(
        request, "brakes.html.j2", title="Pauses and limits", live_seconds=5,
        states=brakes.provider_states(context.sources.pipeline),
        workers=brakes.list_workers(context.sources.pipeline, row_count=50),
        lengths=LENGTHS, limits=LIMITS, by_itself=done_lately(context.sources.pipeline),
        automated=context.policy.automation,
    )  # fmt: skip


@router.post("/brakes/pause")
def pause(house: TheHouse, context: TheContext, caller: TheCaller, fields: Fields) -> Response:
    try:
        length = fields.get("for", "")
        paused = brakes.pause(
            context.sources.pipeline,
            brakes.providers_named(fields.get("provider", "")),
            actor=caller.actor,
            reason=fields.get("reason", ""),
            until=datetime.now(UTC) + length_of_time(length) if length else None,
        )
    except RunbookError as error:
        return house.pages.refused("/brakes", error)
    names = " and ".join(each.provider for each in paused)
    return house.pages.done(
        "/brakes", f"{names}: paused for all workers from their next turn on. Jobs wait, uncharged."
    )


@router.post("/brakes/resume")
def resume(house: TheHouse, context: TheContext, caller: TheCaller, fields: Fields) -> Response:
    try:
        providers = brakes.providers_named(fields.get("provider", ""))
        ended = brakes.resume(
            context.sources.pipeline, providers, actor=caller.actor,
            reason=fields.get("reason") or None,
        )  # fmt: skip
    except RunbookError as error:
        return house.pages.refused("/brakes", error)
    names = " and ".join(each.provider for each in ended)
    return house.pages.done(
        "/brakes", f"{names}: resumed." if ended else "Nothing was paused any more."
    )


@router.post("/brakes/limits")
def set_limits(house: TheHouse, context: TheContext, caller: TheCaller, fields: Fields) -> Response:
    """Sets every limit of the form; an empty field takes its limit away."""
    provider = fields.get("provider", "")
    try:
        given = {name: _limit(name, fields[name]) for name, *_ in LIMITS if name in fields}
        brakes.set_limits(
            context.sources.pipeline, provider, given, actor=caller.actor,
            reason=fields.get("reason") or None, anyway=bool(fields.get("anyway")),
        )  # fmt: skip
    except RunbookError as error:
        return house.pages.refused("/brakes", error)
    return house.pages.done(
        "/brakes", f"{provider}: limits set. Workers keep them from their next turn on."
    )


@router.post("/brakes/drain")
def drain(house: TheHouse, context: TheContext, caller: TheCaller, fields: Fields) -> Response:
    try:
        drained = brakes.drain_worker(
            context.sources.pipeline, fields.get("worker", ""), actor=caller.actor,
            reason=fields.get("reason") or None,
        )  # fmt: skip
    except RunbookError as error:
        return house.pages.refused("/brakes", error)
    text = f"{drained['worker']} finishes its {drained['in_flight']} jobs and ends then."
    return house.pages.done("/brakes", text)


def _limit(name: str, text: str) -> int | Decimal | None:
    """A limit as it was typed; None for an empty field. Raises `UsageError`."""
    if not text:
        return None
    try:
        number = Decimal(text)
        if not number.is_finite() or abs(number) >= 2**31:
            raise InvalidOperation
        if name == "daily_cost_usd":
            return number
        if number == int(number):
            return int(number)
    except InvalidOperation:
        pass
    raise UsageError(
        f"{name.replace('_', ' ')} takes a whole number, or nothing for no limit; it got {text[:40]!r}."
    )
