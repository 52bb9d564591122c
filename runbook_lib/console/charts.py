"""Charts as SVG inside the page: no script, no picture from elsewhere, readable in light and dark.

Colours are Okabe and Ito's, and outcomes differ in pattern as well. Each chart has its figures in words
and as a table beside it, for those who cannot see it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

WIDTH, HEIGHT = 440, 170
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 16, 26
OUTCOMES = ("completed", "error", "lost", "left_out", "released")
# They are told apart by stripes as well, for whoever sees no colours.
_STRIPED = {"error": "M0 6L6 0", "lost": "M0 0L6 6M0 6L6 0", "left_out": "M0 3H6"}
_LABELS = 4

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """A series: the column it comes from, its name, and how it is drawn."""

    column: str
    name: str
    style: str = "line"


@dataclass(frozen=True)
class Limit:
    """A threshold that is drawn across a chart."""

    value: float
    name: str
    style: str = "limit"


@dataclass(frozen=True)
class Chart:
    """A drawing, what it shows in words, and its figures: headings and rows."""

    title: str
    svg: Markup
    words: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    legend: Sequence[tuple[str, Markup]]


def outcomes(title: str, rows: Sequence[Row], label: Callable[[Row], str], words: str) -> Chart:
    """Bars of attempts, one a row, stacked by outcome. A row without attempts is a gap, and said to be one."""
    present = [name for name in OUTCOMES if any(row[name] for row in rows)]
    top = _nice(max((sum(row[name] or 0 for name in OUTCOMES) for row in rows), default=0) or 1)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(rows))
    parts = [_patterns(present), _grid(top, "")]
    for place, row in enumerate(rows):
        x, bottom = LEFT + place * step, 0.0
        for name in present:
            value = row[name] or 0
            if value:
                parts.append(_bar(x + step * 0.12, bottom, value, step * 0.76, top, name))
                bottom += value
    parts.append(_labels([label(row) for row in rows], step))
    return Chart(
        title, _svg(title, words, parts), words, ["", *(_words(name) for name in present)],
        [[label(row), *(str(row[name] or 0) for name in present)] for row in rows],
        [(_words(name), _swatch(name)) for name in present],
    )  # fmt: skip


def lines(
    title: str, rows: Sequence[Row], label: Callable[[Row], str], series: Sequence[Line],
    words: str, *, unit: str, limits: Sequence[Limit] = (), highest: float | None = None,
) -> Chart:  # fmt: skip
    """Lines over time with thresholds. Where nothing is known the line breaks: no data is not 0."""
    values = [row[each.column] for row in rows for each in series if row[each.column] is not None]
    top = highest or _nice(max([*values, *(limit.value * 1.1 for limit in limits)], default=1) or 1)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(rows))
    series = [each for each in series if any(row[each.column] is not None for row in rows)]
    parts = [_grid(top, unit)]
    for each in series:
        parts += _line([row[each.column] for row in rows], step, top, each.style)
    parts += [_limit(limit, top) for limit in limits if limit.value <= top]
    parts.append(_labels([label(row) for row in rows], step))
    shown = [
        [label(row), *("–" if row[each.column] is None else f"{row[each.column]:.1f}" for each in series)]
        for row in rows
    ]  # fmt: skip
    legend = [(each.name, _dash(each.style)) for each in series] if len(series) > 1 else []
    return Chart(
        title,
        _svg(title, words, parts),
        words,
        ["", *(each.name for each in series)],
        shown,
        legend,
    )


def _svg(title: str, words: str, parts: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}. {words}" '
        'preserveAspectRatio="xMidYMid meet">{parts}</svg>'
    ).format(width=WIDTH, height=HEIGHT, title=title, words=words, parts=Markup("").join(parts))


def _y(value: float, top: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(value, top) / top)


def _grid(top: float, unit: str) -> Markup:
    drawn = Markup("")
    for share in (0.0, 0.5, 1.0):
        y, value = _y(top * share, top), top * share
        drawn += Markup(
            '<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            '<text x="{x}" y="{below:.1f}" text-anchor="end">{value:g}{unit}</text>'
        ).format(
            left=LEFT, right=WIDTH - RIGHT, y=y, x=LEFT - 5, below=y + 4, value=value, unit=unit
        )
    return drawn


def _bar(x: float, bottom: float, value: float, width: float, top: float, name: str) -> Markup:
    y = _y(bottom + value, top)
    box = Markup('x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"').format(
        x=x, y=y, width=width, height=max(0.8, _y(bottom, top) - y)
    )
    drawn = Markup('<rect class="fill-{}" {}/>').format(name, box)
    if name in _STRIPED:
        drawn += Markup('<rect fill="url(#stripes-{})" {}/>').format(name, box)
    return drawn


def _patterns(names: Sequence[str]) -> Markup:
    found = Markup("").join(
        Markup(
            '<pattern id="stripes-{}" width="6" height="6" patternUnits="userSpaceOnUse">'
            '<path class="stripe" d="{}"/></pattern>'
        ).format(name, _STRIPED[name])
        for name in names
        if name in _STRIPED
    )
    return Markup("<defs>{}</defs>").format(found)


def _line(values: Sequence[float | None], step: float, top: float, style: str) -> list[Markup]:
    drawn, run = [], []
    for place, value in enumerate([*values, None]):
        if value is not None:
            run.append((LEFT + (place + 0.5) * step, _y(value, top)))
            continue
        if len(run) > 1:
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in run)
            drawn.append(Markup('<polyline class="{}" points="{}"/>').format(style, points))
        # A figure whose neighbours are not known would be invisible as a line.
        drawn += [
            Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="2.6"/>').format(x, y)
            for x, y in run[: 1 if len(run) == 1 else 0]
        ]
        run = []
    return drawn


def _limit(limit: Limit, top: float) -> Markup:
    y = _y(limit.value, top)
    return Markup(
        '<line class="{style}" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        '<text class="{style}-label" x="{begin}" y="{above:.1f}">{name}</text>'
    ).format(
        style=limit.style, left=LEFT, right=WIDTH - RIGHT, begin=LEFT + 4, y=y,
        # The stronger one above its line and the weaker one below, so that they do not meet.
        above=y - 4 if limit.style == "limit" else y + 12,
        name=limit.name,
    )  # fmt: skip


def _labels(labels: Sequence[str], step: float) -> Markup:
    every = max(1, -(-len(labels) // _LABELS))
    return Markup("").join(
        Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            min(max(LEFT + (place + 0.5) * step, LEFT + 14), WIDTH - RIGHT - 18), HEIGHT - 8, text
        )
        for place, text in enumerate(labels)
        if place % every == 0
    )


def _swatch(name: str) -> Markup:
    stripes = Markup('<rect fill="url(#stripes-{})" width="14" height="14"/>').format(name)
    return Markup('<svg viewBox="0 0 14 14" aria-hidden="true"><rect class="fill-{}" width="14" height="14" rx="2"/>{}</svg>').format(
        name, stripes if name in _STRIPED else ""
    )  # fmt: skip


def _dash(style: str) -> Markup:
    return Markup(
        '<svg viewBox="0 0 14 14" aria-hidden="true"><path class="{}" d="M0 7H14"/></svg>'
    ).format(style)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _nice(value: float) -> float:
    """The next number of the form 1, 2, 4, 5 or 10 × 10ⁿ: an axis that reads well."""
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next(power * each for each in (1, 2, 4, 5, 10) if power * each >= value)
