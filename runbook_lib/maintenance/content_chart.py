"""Good and bad posts by day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta

from runbook_lib.health.charts import Chart, new_figure, png_of

_GOOD, _BAD = "#0072B2", "#D55E00"
_MOST_DAYS_LABELLED = 8
_MOST_DAYS = 366


def posts_by_day(posts: Sequence[date], bad: Sequence[date]) -> Chart:
    """Two bars on each other a day: what is bad is hatched, and its number stands above it."""
    figure = new_figure(height_inches=3.0)
    if not posts and not bad:
        figure.text(0.5, 0.5, "No post in these days.", ha="center", va="center")
        return Chart(png_of(figure), "No post in these days.")
    first, last = min([*posts, *bad]), max([*posts, *bad])
    first = max(first, last - timedelta(days=_MOST_DAYS))
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    wrong, every = Counter(bad), Counter(posts)
    heights = [wrong[day] for day in days]
    good = [max(0, every[day] - wrong[day]) for day in days]
    axes = figure.subplots()
    axes.bar(range(len(days)), good, color=_GOOD, label="good")
    axes.bar(range(len(days)), heights, bottom=good, color=_BAD, hatch="///", edgecolor="white", label="bad")  # fmt: skip
    for position, count in enumerate(heights):
        if count:
            axes.annotate(str(count), (position, good[position] + count), ha="center", va="bottom", fontsize=10)  # fmt: skip
    step = -(-len(days) // _MOST_DAYS_LABELLED)
    shown = range(0, len(days), step)
    axes.set_xticks(list(shown), [f"{days[at]:%a\n%d %b}" for at in shown])
    axes.set_ylabel("posts")
    axes.locator_params(axis="y", integer=True)
    axes.margins(y=0.15)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=10.5)
    begin = f"; the first bad one on {min(bad)}" if bad else ""
    return Chart(png_of(figure), f"{len(posts)} posts by day, {len(bad)} of them bad{begin}.")
