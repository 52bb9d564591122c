"""OpenAI and WordPress: reached, logged in, allowed; quota, usage and costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import psycopg2

from runbook_lib.credentials.store import Credentials
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone, RunbookError
from runbook_lib.health.checks import Check
from runbook_lib.health.openai_account import DAYS, Day, costs_by_day, usage_by_day
from runbook_lib.health.probes.openai import probe_openai
from runbook_lib.health.probes.wordpress import probe_wordpress
from runbook_lib.health.registry import DeclaredCheck, View, graded, with_procedure
from runbook_lib.pipeline.providers import (
    OpenAIProvider,
    WordPressProvider,
    openai_of,
    wordpress_of,
)

if TYPE_CHECKING:
    from runbook_lib.sandbox import Sandbox

_SQL = load("provider_checks")
_QUEUE = load("queue_checks")
OPENAI_ERRORS = "troubleshooting/openai_errors"
WORDPRESS_ERRORS = "troubleshooting/wordpress_errors"
# Time to say what was found, before the survey gives a probe up.
_MARGIN_SECONDS = 0.5
# Others' use of the account is worth a word when it is more than twice ours and not a trifle.
FOREIGN_FACTOR, FOREIGN_TOKENS = 2.0, 10_000


@contextmanager
def _openai(view: View) -> Iterator[OpenAIProvider | None]:
    """OpenAI; None where the sandbox stands in for it and does not run."""
    with _sandbox(view, "openai") as (asleep, sandbox):
        yield None if asleep else openai_of(view.settings, Credentials(view.settings), sandbox)


@contextmanager
def _wordpress(view: View) -> Iterator[WordPressProvider | None]:
    """WordPress; None where the sandbox stands in for it and does not run."""
    with _sandbox(view, "wordpress") as (asleep, sandbox):
        yield None if asleep else wordpress_of(view.settings, Credentials(view.settings), sandbox)


@contextmanager
def _sandbox(view: View, provider: str) -> Iterator[tuple[bool, Sandbox | None]]:
    """Whether the sandbox should stand in and does not run (a look starts nothing); else the sandbox."""
    from runbook_lib import sandbox

    home = view.settings.runbook_home
    if provider not in view.settings.sandboxed():
        yield False, None
    elif not sandbox.runs(home):
        yield True, None
    else:
        with sandbox.acquire(home) as running:
            yield False, running


def _patience_seconds(view: View) -> float:
    return max(0.5, view.deadline.remaining_seconds() - _MARGIN_SECONDS)


def _asleep(part: str) -> Check:
    return Check(
        f"{part}.sandbox",
        "ok",
        "The sandbox stands in for it and is not running now; it starts by itself.",
        source="settings",
        does_not_prove="anything about the real one",
    )


def openai(view: View) -> Iterator[Check]:
    """Everything about OpenAI that costs no token."""
    with _openai(view) as provider:
        if provider is None:
            yield _asleep("openai")
            return
        for check in probe_openai(
            provider.base_url,
            provider.api_key,
            provider.model,
            patience_seconds=_patience_seconds(view),
            slow_seconds=view.policy.thresholds.provider_response_warning_seconds,
        ):
            yield with_procedure(check, OPENAI_ERRORS)


def wordpress(view: View) -> Iterator[Check]:
    """Everything about WordPress that writes nothing."""
    settings = view.settings
    with _wordpress(view) as provider:
        if provider is None:
            yield _asleep("wordpress")
            return
        for check in probe_wordpress(
            provider.url,
            provider.user,
            provider.app_password,
            post_status=settings.runbook_post_status,
            fallback_category=settings.runbook_fallback_category,
            patience_seconds=_patience_seconds(view),
            slow_seconds=view.policy.thresholds.provider_response_warning_seconds,
            missed_categories=lambda: _missed_categories(view),
        ):
            yield with_procedure(check, WORDPRESS_ERRORS)


def _missed_categories(view: View) -> list[str]:
    """What jobs ended for lack of within a day; nothing where the database does not say so."""
    try:
        return [row.category for row in view.rows(_SQL["missed_categories"])]
    except (RunbookError, psycopg2.Error):
        return []


def quota_seen(view: View) -> Check:
    """What recent attempts met: only a paid request shows whether there is credit."""
    name, statement = "openai.quota_seen", _SQL["refusals"]
    row = view.row(statement)
    if not row.attempts:
        words = "No attempt ended within a day, so nothing tells whether there is credit."
        return Check(name, "not_enough_data", words, source=statement.source)
    still = row.quota and (row.last_written is None or row.last_quota > row.last_written)
    words = f"Within a day OpenAI refused {row.quota} attempts for want of credit and {row.rate} for too many requests."
    if row.quota and not still:
        words += " It has written since."
    return Check(
        name,
        "critical" if still else "warning" if row.quota else "ok",
        words,
        row.quota,
        "attempts",
        0,
        statement.source,
        "that there is credit for the next attempt",
        "Add credit or raise the limit in the billing settings, then `runbook resume openai`."
        if still
        else None,
        procedure=OPENAI_ERRORS if row.quota else None,
        details={"rate_limited": row.rate, "attempts": row.attempts},
    )


def account(view: View) -> Iterator[Check]:
    """Usage and costs as OpenAI tells them, beside our own."""
    with _openai(view) as provider:
        if provider is None:
            return  # openai.api says so
        if provider.admin_key is None:
            for name in ("openai.usage", "openai.costs"):
                yield _without_admin_key(name)
            return
        today = datetime.now(UTC).date()
        since = int(
            datetime.combine(today - timedelta(DAYS - 1), datetime.min.time(), UTC).timestamp()
        )
        deadline = view.deadline.within(_patience_seconds(view))
        try:
            used = usage_by_day(provider.base_url, provider.admin_key, since, deadline)
            costs = costs_by_day(provider.base_url, provider.admin_key, since, deadline)
        except CouldNotBeDone as error:
            yield Check(
                "openai.usage", "not_enough_data", str(error), source="GET organization/usage/completions",
                next="Check OPENAI_ADMIN_KEY: an ordinary key may not ask this.",
            )  # fmt: skip
            return
    yield _usage(view, used, today)
    yield _costs(costs)


def _without_admin_key(name: str) -> Check:
    return Check(
        name,
        "not_enough_data",
        "OPENAI_ADMIN_KEY is not set, so OpenAI is not asked; cost.daily_cap tells what our own attempts cost.",
        source="settings",
        next="An admin key (platform settings → Admin keys) may ask it. Keep it away from the worker.",
    )


def _usage(view: View, days: list[Day], today: date) -> Check:
    name, source = "openai.usage", "GET organization/usage/completions"
    theirs = sum(day.tokens for day in days)
    if view.context.sources.attached:
        words = f"OpenAI counts {theirs} tokens in {DAYS} days."
        return Check(name, "ok", words, theirs, "tokens", source=source)
    rows = view.own_rows(
        _SQL["used_by_day"], provider="openai", first_day=today - timedelta(DAYS - 1)
    )
    ours = int(sum(row.tokens for row in rows))
    foreign = theirs > FOREIGN_FACTOR * ours and theirs - ours > FOREIGN_TOKENS
    return Check(
        name,
        "warning" if foreign else "ok",
        f"OpenAI counts {theirs} tokens in {DAYS} days, our own attempts {ours}.",
        theirs,
        "tokens",
        round(FOREIGN_FACTOR * ours) if foreign else None,
        source,
        "that the key leaked: other programs of the organization are counted too" if foreign else "that today's are all in: OpenAI's figures come late",
        "Find out who else uses the account: group usage by key in the platform's settings. If nobody should, rotate the key."
        if foreign
        else None,
        procedure="emergency/key_compromise" if foreign else None,
        details={"days": [{"start_time": day.start_time, "requests": day.requests, "tokens": day.tokens} for day in days]},
    )  # fmt: skip


def _costs(days: list[Day]) -> Check:
    total = sum(day.cost_usd for day in days)
    return Check(
        "openai.costs",
        "ok",
        f"OpenAI counts {total:.2f} US dollars in {DAYS} days.",
        round(total, 4),
        "usd",
        source="GET organization/costs",
        does_not_prove="that today's are all in: OpenAI's figures come late",
        details={
            "days": [{"start_time": day.start_time, "cost_usd": day.cost_usd} for day in days]
        },
    )


def daily_cap(view: View) -> Iterator[Check]:
    """What was spent today against the cap, in dollars and in tokens."""
    statement = _QUEUE["spent_today"]
    for row in view.own_rows(statement):
        if row.provider != "openai":
            continue
        limit = view.policy.thresholds.daily_cost_warning_percent
        yield _cap(
            "cost.daily_cap", "usd", row.cost_usd, row.daily_cost_usd, limit, statement.source
        )
        yield _cap(
            "cost.daily_tokens", "tokens", row.tokens, row.daily_tokens, limit, statement.source
        )


def _cap(
    name: str, unit: str, used: Decimal | int, cap: Decimal | int | None, warning: float, source: str
) -> Check:  # fmt: skip
    shown = f"{used:.2f} US dollars" if unit == "usd" else f"{used} tokens"
    option = "--daily-cost-usd" if unit == "usd" else "--daily-tokens"
    if cap is None:
        words = f"{shown} were used today (UTC); no cap is set."
        return Check(
            name, "ok", words, float(used), unit, source=source,
            does_not_prove="that spending ends anywhere: set a cap with `runbook limits set openai " + option + "`",
        )  # fmt: skip
    percent = 100.0 * float(used) / float(cap) if cap else 100.0
    verdict = graded(percent, warning, 100.0)
    return Check(
        name,
        verdict,
        f"{shown} were used today (UTC), {percent:.0f} % of the cap of {cap}.",
        float(used),
        unit,
        float(cap) * warning / 100,
        source,
        "what jobs in flight will cost",
        f"At the cap OpenAI is paused until midnight UTC. Raise it if that is right: `runbook limits set openai {option} …`."
        if verdict != "ok"
        else None,
        procedure=OPENAI_ERRORS if verdict != "ok" else None,
    )


CHECKS: tuple[DeclaredCheck, ...] = (
    DeclaredCheck(
        "openai.api",
        "OpenAI is reached, takes the key and has the model; no token is used.",
        openai,
        also=("openai.name", "openai.proxy", "openai.connection", "openai.certificate", "openai.response_time",
              "openai.key", "openai.model", "openai.quota", "openai.rate", "openai.sandbox"),
        when_hung="critical",
    ),
    DeclaredCheck("openai.quota_seen", "Recent attempts met no want of credit.", quota_seen,
                  needs=("runs.execution_time", "runs.error_class")),
    DeclaredCheck("openai.usage", "Nobody else uses the account.", account, also=("openai.costs",)),
    DeclaredCheck(
        "wordpress.api",
        "WordPress is reached, takes the login, lets it publish and has the categories; nothing is written.",
        wordpress,
        also=("wordpress.name", "wordpress.proxy", "wordpress.connection", "wordpress.certificate",
              "wordpress.rest_api", "wordpress.front_page", "wordpress.response_time", "wordpress.application_passwords", "wordpress.login",
              "wordpress.permission", "wordpress.categories", "wordpress.application_password",
              "wordpress.missed_categories", "wordpress.sandbox"),
        when_hung="critical",
    ),
    DeclaredCheck("cost.daily_cap", "Today's cost is below the cap.", daily_cap, also=("cost.daily_tokens",), own=True),
)  # fmt: skip
