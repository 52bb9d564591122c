"""From notices to deliveries: one for each address that is told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from runbook_lib.health.alerts.decisions import GROUPED_PARTS
from runbook_lib.health.alerts.messages import Place, body, severity_of, title
from runbook_lib.health.alerts.records import Delivery
from runbook_lib.health.alerts.rules import Notice
from runbook_lib.health.alerts.targets import Target
from runbook_lib.health.checks import Check
from runbook_lib.policy import Alerting


def compose(
    notices: Iterable[Notice], checks: Iterable[Check], targets: Sequence[Target], place: Place,
    now: datetime,
) -> list[Delivery]:  # fmt: skip
    """What is to be sent of these notices, written out, each with what else is not well just now."""
    bad = [check.name for check in checks if check.verdict == "critical" and check.part not in GROUPED_PARTS]  # fmt: skip
    return [
        Delivery(
            kind=notice.kind, severity=severity_of(notice), target_key=target.key,
            target=target.name, title=title(notice), body=body(notice, place, now, bad), created_at=now,
            next_attempt_at=now, alert_id=notice.alert.alert_id,
        )
        for notice in notices
        for target in targets
        if target.is_told(notice.alert.level, notice.alert.also_told)
    ]  # fmt: skip


def report_deliveries(
    kind: str, title: str, body: str, severity: str, targets: Sequence[Target], now: datetime
) -> list[Delivery]:
    """A report to every address that is told of level 1."""
    return [
        Delivery(kind=kind, severity=severity, target_key=target.key, target=target.name,
                 title=title, body=body, created_at=now, next_attempt_at=now)
        for target in targets
        if target.is_told(1)
    ]  # fmt: skip


def retry_after(attempts: int, rules: Alerting) -> timedelta:
    """How long to wait after so many attempts: twice as long each time, up to the maximum."""
    seconds = rules.delivery_retry_seconds * 2 ** min(max(0, attempts - 1), 20)
    return timedelta(seconds=min(seconds, rules.delivery_retry_maximum_seconds))
