"""Whether a limit may be raised now: more at once makes a provider that refuses, or is slow, worse.

The written runbook advises to "consider increasing concurrent job limits" when jobs are slow. With a rate
limit, a slow model or no connection left, that is what turns slowness into an outage.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runbook_lib.database.connection import Transaction
from runbook_lib.database.statements import load

_SQL = load("raising_limits")
AT_ONCE = ("concurrency", "requests_per_minute", "burst_requests")
LOOK_BACK_MINUTES = 10
FEWEST_FAILURES = 3
# So much slower than the day before, by so many attempts on either side, is slow.
SLOWER_FACTOR, FEWEST_TIMED, FEWEST_SECONDS = 2.0, 5, 1.0
FULL_SHARE = 0.9
_CLASSES = {
    "openai": {
        "openai_rate_limited": "OpenAI refuses requests for their rate",
        "openai_overloaded": "OpenAI answers with server errors",
        "openai_timeout": "OpenAI answers too late",
    },
    "wordpress": {
        "wordpress_rate_limited": "the site asks for fewer requests",
        "wordpress_unavailable": "the site answers with server errors",
        "wordpress_timeout": "the site answers too late",
        "wordpress_outcome_unknown": "the site answers too late to tell whether a post was made",
    },
}


def raised(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The limits on what happens at once that would be higher than they are, or taken away."""
    return [
        name
        for name in AT_ONCE
        if before[name] is not None and (wanted[name] is None or wanted[name] > before[name])
    ]


def against_raising(transaction: Transaction, provider: str) -> list[str]:
    """What stands against giving this provider more at once, each in words with its figure."""
    return [
        *_refusals(transaction, provider),
        *_slowness(transaction, provider),
        *_connections(transaction),
    ]


def _refusals(transaction: Transaction, provider: str) -> Iterator[str]:
    classes = _CLASSES[provider]
    for row in transaction.rows(
        _SQL["failed_lately"], minutes=LOOK_BACK_MINUTES, classes=list(classes)
    ):
        if row.attempts >= FEWEST_FAILURES:
            yield f"{classes[row.error_class]} ({row.attempts} attempts in {LOOK_BACK_MINUTES} minutes)"


def _slowness(transaction: Transaction, provider: str) -> Iterator[str]:
    row = transaction.row(_SQL["seconds_at_provider"], minutes=LOOK_BACK_MINUTES, provider=provider)
    if row is None or min(row.attempts, row.attempts_before) < FEWEST_TIMED:
        return
    if row.seconds > max(SLOWER_FACTOR * row.seconds_before, row.seconds_before + FEWEST_SECONDS):
        yield f"{provider} takes {row.seconds:.1f} s where it took {row.seconds_before:.1f} s the day before"


def _connections(transaction: Transaction) -> Iterator[str]:
    row = transaction.row(_SQL["connections"])
    assert row is not None
    for what, open_now, most in (
        ("the server", row.of_server, row.server_takes),
        ("this role", row.of_role, row.role_takes),
        ("this database", row.of_database, row.database_takes),
    ):
        if most is not None and open_now >= FULL_SHARE * most:
            yield f"{open_now} of the {most} connections that {what} takes are open"
