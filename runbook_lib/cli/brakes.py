"""`runbook pause`, `resume`, `limits` and `workers`: the brakes."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from runbook_lib.cli.changes import reason_option
from runbook_lib.cli.output import (
    actor_option,
    json_option,
    print_json,
    print_table,
)
from runbook_lib.database import open_own_pipeline
from runbook_lib.errors import UsageError
from runbook_lib.pipeline import brakes
from runbook_lib.pipeline.brakes import Pause, ProviderState
from runbook_lib.pipeline.moments import length_of_time, moment
from runbook_lib.settings import current_actor, load_settings

_PROVIDERS = click.Choice(["openai", "wordpress", "all"])


@click.command("pause")
@click.argument("provider", type=_PROVIDERS)
@click.option("--reason", required=True, help="Why; whoever meets the pause reads it.")
@click.option("--until", help="Ends at this time by itself: 2026-12-31T08:00 (UTC without a zone).")
@click.option("--for", "length", help="Ends after this long by itself: 30m, 2h.")
@actor_option
@json_option
def pause(
    provider: str,
    reason: str,
    until: str | None,
    length: str | None,
    actor: str | None,
    as_json: bool,
) -> None:
    """Pauses a provider for all workers, from their next turn on. Jobs wait, uncharged."""
    if until and length:
        raise UsageError("Give --until or --for, not both.")
    now = datetime.now(UTC)
    end = moment(until, now, direction=1) if until else None
    if length:
        end = now + length_of_time(length)
    with open_own_pipeline(load_settings(), reachable_or_not=True) as database:
        paused = brakes.pause(
            database,
            brakes.providers_named(provider),
            actor=current_actor(actor),
            reason=reason,
            until=end,
        )
    if as_json:
        print_json([vars(each) for each in paused])
        return
    for each in paused:
        click.echo(
            f"{each.provider} is paused {_end(each)}. To end it: runbook resume {each.provider}"
        )


@click.command("resume")
@click.argument("provider", type=_PROVIDERS)
@reason_option
@actor_option
@json_option
def resume(provider: str, reason: str | None, actor: str | None, as_json: bool) -> None:
    """Ends a pause, also one that a worker began."""
    with open_own_pipeline(load_settings(), reachable_or_not=True) as database:
        ended = brakes.resume(
            database, brakes.providers_named(provider), actor=current_actor(actor), reason=reason
        )
    if as_json:
        print_json([vars(each) for each in ended])
        return
    for each in ended:
        click.echo(f"{each.provider} is resumed; it was paused for: {each.reason}")
    if not ended:
        click.echo("Nothing was paused.")


@click.group("limits")
def limits() -> None:
    """Limits that hold for all workers together: requests, concurrency, tokens and cost a day."""


@limits.command("show")
@json_option
def show_limits(as_json: bool) -> None:
    """Limits, what was used of them today (UTC), and pauses."""
    with open_own_pipeline(load_settings()) as database:
        states = brakes.provider_states(database)
    _show_states(states, as_json)


@limits.command("set")
@click.argument("provider", type=click.Choice(["openai", "wordpress"]))
@click.option("--requests-per-minute", help="Requests a minute, or none.")
@click.option(
    "--burst-requests",
    help="Requests that may come at once (default: a tenth of a minute's), or none.",
)
@click.option("--concurrency", help="Jobs at the provider at the same time, or none.")
@click.option("--daily-tokens", help="Tokens a day (UTC), or none.")
@click.option("--daily-cost-usd", help="US dollars a day (UTC), or none.")
@click.option("--none", "without", is_flag=True, help="Takes every limit of the provider away.")
@click.option(
    "--anyway",
    is_flag=True,
    help="Also raises one while that makes things worse: rate limits, a slow provider, no connection left.",
)
@reason_option
@actor_option
@json_option
def set_limits(
    provider: str,
    without: bool,
    anyway: bool,
    reason: str | None,
    actor: str | None,
    as_json: bool,
    **given: str | None,
) -> None:
    """Sets the limits that are given and leaves the others."""
    chosen = {name: _limit(name, text) for name, text in given.items() if text is not None}
    if without and chosen:
        raise UsageError("--none takes every limit away; give it alone.")
    if without:
        spending = provider == "openai"
        chosen = {name: None for name in brakes.LIMITS if spending or not name.startswith("daily_")}
    with open_own_pipeline(load_settings()) as database:
        state = brakes.set_limits(
            database, provider, chosen, actor=current_actor(actor), reason=reason, anyway=anyway
        )
    _show_states([state], as_json)


@click.group("workers", invoke_without_command=True)
@json_option
@click.pass_context
def workers(context: click.Context, as_json: bool) -> None:
    """Workers, with the age of their last sign of life; `workers drain NAME` asks one to end."""
    if context.invoked_subcommand is not None:
        return
    with open_own_pipeline(load_settings()) as database:
        found = brakes.list_workers(database)
    if as_json:
        print_json(found)
        return
    print_table(
        [
            (
                worker["worker"],
                worker["state"],
                _seconds(worker["heartbeat_age_seconds"]),
                _seconds(worker["progress_age_seconds"]),
                f"{worker['in_flight']} of {worker['concurrency']}",
                worker["finished_count"],
                worker["failed_count"],
                worker["started_at"],
            )
            for worker in found
        ],
        ["worker", "state", "heartbeat", "progress", "in flight", "finished", "failed", "started"],
    )


@workers.command("drain")
@click.argument("name")
@reason_option
@actor_option
@json_option
def drain(name: str, reason: str | None, actor: str | None, as_json: bool) -> None:
    """Asks a worker to finish what it has, to take nothing more and to end."""
    with open_own_pipeline(load_settings()) as database:
        drained = brakes.drain_worker(database, name, actor=current_actor(actor), reason=reason)
    if as_json:
        print_json(drained)
        return
    click.echo(f"{drained['worker']} finishes its {drained['in_flight']} jobs and ends then.")


def _show_states(states: list[ProviderState], as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {**vars(state), "pause": None if state.pause is None else vars(state.pause)}
                for state in states
            ]
        )
        return
    print_table(
        [
            (
                state.provider,
                state.requests_per_minute,
                state.burst_requests,
                _of(state.in_flight, state.concurrency),
                state.requests_today,
                _of(state.tokens_today, state.daily_tokens),
                _of(f"{state.cost_usd_today:.4f}", state.daily_cost_usd),
                "-" if state.pause is None else f"{_end(state.pause)}: {state.pause.reason}",
            )
            for state in states
        ],
        [
            "provider",
            "requests/min",
            "burst",
            "jobs in flight",
            "requests today",
            "tokens today",
            "USD today",
            "paused",
        ],
    )


def _limit(name: str, text: str) -> int | Decimal | None:
    if text.strip().lower() == "none":
        return None
    try:
        number = Decimal(text.strip())
        if not number.is_finite() or abs(number) >= 2**31:
            raise InvalidOperation
        if name == "daily_cost_usd":
            return number
        if number == int(number):
            return int(number)
    except InvalidOperation:
        pass
    raise UsageError(f"--{name.replace('_', '-')} takes a number or none; it got {text!r}.")


def _of(used: Any, limit: Any) -> str:
    return f"{used}" if limit is None else f"{used} of {limit}"


def _end(pause: Pause) -> str:
    if pause.until is None:
        return "until it is resumed"
    return f"until {pause.until.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} s"
