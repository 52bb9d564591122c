"""Charts of the upkeep: what each week of history takes, and how the database grows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from runbook_lib.health.answers import MEGABYTE, size_words
from runbook_lib.health.charts import Chart, new_figure, png_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A limit farther above would leave the line flat at the bottom.
LIMIT_DRAWN_FACTOR = 4.0
_KEPT, _DUE, _LIMIT = "#0072B2", "#E69F00", "#7a1f1f"


def nothing_to_draw(reason: str) -> Chart:
    """A picture that says why there is none."""
    figure = new_figure(height_inches=1.2)
    figure.text(0.5, 0.5, reason, ha="center", va="center", wrap=True)
    return Chart(png_of(figure), reason)


def weeks_by_size(weeks: Sequence[tuple[datetime, int, bool]], border: datetime) -> Chart:
    """What each week's partition takes, as (begin, bytes, may go); the border of what is kept as a line."""
    weeks = [week for week in weeks if week[1] > 0]
    if not weeks:
        return nothing_to_draw("There is no week of history yet.")
    figure = new_figure(height_inches=3.6)
    axes = figure.subplots()
    for may_go, colour, hatch, label in (
        (False, _KEPT, "", "kept"),
        (True, _DUE, "///", "may go"),
    ):
        chosen = [week for week in weeks if week[2] is may_go]
        if chosen:
            axes.bar([week[0] + timedelta(days=3.5) for week in chosen], [week[1] / MEGABYTE for week in chosen],  # type: ignore[arg-type]
                     width=6.2, color=colour, hatch=hatch, edgecolor="white", label=label)  # fmt: skip
    axes.axvline(border, color=_LIMIT, linestyle="--", linewidth=1.2)  # type: ignore[arg-type]
    axes.annotate("kept from here on", (border, 1), xycoords=("data", "axes fraction"), xytext=(4, 4),
                  textcoords="offset points", color=_LIMIT, fontsize=10)  # fmt: skip
    axes.set_ylabel("MB a week")
    _label_dates(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    due = sum(week[1] for week in weeks if week[2])
    words = f"{len(weeks)} weeks of history, {size_words(sum(week[1] for week in weeks))}; {size_words(due)} of it may go."
    return Chart(png_of(figure), words)


def growth(
    sizes: Sequence[tuple[datetime, int]], limit_bytes: float | None, daily_bytes: float | None
) -> Chart:
    """The database's size as it was seen, its trend, and the limit."""
    if len(sizes) < 2 or sizes[-1][0] - sizes[0][0] < timedelta(minutes=1):
        return nothing_to_draw("Sizes were kept only once so far. The next run draws a line.")
    figure = new_figure(height_inches=3.4)
    axes = figure.subplots()
    axes.plot([at for at, _ in sizes], [size / MEGABYTE for _, size in sizes], "o-", color=_KEPT,  # type: ignore[arg-type]
              markersize=4, label="size as seen")  # fmt: skip
    last_at, last = sizes[-1]
    if daily_bytes:
        ahead = last_at + max(timedelta(days=7), (last_at - sizes[0][0]) / 2)
        expected = last + daily_bytes * ((ahead - last_at) / timedelta(days=1))
        axes.plot([last_at, ahead], [last / MEGABYTE, expected / MEGABYTE], ":", color=_KEPT, label="if it goes on so")  # type: ignore[arg-type]  # fmt: skip
    near = limit_bytes is not None and limit_bytes <= LIMIT_DRAWN_FACTOR * last
    if limit_bytes is not None and near:
        axes.axhline(limit_bytes / MEGABYTE, color=_LIMIT, linestyle="--", linewidth=1.2, label="limit")  # fmt: skip
    elif limit_bytes is not None:
        axes.set_title(f"the limit, {size_words(limit_bytes)}, is far above", fontsize=10, color=_LIMIT)  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_ylabel("MB")
    _label_dates(axes)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    grown = last - sizes[0][1]
    words = (
        f"From {sizes[0][0]:%d %B} to {last_at:%d %B} the database went from {size_words(sizes[0][1])} to {size_words(last)}"
        f" ({'+' if grown >= 0 else '-'}{size_words(abs(grown))})."
    )
    return Chart(png_of(figure), words)


def shares(rows: Sequence[tuple[str, float]], unit: str, question: str) -> Chart:
    """Parts of a whole as bars with their share; the longest on top."""
    rows = [row for row in rows if row[1] > 0][::-1]
    if not rows:
        return nothing_to_draw(question)
    figure = new_figure(height_inches=0.9 + 0.42 * len(rows))
    axes = figure.subplots()
    whole = sum(value for _, value in rows)
    for position, (_, value) in enumerate(rows):
        axes.barh(position, value, color=_KEPT, height=0.62)
        axes.text(value, position, f" {100 * value / whole:.0f} %", va="center", fontsize=10)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_xlim(0, max(value for _, value in rows) * 1.18)
    axes.set_xlabel(unit)
    told = ", ".join(f"{name} {100 * value / whole:.0f} %" for name, value in rows[::-1])
    return Chart(png_of(figure), f"{told}.")


def _label_dates(axes: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, DateFormatter

    axes.xaxis.set_major_locator(AutoDateLocator(minticks=2, maxticks=5))
    axes.xaxis.set_major_formatter(DateFormatter("%d %b"))
