"""Figures of the reports: few marks, colours that the colour-blind can tell apart, readable on a phone."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runbook_lib.health.rates import rate
from runbook_lib.policy import Thresholds

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Narrow, so that the text is still of a readable size when a phone scales the picture down.
WIDTH_INCHES = 5.6
DOTS_PER_INCH = 160
# Okabe and Ito's palette; hatches tell the outcomes apart on paper as well.
_OUTCOMES = {
    "completed": ("#0072B2", ""),
    "error": ("#D55E00", "///"),
    "lost": ("#CC79A7", "xxx"),
    "left_out": ("#F0E442", "..."),
    "released": ("#BBBBBB", ""),
}
_INK, _LIMIT = "#30363d", "#7a1f1f"
_MOST_DAYS_LABELLED = 10
_VERDICTS = {"ok": ("#0072B2", ""), "warning": ("#E69F00", "..."), "critical": ("#D55E00", "///")}
# A figure far above its threshold would leave no room for the others.
_LONGEST_SHARE_PERCENT = 300.0


@dataclass(frozen=True)
class Chart:
    """A picture and what it shows in words, for those who cannot see it."""

    png: bytes
    words: str

    def __repr__(self) -> str:
        return self.words

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        bundle = {
            "image/png": base64.b64encode(self.png).decode("ascii"),
            "text/plain": self.words,
        }
        return bundle, {"image/png": {"alt": self.words}}


def runs_by_day(by_day: pandas.DataFrame, thresholds: Thresholds | None = None) -> Chart:
    """Attempts by day and outcome above, the share of failures with its thresholds below."""
    return _runs(by_day, thresholds or Thresholds(), "day", _label_days)


def runs_by_hour(by_hour: pandas.DataFrame, thresholds: Thresholds | None = None) -> Chart:
    """As `runs_by_day`, for the hours of one day."""
    return _runs(by_hour, thresholds or Thresholds(), "hour", _label_hours)


def shares_of_thresholds(shares: Sequence[tuple[str, str, float]]) -> Chart:
    """How much of its threshold each figure has used up, as (name, verdict, percent); a line at 100 %."""
    if not shares:
        return _nothing_to_draw("No check answered with a figure that has a threshold.")
    rows = sorted((row for row in shares if row[2] >= 1), key=lambda row: row[2])
    if not rows:
        return _nothing_to_draw(f"All {len(shares)} figures are below 1 % of their thresholds.")
    figure = new_figure(height_inches=0.9 + 0.34 * len(rows))
    axes = figure.subplots()
    for position, (_, verdict, percent) in enumerate(rows):
        colour, hatch = _VERDICTS[verdict]
        shown = min(percent, _LONGEST_SHARE_PERCENT)
        axes.barh(position, shown, color=colour, hatch=hatch, edgecolor="white", height=0.66)
        axes.text(shown + 2, position, f"{percent:,.0f} %", va="center", fontsize=10)
    axes.axvline(100, color=_LIMIT, linestyle="--", linewidth=1.2)
    axes.text(101, len(rows) - 0.4, "threshold", color=_LIMIT, fontsize=10, va="bottom")
    axes.set_yticks(
        range(len(rows)),
        [name.replace(".", ".\n", 1) if len(name) > 26 else name for name, _, _ in rows],
    )
    axes.tick_params(axis="y", labelsize=10)
    axes.set_xlim(0, max(125.0, min(rows[-1][2], _LONGEST_SHARE_PERCENT) * 1.16))
    rest = len(shares) - len(rows)
    axes.set_xlabel("% of the threshold" + (f"; {rest} more are below 1 %" if rest else ""))
    over = [name for name, _, percent in rows if percent > 100]
    words = f"{len(shares)} figures beside their thresholds; above it: {', '.join(over) or 'none'}."
    return _chart(figure, words)


def _runs(
    frame: pandas.DataFrame,
    limits: Thresholds,
    noun: str,
    label: Callable[[Axes, pandas.DataFrame], None],
) -> Chart:
    if frame.empty or not frame["attempts"].sum():
        return _nothing_to_draw(f"No attempt ended in these {noun}s.")
    figure = new_figure(height_inches=5.2)
    counts, shares = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    _draw_counts(counts, frame)
    _draw_shares(shares, frame, limits)
    label(shares, frame)
    critical = limits.failure_rate_critical_percent
    above = int((frame["failures_percent"] > critical).sum())
    empty = int((frame["attempts"] == 0).sum())
    words = (
        f"Attempts by {noun} and outcome: {int(frame['attempts'].sum())} attempts in {len(frame)} {noun}s, "
        f"{empty} of them without any; failures above {critical:g} % in {above}."
    )
    return _chart(figure, words)


def durations(by_stage: pandas.DataFrame, average_limit_seconds: float) -> Chart:
    """Median, 95th and 99th percentile of each stage, and the limit of the average."""
    if by_stage.empty:
        return _nothing_to_draw("No attempt completed in these days.")
    figure = new_figure(height_inches=1.5 + 0.7 * len(by_stage))
    axes = figure.subplots()
    rows = by_stage.to_dict("records")[::-1]
    for position, row in enumerate(rows):
        _draw_percentiles(axes, position, row)
    axes.set_yticks(
        range(len(rows)), [f"{row['stage']}\n{row['attempts']} attempts" for row in rows]
    )
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.axvline(average_limit_seconds, color=_LIMIT, linestyle="--", linewidth=1.2)
    longest = max(float(by_stage["longest_seconds"].max()), average_limit_seconds)
    axes.set_xlim(0, longest * 1.08)
    axes.text(average_limit_seconds, len(rows) - 0.42, f" average ≤ {average_limit_seconds:g} s",
              color=_LIMIT, fontsize=10, va="bottom",
              ha="left" if average_limit_seconds < longest * 0.6 else "right")  # fmt: skip
    axes.set_xlabel("seconds")
    handles = [
        axes.plot([], [], linestyle="", marker=marker, color=colour, label=label)[0]
        for _, label, marker, colour in _PERCENTILES
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    told = [f"{row['stage']}: half within {row['p50_seconds']:.2f} s" for row in rows[::-1]]
    return _chart(figure, "Durations by stage. " + ", ".join(told) + ".")


_PERCENTILES = (
    ("p50_seconds", "half", "o", "#0072B2"),
    ("p95_seconds", "95 %", "D", "#D55E00"),
    ("p99_seconds", "99 %", "s", "#CC79A7"),
    ("longest_seconds", "longest", "|", _INK),
)


def _draw_percentiles(axes: Axes, position: int, row: Mapping[Hashable, Any]) -> None:
    axes.hlines(position, 0, row["longest_seconds"], color="#d0d5da", linewidth=5, zorder=1)
    for column, _, marker, colour in _PERCENTILES:
        value = row[column]
        if value == value:
            axes.plot(value, position, marker, color=colour, markersize=9, zorder=2)
    axes.annotate(f"{row['p50_seconds']:.2f} s", (row["p50_seconds"], position), xytext=(-5, 9),
                  textcoords="offset points", fontsize=10)  # fmt: skip


def _draw_counts(axes: Axes, by_day: pandas.DataFrame) -> None:
    bottom = by_day["completed"] * 0
    for outcome, (colour, hatch) in _OUTCOMES.items():
        if by_day[outcome].sum():
            axes.bar(range(len(by_day)), by_day[outcome], bottom=bottom, color=colour, hatch=hatch,
                     edgecolor="white", linewidth=0.5, label=outcome.replace("_", " "))  # fmt: skip
            bottom = bottom + by_day[outcome]
    tallest = float(bottom.max())
    for position, total in enumerate(bottom):
        if not total:
            axes.text(position, tallest * 0.02, "no data", rotation=90, ha="center", va="bottom",
                      fontsize=10, color="#6b7480")  # fmt: skip
    axes.set_ylim(0, tallest * 1.05)
    axes.locator_params(axis="y", integer=True)
    axes.set_ylabel("attempts")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=10.5,
                columnspacing=1, handlelength=1.4)  # fmt: skip


def _draw_shares(axes: Axes, by_day: pandas.DataFrame, limits: Thresholds) -> None:
    highest = 0.0
    for position, row in enumerate(by_day.to_dict("records")):
        failed = row["error"] + row["lost"]
        share = rate(failed, failed + row["completed"])
        if share.percent is None or share.low_percent is None or share.high_percent is None:
            continue
        below, above = share.percent - share.low_percent, share.high_percent - share.percent
        axes.errorbar(position, share.percent, [[below], [above]], color=_INK, fmt="o",
                      markersize=5, capsize=3, linewidth=1)  # fmt: skip
        highest = max(highest, share.high_percent)
    top = min(103.0, max(30.0, highest * 1.1))
    axes.set_ylim(-2, top)
    # One label above its line and one below: on a long scale the lines are close together.
    for limit, word, style, side in (
        (limits.failure_rate_warning_percent, "warning", ":", "top"),
        (limits.failure_rate_critical_percent, "critical", "--", "bottom"),
    ):
        axes.axhline(limit, color=_LIMIT, linestyle=style, linewidth=1.2, zorder=0)
        axes.text(1.0, limit, f"{word} > {limit:g} %", color=_LIMIT, fontsize=10, ha="right",
                  va=side, transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set_ylabel("failures %")


def _label_days(axes: Axes, by_day: pandas.DataFrame) -> None:
    step = -(-len(by_day) // _MOST_DAYS_LABELLED)
    shown = range(0, len(by_day), step)
    axes.set_xticks(list(shown), [f"{by_day['day'].iloc[at]:%a\n%d %b}" for at in shown])
    axes.set_xlim(-0.7, len(by_day) - 0.3)


def _label_hours(axes: Axes, by_hour: pandas.DataFrame) -> None:
    # Of more than a day also the weekday, and not more labels than there is room for.
    step = max(3, -(-len(by_hour) // _MOST_DAYS_LABELLED))
    form = "%a\n%H:%M" if len(by_hour) > 25 else "%H:%M"
    shown = range(0, len(by_hour), step)
    axes.set_xticks(list(shown), [by_hour["hour"].iloc[at].strftime(form) for at in shown])
    axes.set_xlim(-0.7, len(by_hour) - 0.3)


def new_figure(height_inches: float) -> Figure:
    """An empty figure in the reports' style."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams.update({"font.size": 11.5, "axes.edgecolor": _INK, "text.color": _INK,
                     "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
                     "axes.spines.top": False, "axes.spines.right": False})  # fmt: skip
    return Figure(figsize=(WIDTH_INCHES, height_inches), dpi=DOTS_PER_INCH, layout="constrained")


def _nothing_to_draw(reason: str) -> Chart:
    figure = new_figure(height_inches=1.2)
    figure.text(0.5, 0.5, reason, ha="center", va="center")
    return _chart(figure, reason)


def _chart(figure: Figure, words: str) -> Chart:
    return Chart(png_of(figure), words)


def png_of(figure: Figure, dots_per_inch: float = DOTS_PER_INCH) -> bytes:
    """The picture's file. No software name and no date is in it: the same figures make the same bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return file.getvalue()
