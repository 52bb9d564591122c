"""The figures for Prometheus, in a registry of our own: no label whose values somebody else decides."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg2

from runbook_lib.errors import RunbookError
from runbook_lib.health.context import Context
from runbook_lib.health.metrics import History, records
from runbook_lib.pipeline.failures import FAILURE_CLASSES

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Gauge

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Gauges over these windows, in hours.
WINDOWS_HOURS = (1, 24)
MOST_MODELS = 10
_OUTCOMES = ("completed", "error", "lost", "released", "left_out")
_QUANTILES = {"0.5": "p50_seconds", "0.95": "p95_seconds", "0.99": "p99_seconds"}


def prometheus_text(context: Context) -> str:
    """The text that `/metrics` answers. `runbook_up` is 0, and the rest absent, without a database."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()
    up = Gauge("runbook_up", "Whether the figures could be read.", registry=registry)
    try:
        with History(context) as history:
            _collect(Gauges(registry), history)
        up.set(1)
    except (RunbookError, psycopg2.Error):
        registry = CollectorRegistry()
        Gauge("runbook_up", "Whether the figures could be read.", registry=registry).set(0)
    return generate_latest(registry).decode("utf-8")


class Gauges:
    """The gauges of one registry, each made when it is first set."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._made: dict[str, Gauge] = {}

    def set(self, name: str, words: str, labels: dict[str, str], value: float) -> None:
        from prometheus_client import Gauge

        if name not in self._made:
            self._made[name] = Gauge(name, words, sorted(labels), registry=self._registry)
        gauge = self._made[name]
        (gauge.labels(**labels) if labels else gauge).set(value)


def _collect(gauges: Gauges, history: History) -> None:
    now = history.now()
    for hours in WINDOWS_HOURS:
        window, since = f"{hours}h", now - timedelta(hours=hours)
        _attempts(gauges, window, records(history.by_hour(hours)))
        _durations(gauges, window, records(history.durations(since)))
        _failures(gauges, window, records(history.failures(since)))
    _queue(gauges, records(history.queue()))
    _cost(gauges, records(history.cost(1)))
    if history.as_of.moment is not None:
        age = (now - history.as_of.moment).total_seconds()
        _set(gauges, "runbook_rollup_age_seconds", "Age of the figures from the rollup.", {}, age)


def _attempts(gauges: Gauges, window: str, hours: list[dict[str, Any]]) -> None:
    for outcome in _OUTCOMES:
        total = sum(row[outcome] for row in hours)
        _set(gauges, "runbook_attempts", "Attempts that ended, by outcome, in whole hours.",
             {"outcome": outcome, "window": window}, total)  # fmt: skip
    for outcome in ("completed", "failed"):
        total = sum(row[f"jobs_{outcome}"] for row in hours)
        _set(gauges, "runbook_jobs_ended", "Jobs that ended, by outcome, in whole hours.",
             {"outcome": outcome, "window": window}, total)  # fmt: skip


def _durations(gauges: Gauges, window: str, stages: list[dict[str, Any]]) -> None:
    for row in stages:
        for quantile, column in _QUANTILES.items():
            if row[column] is not None:
                _set(gauges, "runbook_attempt_seconds", "Durations of completed attempts by stage.",
                     {"stage": row["stage"], "quantile": quantile, "window": window}, row[column])  # fmt: skip
        _set(gauges, "runbook_attempt_average_seconds", "Average duration of completed attempts by stage.",
             {"stage": row["stage"], "window": window}, row["average_seconds"])  # fmt: skip


def _failures(gauges: Gauges, window: str, causes: list[dict[str, Any]]) -> None:
    """By class of our catalogue: another pipeline's classes could be any number of words."""
    totals: dict[str, int] = {}
    for row in causes:
        name = row["error_class"] if row["error_class"] in FAILURE_CLASSES else "other"
        totals[name] = totals.get(name, 0) + row["attempts"]
    for name, total in sorted(totals.items()):
        _set(gauges, "runbook_failures", "Failed attempts by error class, in whole hours.",
             {"error_class": name, "window": window}, total)  # fmt: skip


def _queue(gauges: Gauges, states: list[dict[str, Any]]) -> None:
    for row in states:
        labels = {"state": row["state"]}
        _set(
            gauges,
            "runbook_queue_jobs",
            "Jobs that are not ended, by state.",
            labels,
            row["jobs"],
        )
        _set(gauges, "runbook_queue_oldest_seconds", "Age of the oldest job in a state; 0 for none.",
             labels, row["oldest_seconds"] or 0)  # fmt: skip


def _cost(gauges: Gauges, models: list[dict[str, Any]]) -> None:
    ranked = sorted(models, key=lambda row: -row["tokens"])
    totals: dict[str, tuple[float, float]] = {}
    for place, row in enumerate(ranked):
        name = (row["model"] or "none") if place < MOST_MODELS else "other"
        cost, tokens = totals.get(name, (0.0, 0.0))
        totals[name] = (cost + row["cost_usd"], tokens + row["tokens"])
    for name, (cost, tokens) in sorted(totals.items()):
        labels = {"model": name}
        _set(
            gauges,
            "runbook_cost_usd_today",
            "Cost of today's calls (UTC), as far as prices are known.",
            labels,
            cost,
        )
        _set(gauges, "runbook_tokens_today", "Tokens of today's calls (UTC).", labels, tokens)


def _set(gauges: Gauges, name: str, words: str, labels: dict[str, str], value: float) -> None:
    gauges.set(name, words, labels, value if math.isfinite(value) else 0)
