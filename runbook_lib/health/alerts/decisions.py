"""What a survey and the pipeline's events do to all alerts at once, and what is to be told of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from runbook_lib.credentials.masking import one_line
from runbook_lib.health.alerts.rules import (
    EVENT_PREFIX,
    Alert,
    CheckState,
    Notice,
    Severity,
    ended_unseen,
    observe,
    observe_event,
    remember,
    resolved,
    say,
)
from runbook_lib.health.checks import Check
from runbook_lib.policy import Policy

# Events that say that something begins to hold: their alert ends when it holds no more.
PAUSES = ("provider_paused", "daily_cap_reached")
# One trouble, one alert: where this check says it already, its event is only taken note of.
_TOLD_BY_CHECK = {
    "provider_paused": "queue.pauses",
    "daily_cap_reached": "queue.pauses",
    "lease_expired": "workers.alive",
    "job_runs_without_partition": "database.partitions",
    "job_runs_partition_refused": "database.partitions",
}


@dataclass(frozen=True)
class PipelineEvent:
    """A row of `events` that somebody should be told of."""

    event_id: int
    occurred_at: datetime
    kind: str
    level: Severity
    message: str
    worker: str | None = None
    job_id: str | None = None
    provider: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cause(self) -> str:
        provider = f".{self.provider}" if self.provider else ""
        return f"{EVENT_PREFIX}{self.kind}{provider}"

    def evidence(self) -> dict[str, Any]:
        """In the words that a check has for its answer."""
        found = {"name": self.cause, "verdict": self.level, "message": one_line(self.message, 1000),
                 "occurred_at": self.occurred_at.isoformat(), "worker": self.worker,
                 "job_id": self.job_id, "provider": self.provider, "details": dict(self.details),
                 "next": _NEXT.get(self.kind), "source": f"events.{self.event_id}"}  # fmt: skip
        return {name: value for name, value in found.items() if value not in (None, {})}


_NEXT = {
    "provider_paused": "See `runbook limits show`; `runbook doctor` says what the provider answers. "
    "`runbook resume PROVIDER` ends the pause once the cause is gone.",
    "daily_cap_reached": "Nothing more is spent until midnight UTC. `runbook limits set` raises the cap.",
    "job_quarantined": "`runbook jobs show ID` has its attempts; `runbook jobs retry ID` lets it go again.",
    "automation_acted": "See what was done, and how it is taken back: `runbook changes list`. The cause still has to be repaired.",
    "lease_expired": "`runbook workers` says which worker vanished; its jobs went back by themselves.",
    "statement_refused": "`runbook triage` says what refuses it. The worker keeps its results and goes on trying; nothing is lost.",
    "job_runs_without_partition": "Nothing is lost. See that a worker runs each day: it makes the partitions.",
    "job_runs_partition_refused": "Rename or detach the table that stands in the way.",
}


# Checks that look at one thing from several sides: together they are one alert, named like the part.
GROUPED_PARTS = ("failures",)


def with_groups(checks: Iterable[Check]) -> list[Check]:
    """The checks, and for each grouped part one that stands for it: the worst, with the others named."""
    found = list(checks)
    for part in GROUPED_PARTS:
        members = [check for check in found if check.part == part and check.name != part]
        if not members:
            continue
        worst = next(
            (check for verdict in ("critical", "warning", "ok") for check in members if check.verdict == verdict),
            members[0],
        )  # fmt: skip
        also = [check.name for check in members if check.verdict in ("critical", "warning") and check is not worst]  # fmt: skip
        message = worst.message + (f" Also bad: {', '.join(also)}." if also else "")
        found.append(replace(worst, name=part, message=message))
    return found


@dataclass(frozen=True)
class Memory:
    """What is known before a survey: states of checks, and alerts that are not settled."""

    states: Mapping[str, CheckState] = field(default_factory=dict)
    alerts: tuple[Alert, ...] = ()


@dataclass(frozen=True)
class Decided:
    """What is known after it: the states of the checks that were asked, the alerts that changed, and
    what is to be told."""

    states: tuple[CheckState, ...]
    alerts: tuple[Alert, ...]
    notices: tuple[Notice, ...]


def decide(
    memory: Memory, checks: Iterable[Check], now: datetime, policy: Policy, *,
    events: Iterable[PipelineEvent] = (), paused: Iterable[str] | None = None,
) -> Decided:  # fmt: skip
    """One survey's checks and the events since the last one.

    `paused` are the providers that are paused now, None where that is not known.
    """
    before = {alert.alert_id: alert for alert in memory.alerts}
    after = dict(before)
    open_now = {alert.cause: alert for alert in memory.alerts if alert.resolved_at is None}
    states = []
    answers = {check.name: check for check in checks}
    for check in answers.values():
        if check.part in GROUPED_PARTS and check.name != check.part:
            states.append(remember(memory.states.get(check.name), check, now, policy))
            continue
        state, alert = observe(
            memory.states.get(check.name), open_now.get(check.name), check, now, policy
        )
        states.append(state)
        if alert is not None:
            after[alert.alert_id] = alert
    for event in events:
        if _is_told_by_a_check(event, answers):
            continue
        alert = observe_event(
            open_now.get(event.cause), cause=event.cause, severity=event.level,
            evidence=event.evidence(), occurred_at=event.occurred_at, now=now, policy=policy,
        )  # fmt: skip
        after[alert.alert_id] = open_now[event.cause] = alert
    notices = []
    for alert_id, alert in after.items():
        ended = _ended(alert, paused, now, policy)
        after[alert_id], notice = (ended, None) if _too_young(ended, now, policy) else say(ended, now, policy)  # fmt: skip
        if notice is not None:
            notices.append(notice)
    changed = [alert for alert in after.values() if alert != before.get(alert.alert_id)]
    return Decided(tuple(states), tuple(changed), tuple(notices))


def _is_told_by_a_check(event: PipelineEvent, answers: Mapping[str, Check]) -> bool:
    check = answers.get(_TOLD_BY_CHECK.get(event.kind, ""))
    if check is None:
        return False
    return check.verdict in ("warning", "critical") or (check.answered and event.kind in PAUSES)


def _ended(
    alert: Alert, paused: Iterable[str] | None, now: datetime, policy: Policy
) -> Alert:  # fmt: skip
    if not _is_pause(alert) or alert.resolved_at is not None:
        return ended_unseen(alert, now, policy)
    if paused is None or alert.cause.rpartition(".")[2] in paused:
        return alert
    return resolved(alert, now, "recovered")


def _too_young(alert: Alert, now: datetime, policy: Policy) -> bool:
    """A provider that asks for patience and is used again a moment later is nothing to tell."""
    return (
        _is_pause(alert)
        and alert.severity == "warning"
        and alert.announced_at is None
        and now - alert.since < timedelta(minutes=policy.alerting.bad_minutes)
    )


def _is_pause(alert: Alert) -> bool:
    return alert.is_event and alert.cause.split(".")[1] in PAUSES
