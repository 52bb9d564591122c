"""`performance-monitor`: how long things take."""

from __future__ import annotations

from typing import Any

from runbook_lib.functions.calling import Call


def performance_monitor(call: Call) -> dict[str, Any]:
    """p50, p95 and p99 with the number of measurements, by stage, provider, function and statement."""
    return {}
