"""When an alert opens, is said, is raised, flaps and ends: rules without a clock or a database.

Two steps for each check of a survey. `observe` moves the state of the check and its alert by what the
check answered. `say` decides whether anything is to be told now; it looks at the alert alone, so what
quiet hours or a maintenance window held back is told as soon as they end, if it is still true.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Literal
from zoneinfo import ZoneInfo

from runbook_lib.health.checks import Check, Verdict
from runbook_lib.policy import MaintenanceWindow, Policy, Route

Severity = Literal["warning", "critical"]
Status = Literal["open", "repeated", "acknowledged", "resolved"]
NoticeKind = Literal["opened", "worsened", "flapping", "raised", "reminder", "resolved"]
HIGHEST_LEVEL = 3
EVENT_PREFIX = "event."


@dataclass(frozen=True)
class CheckState:
    """What is remembered of a check between surveys.

    `since` is when its verdict began. `changes` are the moments at which it turned from good to bad or
    back. An answer that proves nothing (not allowed, not enough data) leaves the counts as they are.
    """

    check_name: str
    verdict: Verdict
    since: datetime
    checked_at: datetime
    bad_since: datetime | None = None
    bad_times: int = 0
    good_since: datetime | None = None
    changes: tuple[datetime, ...] = ()


@dataclass(frozen=True)
class Alert:
    """One trouble, from its first sighting to its end: there is one open alert for a cause.

    `severity` is the worst that it was. `told_at` is when anything was last said of it, `level_since`
    when the present level was told. `evidence` is the check's answer, or the event, as last seen bad.
    """

    cause: str
    severity: Severity
    level: int
    since: datetime
    opened_at: datetime
    last_seen_at: datetime
    evidence: Mapping[str, Any] = field(default_factory=dict)
    alert_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: Status = "open"
    also_told: tuple[int, ...] = ()
    owner: str | None = None
    seen_times: int = 1
    flapping: bool = False
    flapping_told: bool = False
    announced_at: datetime | None = None
    announced_severity: Severity | None = None
    told_at: datetime | None = None
    level_since: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    acknowledged_note: str | None = None
    resolved_at: datetime | None = None
    resolution: str | None = None
    recovery_told_at: datetime | None = None

    @property
    def is_event(self) -> bool:
        return self.cause.startswith(EVENT_PREFIX)

    @property
    def settled(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.resolved_at is not None and (
            self.announced_at is None or self.recovery_told_at is not None
        )


@dataclass(frozen=True)
class Notice:
    """Something to tell about an alert, as it stood then."""

    kind: NoticeKind
    alert: Alert


# --- what the check's answers do to its state and its alert --------------------------------------


def remember(state: CheckState | None, check: Check, now: datetime, policy: Policy) -> CheckState:
    """The state of a check after one more answer."""
    if state is None:
        state = CheckState(check.name, check.verdict, since=now, checked_at=now)
    if check.verdict != state.verdict:
        state = replace(state, verdict=check.verdict, since=now)
    state = replace(state, checked_at=now)
    if check.verdict in ("warning", "critical"):
        state = _bad(state, now)
    elif check.verdict == "ok":
        state = _good(state, now)
    window = timedelta(minutes=policy.alerting.flapping_within_minutes)
    return replace(state, changes=tuple(each for each in state.changes if now - each < window))


def _bad(state: CheckState, now: datetime) -> CheckState:
    if state.bad_times:
        return replace(state, bad_times=state.bad_times + 1)
    turned = (now,) if state.good_since is not None else ()
    return replace(
        state, bad_times=1, bad_since=now, good_since=None, changes=(*state.changes, *turned)
    )


def _good(state: CheckState, now: datetime) -> CheckState:
    if state.good_since is not None:
        return state
    turned = (now,) if state.bad_times else ()
    return replace(
        state, bad_times=0, bad_since=None, good_since=now, changes=(*state.changes, *turned)
    )


def observe(
    state: CheckState | None, alert: Alert | None, check: Check, now: datetime, policy: Policy
) -> tuple[CheckState, Alert | None]:
    """One answer of a check: its new state, and its alert if there is one now.

    `alert` is the one that is open for this check, if any; a resolved one is none.
    """
    state = remember(state, check, now, policy)
    if alert is None:
        if not (_surely_bad(state, now, policy) or _turns_often(state, policy)):
            return state, None
        alert = _opened(state, check, now, policy)
    elif state.bad_times:
        alert = _seen_again(alert, check, now)
    alert = replace(alert, flapping=_flaps(alert, state, now, policy))
    if _surely_good(state, now, policy) and not alert.flapping:
        return replace(state, changes=()), resolved(alert, now, "recovered")
    return state, alert


def _surely_bad(state: CheckState, now: datetime, policy: Policy) -> bool:
    rules = policy.alerting
    return (
        state.bad_since is not None
        and state.bad_times >= rules.bad_times
        and now - state.bad_since >= timedelta(minutes=rules.bad_minutes)
    )


def _surely_good(state: CheckState, now: datetime, policy: Policy) -> bool:
    return state.good_since is not None and now - state.good_since >= timedelta(
        minutes=policy.alerting.good_minutes
    )


def _turns_often(state: CheckState, policy: Policy) -> bool:
    return len(state.changes) >= policy.alerting.flapping_changes


def _flaps(alert: Alert, state: CheckState, now: datetime, policy: Policy) -> bool:
    keeps_still = timedelta(minutes=policy.alerting.flapping_ends_after_minutes)
    if not state.changes or now - state.changes[-1] >= keeps_still:
        return False
    return alert.flapping or _turns_often(state, policy)


def _opened(state: CheckState, check: Check, now: datetime, policy: Policy) -> Alert:
    severity: Severity = "critical" if check.verdict == "critical" else "warning"
    route = route_of(check.name, policy)
    return Alert(
        cause=check.name, severity=severity, level=route.level, also_told=route.also_told,
        owner=route.owner, since=state.bad_since or state.since, opened_at=now, last_seen_at=now,
        evidence=check.masked(),
    )  # fmt: skip


def _seen_again(alert: Alert, check: Check, now: datetime) -> Alert:
    if check.verdict not in ("warning", "critical"):
        return alert
    return _repeated(alert, "critical" if check.verdict == "critical" else "warning",
                     check.masked(), now)  # fmt: skip


def _repeated(
    alert: Alert, severity: Severity, evidence: Mapping[str, Any], now: datetime
) -> Alert:
    worse = severity == "critical" and alert.severity == "warning"
    alert = replace(
        alert, seen_times=alert.seen_times + 1, last_seen_at=now, evidence=evidence,
        severity="critical" if worse else alert.severity,
        status="repeated" if alert.status == "open" else alert.status,
    )  # fmt: skip
    # What was acknowledged was a warning.
    return _without_acknowledgement(alert, now) if worse else alert


def observe_event(
    alert: Alert | None, *, cause: str, severity: Severity, evidence: Mapping[str, Any],
    occurred_at: datetime, now: datetime, policy: Policy,
) -> Alert:  # fmt: skip
    """An event of the pipeline: it opens an alert, or is one more of the alert that is open."""
    if alert is not None:
        return _repeated(alert, severity, evidence, now)
    route = route_of(cause, policy)
    return Alert(
        cause=cause, severity=severity, level=route.level, also_told=route.also_told,
        owner=route.owner, since=occurred_at, opened_at=now, last_seen_at=now, evidence=evidence,
    )  # fmt: skip


def resolved(alert: Alert, now: datetime, resolution: str) -> Alert:
    return replace(alert, status="resolved", resolved_at=now, resolution=resolution)


def ended_unseen(alert: Alert, now: datetime, policy: Policy) -> Alert:
    """Ends an alert that nothing has confirmed for long: an event, or a check that answers no more."""
    rules = policy.alerting
    limit = (
        timedelta(minutes=rules.event_ends_after_minutes)
        if alert.is_event
        else timedelta(hours=rules.unseen_ends_after_hours)
    )
    if alert.resolved_at is not None or now - alert.last_seen_at < limit:
        return alert
    ended = resolved(alert, now, "not_seen_again")
    # An event that came and went has nothing to recover from.
    return replace(ended, recovery_told_at=now) if alert.is_event else ended


def acknowledged(alert: Alert, by: str, note: str | None, now: datetime) -> Alert:
    return replace(
        alert, status="acknowledged", acknowledged_at=now, acknowledged_by=by,
        acknowledged_note=note,
    )  # fmt: skip


def _without_acknowledgement(alert: Alert, now: datetime) -> Alert:
    if alert.acknowledged_at is None:
        return alert
    return replace(
        alert, status="repeated", acknowledged_at=None, acknowledged_by=None,
        acknowledged_note=None, level_since=now,
    )  # fmt: skip


def route_of(cause: str, policy: Policy) -> Route:
    """The first route whose pattern fits; else level 1."""
    fits = (each for each in policy.alerting.routes if fnmatchcase(cause, each.causes))
    return next(fits, Route(causes=cause))


# --- what is told --------------------------------------------------------------------------------


def say(alert: Alert, now: datetime, policy: Policy) -> tuple[Alert, Notice | None]:
    """The alert after what is to be told of it now, and the notice; None when there is nothing to tell."""
    if maintenance_at(now, policy) is not None:
        return alert, None
    if alert.severity == "warning" and is_quiet(now, policy):
        return alert, None
    if alert.resolved_at is not None:
        return _say_of_resolved(alert, now)
    alert, kind = _due(alert, now, policy)
    if kind is None:
        return alert, None
    alert = replace(
        alert, told_at=now, announced_severity=alert.severity,
        flapping_told=alert.flapping_told or alert.flapping,
    )  # fmt: skip
    return alert, Notice(kind, alert)


def _say_of_resolved(alert: Alert, now: datetime) -> tuple[Alert, Notice | None]:
    if alert.settled:
        return alert, None
    alert = replace(alert, recovery_told_at=now, told_at=now)
    return alert, Notice("resolved", alert)


def _due(alert: Alert, now: datetime, policy: Policy) -> tuple[Alert, NoticeKind | None]:
    rules = policy.alerting
    if alert.announced_at is None:
        first: NoticeKind = "flapping" if alert.flapping else "opened"
        return replace(alert, announced_at=now, level_since=now), first
    if alert.severity != alert.announced_severity:
        return alert, "worsened"
    if alert.flapping and not alert.flapping_told:
        return alert, "flapping"
    if alert.acknowledged_at is not None:
        if now - alert.acknowledged_at < timedelta(minutes=rules.acknowledged_for_minutes):
            return alert, None
        return _without_acknowledgement(alert, now), "reminder"
    if _nobody_to_fetch(alert, now, policy):
        return alert, None
    raise_after = timedelta(minutes=rules.raise_level_after_minutes)
    waited = now - (alert.level_since or alert.announced_at)
    if alert.level < HIGHEST_LEVEL and waited >= raise_after:
        return replace(alert, level=alert.level + 1, level_since=now), "raised"
    if alert.told_at and now - alert.told_at >= timedelta(minutes=rules.remind_after_minutes):
        return alert, "reminder"
    return alert, None


def _nobody_to_fetch(alert: Alert, now: datetime, policy: Policy) -> bool:
    """Whether it is past, as far as is known: then it is neither raised nor said again."""
    if alert.is_event:
        return alert.severity == "warning"
    lately = timedelta(seconds=2 * policy.alerting.survey_interval_seconds)
    return now - alert.last_seen_at >= lately


def maintenance_at(now: datetime, policy: Policy) -> MaintenanceWindow | None:
    """The maintenance window that `now` is in, if any."""
    fits = (each for each in policy.maintenance_windows if each.begin <= now < each.end)
    return next(fits, None)


def is_quiet(now: datetime, policy: Policy) -> bool:
    """Whether `now` is in the quiet hours, which may span midnight."""
    hours = policy.quiet_hours
    if hours.begin is None or hours.end is None:
        return False
    local = now.astimezone(ZoneInfo(hours.timezone)).time()
    if hours.begin <= hours.end:
        return hours.begin <= local < hours.end
    return local >= hours.begin or local < hours.end
