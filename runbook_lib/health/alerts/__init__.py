"""Alerts: what is bad for long enough to tell somebody, told once, until it is good again.

`observe` takes up a survey's checks; `list_alerts`, `show_alert` and `acknowledge` are for people.
`rules` holds when something is told, `delivery` how it reaches the team's addresses.
"""

from __future__ import annotations

from runbook_lib.health.alerts.desk import (
    Observed,
    acknowledge,
    list_alerts,
    observe,
    show_alert,
    undelivered,
)

__all__ = ["Observed", "acknowledge", "list_alerts", "observe", "show_alert", "undelivered"]
