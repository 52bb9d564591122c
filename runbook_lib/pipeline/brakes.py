"""The brakes: pauses, limits and draining, as rows that every worker reads each turn.

Every change leaves a row in `admin_actions` and an event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from runbook_lib.changes import admin_action
from runbook_lib.credentials.masking import mask
from runbook_lib.database.connection import Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import NotFoundError, PlanRefused, UsageError
from runbook_lib.pipeline.failures import FAILURE_CLASSES, Fault
from runbook_lib.pipeline.permits import Event, add_event
from runbook_lib.pipeline.raising_limits import against_raising, raised
from runbook_lib.settings import PROVIDERS

_SQL = load("brakes")
LIMITS = ("requests_per_minute", "burst_requests", "concurrency", "daily_tokens", "daily_cost_usd")


@dataclass(frozen=True)
class Pause:
    """A provider's pause. `until` None: until somebody resumes it."""

    provider: str
    paused_at: datetime
    until: datetime | None
    reason: str
    error_class: str | None
    paused_by: str
    automatic: bool


@dataclass(frozen=True)
class ProviderState:
    """A provider's limits (None: no limit), what was used of them today (UTC), and its pause."""

    provider: str
    requests_per_minute: int | None
    burst_requests: int | None
    concurrency: int | None
    daily_tokens: int | None
    daily_cost_usd: Decimal | None
    in_flight: int
    requests_today: int
    tokens_today: int
    cost_usd_today: Decimal
    pause: Pause | None


def providers_named(name: str) -> tuple[str, ...]:
    """`openai`, `wordpress` or `all` as provider names. Raises `UsageError`."""
    if name == "all":
        return PROVIDERS
    if name not in PROVIDERS:
        raise UsageError(f"There is no provider {name!r}; there is {', '.join(PROVIDERS)} and all.")
    return (name,)


def pause(
    database: Database,
    providers: Sequence[str],
    *,
    actor: str,
    reason: str,
    until: datetime | None = None,
) -> list[Pause]:
    """Pauses providers for all workers, from their next turn on; replaces an automatic pause.

    Jobs that wait for the provider stay pending, uncharged. Raises `UsageError` for an end that is
    over, or without a reason.
    """
    if not reason.strip():
        raise UsageError("Say why: --reason. Whoever meets the pause will want to know.")
    shown = mask(reason.strip())
    with (
        admin_action(
            database, actor=actor, action="pause", target=", ".join(providers), reason=reason
        ) as action,
        database.transaction() as transaction,
    ):
        if until is not None and transaction.value(_SQL["is_over"], moment=until):
            raise UsageError(f"{until:%Y-%m-%d %H:%M:%S} UTC is over already.")
        before = _pauses(transaction)
        for provider in providers:
            put_pause(transaction, provider, actor=actor, reason=shown, until=until)
        after = _pauses(transaction)
        action.done(transaction, before=_plain(before), after=_plain(after))
    return [after[provider] for provider in providers]


def resume(
    database: Database, providers: Sequence[str], *, actor: str, reason: str | None = None
) -> list[Pause]:
    """Ends the pauses of providers, automatic ones too; returns those that it ended."""
    with (
        admin_action(
            database, actor=actor, action="resume", target=", ".join(providers), reason=reason
        ) as action,
        database.transaction() as transaction,
    ):
        before = _pauses(transaction)
        ended = [before[provider] for provider in providers if provider in before]
        for each in ended:
            end_pause(transaction, each.provider, actor=actor, reason=each.reason)
        action.done(transaction, before=_plain(before), after=_plain(_pauses(transaction)))
    return ended


def put_pause(
    transaction: Transaction,
    provider: str,
    *,
    actor: str,
    reason: str,
    until: datetime | None = None,
    trial_minutes: float | None = None,
) -> None:
    """Pauses one provider and tells of it; the caller records the action. `reason` is masked already.

    With `trial_minutes` it ends as a worker's own pause does: after that time one job tries the provider,
    and the others follow when it succeeds.
    """
    transaction.run(
        _SQL["pause"], provider=provider, until=until, reason=reason, actor=actor,
        trial_minutes=trial_minutes,
    )  # fmt: skip
    end = "until it is resumed" if until is None else f"until {until:%Y-%m-%d %H:%M} UTC"
    if trial_minutes is not None:
        end = f"until a job succeeds that tries it in {trial_minutes:g} minutes"
    message = f"{actor} paused {provider} {end}: {reason}"
    add_event(transaction, actor, Event("provider_paused", message, "warning", provider))


def end_pause(transaction: Transaction, provider: str, *, actor: str, reason: str) -> None:
    """Ends one provider's pause and tells of it; `reason` is what it was paused for.

    Jobs that the provider's own fault had put off, be it for as long as it asked, become due: somebody says
    that it works again.
    """
    transaction.run(_SQL["resume"], provider=provider)
    classes = [
        each.name for each in FAILURE_CLASSES.values()
        if each.name.startswith(f"{provider}_") and each.fault in (Fault.PROVIDER, Fault.RATE)
    ]  # fmt: skip
    count = transaction.run(_SQL["jobs_put_off"], error_classes=classes)
    message = f"{actor} resumed {provider}; it was paused for: {reason}. {count} jobs that it had put off are due."
    add_event(transaction, actor, Event("provider_resumed", message, "info", provider))


