"""What an alert says: short enough for a phone, with what to open and what to paste."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from runbook_lib.credentials.masking import mask, one_line
from runbook_lib.health.alerts.rules import Alert, Notice
from runbook_lib.policy import Policy
from runbook_lib.settings import Settings

SHORT_ID_CHARACTERS = 8
_SHOWN_OTHERS = 8
_TITLE_CHARACTERS = 140
# Which vendor is behind a part; a database's is known by its host alone.
_VENDORS = {"openai": "openai", "wordpress": "wordpress"}


@dataclass(frozen=True)
class Place:
    """What the messages are about, and where they lead: the pipeline's name and the links' beginning."""

    pipeline: str
    public_url: str | None
    policy: Policy

    @classmethod
    def of(cls, settings: Settings, policy: Policy, address: str) -> Place:
        public_url = settings.runbook_public_url
        return cls(address, public_url.rstrip("/") if public_url else None, policy)


def title(notice: Notice) -> str:
    """The line that a phone shows."""
    alert = notice.alert
    words = {
        "opened": alert.severity.upper(),
        "worsened": f"now {alert.severity.upper()}",
        "flapping": f"{alert.severity.upper()}, flaps",
        "raised": f"{alert.severity.upper()}, raised to level {alert.level}",
        "reminder": f"{alert.severity.upper()}, still open",
        "resolved": "RECOVERED" if alert.resolution == "recovered" else "ENDED",
    }[notice.kind]
    message = alert.evidence.get("message", "") if notice.kind != "resolved" else _ended(alert)
    return one_line(f"{words}: {alert.cause} · {message}", _TITLE_CHARACTERS)


def body(notice: Notice, place: Place, now: datetime, bad: Sequence[str] = ()) -> str:
    """Everything else, the most useful first. `bad` names what is critical now. Holds no secret."""
    alert = notice.alert
    lines = [_ended(alert) if notice.kind == "resolved" else _message(alert)]
    lines.append(f"Since {moment(alert.since)} ({length(now - alert.since)}). {_seen(alert)}")
    if notice.kind != "resolved":
        lines += [*_why_again(notice), *_figures(alert), *_what_to_do(alert, place), *_who(alert, place)]  # fmt: skip
    if others := [name for name in bad if name != alert.cause]:
        lines.append(f"Critical just now as well: {', '.join(others[:_SHOWN_OTHERS])}.")
    lines.append(f"Pipeline {place.pipeline} · alert {short_id(alert.alert_id)}")
    if notice.kind != "resolved":
        lines.append(_acknowledge(alert, place))
    return mask("\n".join(line for line in lines if line))


def severity_of(notice: Notice) -> str:
    """How the service should mark it."""
    return "success" if notice.kind == "resolved" else notice.alert.severity


def procedure_path(procedure: str, parameters: Mapping[str, Any]) -> str:
    """The console's path that opens a procedure with its parameters."""
    query = urlencode({name: _argument(value) for name, value in parameters.items()})
    return f"/procedures/{quote(procedure)}" + (f"?{query}" if query else "")


def procedure_command(procedure: str, parameters: Mapping[str, Any]) -> str:
    """The line that runs a procedure with its parameters from a shell."""
    arguments = [f"-p {shlex.quote(f'{name}={_argument(value)}')}" for name, value in parameters.items()]  # fmt: skip
    return " ".join(["runbook run", shlex.quote(procedure), *arguments])


def short_id(alert_id: str) -> str:
    return alert_id[:SHORT_ID_CHARACTERS]


def moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def length(time: timedelta) -> str:
    """A length of time in two units at most: 3 d 4 h, 12 min, 40 s."""
    seconds = max(0, int(time.total_seconds()))
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def _message(alert: Alert) -> str:
    return one_line(str(alert.evidence.get("message", alert.cause)), 600)


def _ended(alert: Alert) -> str:
    lasted = length((alert.resolved_at or alert.last_seen_at) - alert.since)
    if alert.resolution == "recovered":
        return f"{alert.cause} is well again after {lasted}."
    return (
        f"{alert.cause} was not seen bad again since {moment(alert.last_seen_at)}, "
        "and does not answer. That does not prove that it is well."
    )


def _seen(alert: Alert) -> str:
    return f"Seen {alert.seen_times} times." if alert.seen_times > 1 else ""


def _why_again(notice: Notice) -> list[str]:
    alert = notice.alert
    if notice.kind == "raised":
        return [f"Nobody acknowledged it, so level {alert.level} is told."]
    if alert.flapping:
        return ["It goes bad and good in turns; it is told again when it keeps still."]
    return []


def _figures(alert: Alert) -> list[str]:
    found = alert.evidence
    lines = []
    if found.get("value") is not None:
        unit = f" {found['unit']}" if found.get("unit") else ""
        limit = f", limit {found['threshold']}{unit}" if found.get("threshold") is not None else ""
        source = f" (from {found['source']})" if found.get("source") else ""
        lines.append(f"Value {found['value']}{unit}{limit}{source}.")
    if found.get("does_not_prove"):
        lines.append(f"Does not prove {found['does_not_prove']}.")
    return lines


def _what_to_do(alert: Alert, place: Place) -> list[str]:
    found = alert.evidence
    lines = [f"Next: {found['next']}"] if found.get("next") else []
    procedure, parameters = found.get("procedure"), found.get("parameters") or {}
    if procedure:
        if place.public_url:
            lines.append(f"Open: {place.public_url}{procedure_path(procedure, parameters)}")
        lines.append(f"Or paste: {procedure_command(procedure, parameters)}")
    return lines


def _who(alert: Alert, place: Place) -> list[str]:
    policy = place.policy
    lines = []
    for number in sorted({alert.level, *alert.also_told}):
        level = policy.levels[str(number)]
        contacts = f": {', '.join(level.contacts)}" if level.contacts else ""
        role = "acts" if number == alert.level else "is told, and decides"
        lines.append(f"Level {number}, {level.title}, {role}{contacts}.")
    if alert.owner:
        lines.append(f"Owner: {alert.owner}.")
    vendor = policy.vendors.get(_vendor(alert, place) or "")
    if vendor is not None:
        status = f" · status {vendor.status_url}" if vendor.status_url else ""
        lines.append(f"Vendor support: {vendor.support_url}{status}")
    return lines


def _vendor(alert: Alert, place: Place) -> str | None:
    named = {*alert.cause.split("."), str(alert.evidence.get("provider"))}
    if "database" in named and ".supabase." in place.pipeline:
        return "supabase"
    return next((vendor for part, vendor in _VENDORS.items() if part in named), None)


def _acknowledge(alert: Alert, place: Place) -> str:
    link = f" · {place.public_url}/alerts/{alert.alert_id}" if place.public_url else ""
    return f"Acknowledge: runbook alerts ack {short_id(alert.alert_id)}{link}"


def _argument(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
