"""The monitors themselves: whether somebody watches, and whether alerts reach anybody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runbook_lib.database.statements import load
from runbook_lib.health.alerts.messages import moment
from runbook_lib.health.checks import Check
from runbook_lib.health.registry import DeclaredCheck, View

_SQL = load("alert_deliveries")
# So many intervals without a sign of life, and a monitor is missed.
MISSED_AFTER_INTERVALS = 3
FEWEST_SILENT_SECONDS = 10.0
DELIVERY = "alerts.delivery"


def alive(view: View) -> Check:
    """Every monitor gives a sign of life each interval; one that stopped by itself said so."""
    statement = _SQL["beats"]
    beats = view.own_rows(statement)
    if not beats:
        return Check(
            "monitor.alive", "not_enough_data", "No monitor runs, so nobody is told of anything.",
            0, "monitors", source=statement.source, next="Start one: `runbook monitor`, or `make run`.",
        )  # fmt: skip
    silent = [each for each in beats if each.silent_seconds > _patience_seconds(each)]
    return alive_check(len(beats) - len(silent), silent, statement.source)


def _patience_seconds(beat: Any) -> float:
    return max(FEWEST_SILENT_SECONDS, MISSED_AFTER_INTERVALS * float(beat.interval_seconds))


def alive_check(count: int, silent: Sequence[Any], source: str) -> Check:
    """The verdict on `count` monitors that are alive and those that are silent."""
    told = ", ".join(f"{each.monitor} (last sign {moment(each.beat_at)})" for each in silent)
    if not silent:
        return Check(
            "monitor.alive", "ok", f"{count} alive, none missed.", count, "monitors", 1, source,
            "that alerts arrive (see alerts.delivery)",
        )  # fmt: skip
    return Check(
        "monitor.alive", "warning" if count else "critical",
        f"{len(silent)} went silent without stopping: {told}. {count} alive.",
        count, "monitors", 1, source,
        next="Start it again on its host (`runbook monitor`); one that moved away is forgotten after a day.",
    )  # fmt: skip


def delivery(view: View) -> Check:
    """What could not be sent is an alarm of its own."""
    statement = _SQL["undelivered"]
    rows = [row._asdict() for row in view.own_rows(statement)]
    return delivery_check(rows, bool(view.settings.alert_urls()), statement.source)


def delivery_check(
    undelivered: Iterable[Mapping[str, Any]], configured: bool, source: str
) -> Check:
    """The verdict on what waits after a failure or was given up, by address."""
    rows = list(undelivered)
    if not rows and not configured:
        return Check(
            DELIVERY, "not_enough_data",
            "RUNBOOK_ALERT_URLS is not set: alerts are rows and log lines only.", 0, "messages",
            source=source, next="Set RUNBOOK_ALERT_URLS, then `runbook alerts test`.",
        )  # fmt: skip
    if not rows:
        return Check(
            DELIVERY, "ok", "Every message that was due has been taken by its service.", 0,
            "messages", 0, source, "that somebody read it",
        )  # fmt: skip
    count = sum(row["waiting"] + row["given_up"] for row in rows)
    told = "; ".join(
        f"{row['target']} since {moment(row['since'])}: {row['reason']}" for row in rows
    )
    return Check(
        DELIVERY, "critical", f"{count} messages did not arrive. {told}", count, "messages", 0,
        source, next="`runbook alerts test` tries every address and says what each answers.",
        details={"targets": [row["target"] for row in rows]},
    )  # fmt: skip


CHECKS: tuple[DeclaredCheck, ...] = (
    DeclaredCheck("monitor.alive", "A monitor watches, and none went silent.", alive),
    DeclaredCheck("alerts.delivery", "Alerts reach the addresses they are for.", delivery),
)
