"""Files alerts and deliveries from the spool: they arose while the database could not be written."""

from __future__ import annotations

from runbook_lib.database import Transaction
from runbook_lib.health.alerts.database_book import (
    read_memory,
    save_alerts,
    save_deliveries,
    take_turn,
)
from runbook_lib.health.alerts.records import alert_of, delivery_of
from runbook_lib.health.alerts.rules import resolved
from runbook_lib.spool import Entry


def file_alert(transaction: Transaction, entry: Entry) -> None:
    """An alert as it stood then. Where its cause is open under another id, it ends as merged."""
    now = take_turn(transaction)
    alert = alert_of(entry.content)
    same = [each for each in read_memory(transaction).alerts
            if each.cause == alert.cause and each.resolved_at is None]  # fmt: skip
    if alert.resolved_at is None and any(each.alert_id != alert.alert_id for each in same):
        # A monitor that did reach the database has opened it meanwhile.
        alert = resolved(alert, now, "merged")
    save_alerts(transaction, [alert], filed_late=True)


def file_delivery(transaction: Transaction, entry: Entry) -> None:
    """What was sent then."""
    save_deliveries(transaction, [delivery_of(entry.content)], filed_late=True)
