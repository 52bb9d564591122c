"""The reports at the written runbook's times: health each hour, the failure rate each day at midnight UTC.

Whoever inserts the time makes the report, in the transaction in which it is decided: however many
monitors run, it is made once; and one that comes late makes it late.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from runbook_lib.credentials.masking import mask, one_line
from runbook_lib.database import Transaction
from runbook_lib.database.statements import load
from runbook_lib.health.alerts.messages import Place, moment
from runbook_lib.health.alerts.outbox import report_deliveries
from runbook_lib.health.alerts.records import Delivery
from runbook_lib.health.alerts.targets import Target
from runbook_lib.health.checks import Check, worst_verdict
from runbook_lib.policy import Policy

_SQL = load("alert_deliveries")
_SHOWN_CHECKS = 12
_SEVERITIES = {"critical": "critical", "warning": "warning"}
When = Literal["always", "not_well", "never"]


def due_reports(
    transaction: Transaction, checks: Sequence[Check], *, policy: Policy,
    targets: Sequence[Target], place: Place, monitor: str, now: datetime,
) -> list[Delivery]:  # fmt: skip
    """What is to be sent of the reports that are due now, each claimed and filed."""
    rates = [check for check in checks if check.part == "failures" and check.name != "failures"]
    found = []
    for kind, unit, when, shown in (
        ("hourly_health", "hour", policy.alerting.hourly_health, checks),
        ("daily_failure_rate", "day", policy.alerting.daily_failure_rate, rates),
    ):
        claimed = transaction.row(_SQL["claim_report"], kind=kind, unit=unit, monitor=monitor)
        # Of the first of its kind nobody knows whether it was expected.
        if claimed is None or claimed.is_first:
            continue
        verdict = worst_verdict(shown)
        sends = _sends(when, verdict)
        text = _text(shown, every=kind == "daily_failure_rate")
        transaction.run(
            _SQL["file_report"], kind=kind, due_at=claimed.due_at, verdict=verdict, message=text,
            sent=sends and bool(targets),
        )  # fmt: skip
        if sends:
            heading = one_line(
                f"{_TITLES[kind]} {moment(claimed.due_at)}: {verdict.replace('_', ' ')}"
            )
            found += report_deliveries(
                kind, heading, mask(f"{text}\nPipeline {place.pipeline}"),
                _SEVERITIES.get(verdict, "info"), targets, now,
            )  # fmt: skip
    return found


_TITLES = {"hourly_health": "Health", "daily_failure_rate": "Failure rate"}


def _sends(when: When, verdict: str) -> bool:
    return when == "always" or (when == "not_well" and verdict in _SEVERITIES)


def _text(checks: Sequence[Check], *, every: bool) -> str:
    order = ("critical", "warning", "not_allowed", "not_enough_data", "ok")
    counts = {verdict: sum(check.verdict == verdict for check in checks) for verdict in order}
    said = ", ".join(f"{count} {verdict.replace('_', ' ')}" for verdict, count in counts.items() if count)  # fmt: skip
    worst = sorted(checks, key=lambda check: order.index(check.verdict))
    lines = [f"{check.verdict.replace('_', ' ')}: {check.name} · {one_line(check.message, 200)}"
             for check in worst[:_SHOWN_CHECKS] if check.verdict != "ok" or every]  # fmt: skip
    return "\n".join([f"{len(checks)} checks: {said or 'none'}.", *lines])
