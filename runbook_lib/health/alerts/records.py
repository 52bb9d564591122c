"""Alerts, states and deliveries as plain records: for the database's JSON and for the spool's file."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cache
from typing import Any, Literal, get_type_hints

from runbook_lib.health.alerts.rules import Alert, CheckState
from runbook_lib.health.checks import Check

DeliveryStatus = Literal["pending", "sent", "failed", "superseded"]


@dataclass(frozen=True)
class Delivery:
    """One message to one address. `target` names the address without its secrets."""

    kind: str
    severity: str
    target_key: str
    target: str
    title: str
    body: str
    created_at: datetime
    next_attempt_at: datetime
    alert_id: str | None = None
    delivery_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: DeliveryStatus = "pending"
    attempts: int = 0
    sent_at: datetime | None = None
    seconds: float | None = None
    last_error: str | None = None


def as_record(item: Alert | CheckState | Delivery) -> dict[str, Any]:
    """A dictionary that JSON takes: moments as ISO 8601."""
    return {each.name: _plain(getattr(item, each.name)) for each in fields(item)}


def state_record(state: CheckState, check: Check) -> dict[str, Any]:
    """A check's state together with the answer itself."""
    answer = check.masked()
    shown = ("source", "does_not_prove", "next", "procedure", "parameters", "details")
    return {
        **as_record(state), "message": answer["message"], "value": _plain(answer["value"]),
        "unit": check.unit, "threshold": _plain(answer["threshold"]),
        "details": {name: _plain(answer[name]) for name in shown if answer.get(name)},
    }  # fmt: skip


def value_of(check: Check) -> float | None:
    """The check's figure, where it is one."""
    value = check.value
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number == number and abs(number) != float("inf") else None


def alert_of(record: Mapping[str, Any]) -> Alert:
    return Alert(**_typed(Alert, record))


def state_of(record: Mapping[str, Any]) -> CheckState:
    return CheckState(**_typed(CheckState, record))


def delivery_of(record: Mapping[str, Any]) -> Delivery:
    return Delivery(**_typed(Delivery, record))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    try:
        return _plain(float(value))  # Decimal
    except (TypeError, ValueError):
        return str(value)


def _typed(kind: type, record: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, is_moment in _columns(kind).items():
        if name not in record:
            continue
        value = record[name]
        if is_moment:
            value = _moments(value)
        if isinstance(value, list):
            value = tuple(value)
        if isinstance(value, uuid.UUID):
            value = str(value)
        found[name] = value
    return found


@cache
def _columns(kind: type) -> dict[str, bool]:
    """The names of its fields, and whether they are moments."""
    return {name: "datetime" in str(hint) for name, hint in get_type_hints(kind).items()}


def _moments(value: Any) -> Any:
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    return tuple(_moments(each) for each in value) if isinstance(value, list | tuple) else value
