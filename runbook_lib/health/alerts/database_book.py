"""Alerts in the database: what is decided and what is to be sent for it are one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from runbook_lib.database import Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.health.alerts.decisions import Decided, Memory, PipelineEvent, decide
from runbook_lib.health.alerts.records import (
    Delivery,
    alert_of,
    as_record,
    delivery_of,
    state_of,
    state_record,
    value_of,
)
from runbook_lib.health.alerts.rules import Alert
from runbook_lib.health.checks import Check
from runbook_lib.policy import Policy

_SQL = load("alerts")
_DELIVERIES = load("alert_deliveries")
# What happened before is no news when the first monitor comes.
OLD_EVENTS = timedelta(days=1)


def take_turn(transaction: Transaction) -> datetime:
    """Waits for those who decide just now; then it is our turn until the transaction ends."""
    now: datetime = transaction.value(_SQL["take_turn_to_observe"])
    return now


def read_memory(transaction: Transaction) -> Memory:
    states = [state_of(row._asdict()) for row in transaction.rows(_SQL["check_states"])]
    alerts = [alert_of(row._asdict()) for row in transaction.rows(_SQL["unsettled_alerts"])]
    return Memory({state.check_name: state for state in states}, tuple(alerts))


def decide_and_save(
    transaction: Transaction, memory: Memory, checks: Sequence[Check], now: datetime, policy: Policy
) -> Decided:
    """Takes up the checks and the events that nobody was told of, and writes what follows."""
    events = transaction.rows(_SQL["undelivered_events"])
    told = [
        PipelineEvent(**event._asdict()) for event in events if now - event.occurred_at < OLD_EVENTS
    ]
    paused = {row.provider for row in transaction.rows(_SQL["provider_pauses_now"])}
    decided = decide(memory, checks, now, policy, events=told, paused=paused)
    _save_states(transaction, decided, checks, now)
    save_alerts(transaction, decided.alerts)
    if events:
        transaction.run(_SQL["mark_events"], event_ids=[event.event_id for event in events])
    return decided


def _save_states(
    transaction: Transaction, decided: Decided, checks: Sequence[Check], now: datetime
) -> None:
    answers = {check.name: check for check in checks}
    records = [state_record(state, answers[state.check_name]) for state in decided.states]
    save_states(transaction, records)
    values = [
        {"check_name": check.name, "checked_at": now.isoformat(), "value": value, "verdict": check.verdict}
        for check in checks
        if (value := value_of(check)) is not None
    ]  # fmt: skip
    transaction.run(_SQL["save_check_values"], values=json.dumps(values))


def save_states(transaction: Transaction, records: Sequence[Mapping[str, Any]]) -> None:
    """Writes states of checks; one that was checked later stays as it is."""
    transaction.run(_SQL["save_check_states"], states=json.dumps(list(records)))


def save_alerts(
    transaction: Transaction, alerts: Iterable[Alert], *, filed_late: bool = False
) -> None:
    # Those that ended first: their cause may be open again in the same turn.
    records = [
        as_record(each) for each in sorted(alerts, key=lambda each: each.resolved_at is None)
    ]
    for record in records:
        transaction.run(_SQL["save_alerts"], alerts=json.dumps([record]), filed_late=filed_late)


def save_deliveries(
    transaction: Transaction, deliveries: Sequence[Delivery], *, filed_late: bool = False
) -> None:
    """Writes what is to be sent; what was to be sent of an alert that ended is left out."""
    ended = sorted({each.alert_id for each in deliveries if each.kind == "resolved" and each.alert_id})  # fmt: skip
    if ended:
        transaction.run(_DELIVERIES["supersede_deliveries"], alert_ids=ended)
    records = json.dumps([as_record(each) for each in deliveries])
    transaction.run(_DELIVERIES["add_deliveries"], deliveries=records, filed_late=filed_late)


class DatabaseOutbox:
    """The deliveries of one monitor: claimed for a lease, by the database's clock."""

    def __init__(self, database: Database, monitor: str, deadline_seconds: float = 10) -> None:
        self._database = database
        self._monitor = monitor
        self._deadline_seconds = deadline_seconds

    def claim(self, target_keys: Sequence[str], count: int, lease_seconds: float) -> list[Delivery]:
        """Takes what is due; who does not settle it within the lease lets the next one try."""
        with self._database.transaction(deadline_seconds=self._deadline_seconds) as transaction:
            rows = transaction.rows(
                _DELIVERIES["claim_deliveries"], target_keys=list(target_keys), count=count,
                monitor=self._monitor, lease_seconds=lease_seconds,
            )  # fmt: skip
        return sorted(
            (delivery_of(row._asdict()) for row in rows), key=lambda each: each.created_at
        )

    def renew(self, delivery: Delivery, lease_seconds: float) -> bool:
        """Whether it is still ours, for one more lease."""
        with self._database.transaction(deadline_seconds=self._deadline_seconds) as transaction:
            held = transaction.value(
                _DELIVERIES["renew_delivery"], delivery_id=delivery.delivery_id,
                monitor=self._monitor, lease_seconds=lease_seconds,
            )  # fmt: skip
        return held is not None

    def settle(
        self, delivery: Delivery, *, arrived: bool, seconds: float, reason: str | None,
        retry_seconds: float,
    ) -> None:  # fmt: skip
        with self._database.transaction(deadline_seconds=self._deadline_seconds) as transaction:
            transaction.run(
                _DELIVERIES["settle_delivery"], delivery_id=delivery.delivery_id,
                status="sent" if arrived else "pending", seconds=seconds, last_error=reason,
                retry_seconds=retry_seconds, monitor=self._monitor,
            )  # fmt: skip
