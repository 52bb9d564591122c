"""The small picture that goes with an alert: the check's figure of the last hours and its limit."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg2

from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.errors import RunbookError
from runbook_lib.health.alerts.messages import moment
from runbook_lib.health.alerts.records import Delivery, alert_of
from runbook_lib.health.alerts.rules import Alert

_SQL = load("alerts")

HOURS = 3
FEWEST_VALUES = 3
SHORTEST_MINUTES = 10
_COLOURS = {"ok": "#0072B2", "warning": "#E69F00", "critical": "#D55E00"}
# matplotlib's settings belong to the process; one picture at a time.
_drawing = threading.Lock()

Value = tuple[datetime, float, str]


def of_delivery(
    delivery: Delivery, database: Database | None, known: Sequence[Alert],
    remembered: Mapping[str, Iterable[Value]],
) -> bytes | None:  # fmt: skip
    """The picture for a delivery about a check with a figure; None where there is none.

    The figures come from the database; without it, from those that this process remembers.
    """
    if delivery.alert_id is None or delivery.kind in ("reminder", "resolved"):
        return None
    alert: Alert | None = next((each for each in known if each.alert_id == delivery.alert_id), None)
    values: list[Value] = []
    if database is not None:
        try:
            with database.transaction(read_only=True, deadline_seconds=5) as transaction:
                row = transaction.row(_SQL["alert_by_id"], alert_id=delivery.alert_id)
                alert = alert_of(row._asdict()) if row is not None else alert
                if alert is not None:
                    values = [tuple(row) for row in transaction.rows(
                        _SQL["recent_values"], check_name=alert.cause, hours=HOURS)]  # fmt: skip
        except (RunbookError, psycopg2.Error):
            pass  # it is away; what is remembered has to do
    if alert is None:
        return None
    evidence = alert.evidence
    return draw(
        alert.cause, values or list(remembered.get(alert.cause, ())), alert.since,
        evidence.get("unit"), evidence.get("threshold"),
    )  # fmt: skip


def draw(title: str, values: Sequence[Value], since: datetime, unit: str | None, limit: Any) -> bytes | None:  # fmt: skip
    """A PNG of the values, each coloured by its verdict; None when there are too few to show a course."""
    if len(values) < FEWEST_VALUES:
        return None
    with _drawing:
        return _draw(title, values, since, unit, limit)


def _draw(
    title: str, values: Sequence[Value], since: datetime, unit: str | None, limit: Any
) -> bytes:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    from runbook_lib.health.charts import new_figure, png_of

    figure = new_figure(height_inches=2.6)
    axes = figure.subplots()
    times = [float(date2num(at)) for at, _, _ in values]
    axes.plot(times, [value for _, value, _ in values], color="#9aa4ae", linewidth=1, zorder=1)
    for verdict, colour in {**_COLOURS, "other": "#777777"}.items():
        shown = [
            said == verdict or (verdict == "other" and said not in _COLOURS) for *_, said in values
        ]
        at = [time for time, mine in zip(times, shown, strict=True) if mine]
        height = [value for (_, value, _), mine in zip(values, shown, strict=True) if mine]
        if at:
            axes.scatter(at, height, s=16, color=colour, label=verdict, zorder=2)
    if isinstance(limit, int | float) and not isinstance(limit, bool):
        axes.axhline(limit, color="#7a1f1f", linestyle="--", linewidth=1.2)
        axes.annotate(f"limit {limit:g}", (0, limit), xycoords=("axes fraction", "data"),
                      xytext=(3, 3), textcoords="offset points", color="#7a1f1f", fontsize=10)  # fmt: skip
    if since > values[0][0]:
        axes.axvline(float(date2num(since)), color="#30363d", linestyle=":", linewidth=1.2)
    axes.set_title(f"{title} · since {moment(since)}", fontsize=11, loc="left")
    axes.set_ylabel(unit or "")
    axes.margins(y=0.15)
    shortest = SHORTEST_MINUTES / (24 * 60)
    axes.set_xlim(min(times[0], times[-1] - shortest), times[-1] + shortest / 10)
    locator = AutoDateLocator(tz=UTC, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=10)
    return png_of(figure, dots_per_inch=100)
