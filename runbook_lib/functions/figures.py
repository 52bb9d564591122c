"""`monitoring` and `metrics`: the figures behind the checks."""

from __future__ import annotations

from typing import Any

from runbook_lib.functions.calling import Call
from runbook_lib.health.survey import survey


def monitoring(call: Call) -> dict[str, Any]:
    """Every check, and the figures that explain them."""
    found = survey(call.context)
    return found.as_dictionary()


def metrics(call: Call) -> dict[str, Any]:
    """Success by day, durations, queue, cost."""
    return {}