def put_limits(
    transaction: Transaction, provider: str, limits: Mapping[str, Any], *, actor: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sets the limits that are given and tells of it; all limits before and after."""
    before = transaction.row(_SQL["lock_limits_row"], provider=provider)._asdict()  # type: ignore[union-attr]
    wanted = {**before, **limits}
    transaction.run(_SQL["set_limits"], provider=provider, actor=actor, **wanted)
    changed = {name: value for name, value in wanted.items() if value != before[name]}
    words = ", ".join(f"{name} {_or_none(value)}" for name, value in changed.items())
    message = f"{actor} set limits of {provider}: {words or 'as they were'}"
    add_event(transaction, actor, Event("limits_changed", message, "info", provider))
    return before, wanted


def provider_states(database: Database) -> list[ProviderState]:
    """Each provider's limits, today's usage and pause."""
    with database.transaction(read_only=True) as transaction:
        pauses = _pauses(transaction)
        rows = transaction.rows(_SQL["provider_states"])
    return [ProviderState(**row._asdict(), pause=pauses.get(row.provider)) for row in rows]


def set_limits(
    database: Database,
    provider: str,
    limits: Mapping[str, int | Decimal | None],
    *,
    actor: str,
    reason: str | None = None,
    anyway: bool = False,
) -> ProviderState:
    """Sets the limits that are given and leaves the others; None takes a limit away.

    A pause because of a daily cap that no longer holds ends with it. Raises `UsageError` for a limit
    that does not exist or fit, and `PlanRefused` for one that is raised while that would make things worse,
    unless it is said to be meant `anyway`.
    """
    _check_limits(provider, limits)
    with (
        admin_action(
            database, actor=actor, action="limits.set", target=provider, reason=reason
        ) as action,
        database.transaction() as transaction,
    ):
        before, wanted = put_limits(transaction, provider, limits, actor=actor)
        if not anyway:
            _refuse_harmful_raise(transaction, provider, raised(before, wanted))
        transaction.run(_SQL["end_cap_pause"], provider=provider)
        action.done(transaction, before=before, after=wanted)
    return next(state for state in provider_states(database) if state.provider == provider)


def list_workers(database: Database, *, row_count: int = 100) -> list[dict[str, Any]]:
    """Workers, those with the newest sign of life first; ages in seconds."""
    with database.transaction(read_only=True) as transaction:
        return [
            row._asdict() for row in transaction.rows(_SQL["list_workers"], row_count=row_count)
        ]


def drain_worker(
    database: Database, name: str, *, actor: str, reason: str | None = None
) -> dict[str, Any]:
    """Asks a worker to finish what it has, to take nothing more and to end.

    Takes the beginning of a name if it is unique among running workers. Raises `NotFoundError`.
    """
    with (
        admin_action(
            database, actor=actor, action="workers.drain", target=name, reason=reason
        ) as action,
        database.transaction() as transaction,
    ):
        found = transaction.rows(_SQL["running_workers"], name=name)
        exact = [row for row in found if row.worker == name] or found
        if len(exact) != 1:
            running = ", ".join(row.worker for row in found) or "none"
            raise NotFoundError(
                f"There is no one running worker {name!r} (fitting: {running}). See `runbook workers`."
            )
        worker = exact[0].worker
        drained = put_drain(transaction, worker, actor=actor)
        action.done(transaction, before={"worker": worker}, after=drained)
    return drained


def put_drain(transaction: Transaction, worker: str, *, actor: str) -> dict[str, Any]:
    """Asks one worker to drain and tells of it; the caller records the action."""
    drained: dict[str, Any] = transaction.row(
        _SQL["drain_worker"], worker=worker, actor=actor
    )._asdict()  # type: ignore[union-attr]
    message = f"{actor} asked worker {worker} to drain"
    add_event(transaction, worker, Event("worker_drain_requested", message))
    return drained


def end_drain(transaction: Transaction, worker: str, *, actor: str) -> None:
    """Takes back that one worker was asked to drain, and tells of it."""
    transaction.run(_SQL["keep_worker"], worker=worker)
    message = f"{actor} took back that worker {worker} was asked to drain"
    add_event(transaction, worker, Event("worker_drain_withdrawn", message))


def require_provider(name: str) -> str:
    """The name, if it is a provider's. Raises `UsageError`."""
    if name not in PROVIDERS:
        raise UsageError(f"There is no provider {name!r}; there is {', '.join(PROVIDERS)}.")
    return name


def _refuse_harmful_raise(transaction: Transaction, provider: str, names: Sequence[str]) -> None:
    if not names or not (reasons := against_raising(transaction, provider)):
        return
    raise PlanRefused(
        f"{' and '.join(names)} of {provider} {'was' if len(names) == 1 else 'were'} not raised: {'; '.join(reasons)}. "
        "More at once makes that worse. Lower it instead, or repair that first (`runbook triage` says what it is); "
        "if you know better, say so with --anyway."
    )


def _check_limits(provider: str, limits: Mapping[str, Any]) -> None:
    require_provider(provider)
    if not limits:
        raise UsageError(f"Say which limit: {', '.join(LIMITS)}.")
    for name, value in limits.items():
        if name not in LIMITS:
            raise UsageError(f"There is no limit {name!r}; there is {', '.join(LIMITS)}.")
        least = 0 if name.startswith("daily_") else 1
        if value is not None and value < least:
            raise UsageError(f"{name} must be at least {least}; to stop, use `runbook pause`.")
    if provider == "wordpress" and (
        spent := [name for name in limits if name.startswith("daily_")]
    ):
        raise UsageError(f"WordPress costs nothing: {', '.join(spent)} is a limit of openai.")


def _pauses(transaction: Transaction) -> dict[str, Pause]:
    return {row.provider: Pause(**row._asdict()) for row in transaction.rows(_SQL["read_pauses"])}


def _plain(pauses: Mapping[str, Pause]) -> dict[str, Any]:
    return {provider: vars(each) for provider, each in pauses.items()}


def _or_none(value: Any) -> str:
    return "none" if value is None else str(value)
