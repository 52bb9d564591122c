"""The figure of triage: the way of a job, layer by layer, and where it breaks."""

from __future__ import annotations

from collections.abc import Sequence

from runbook_lib.credentials.masking import one_line
from runbook_lib.health.charts import Chart, new_figure, png_of

# Okabe and Ito's colours; a mark beside each, for whoever cannot tell them apart.
_STATES = {
    "broken": ("#D55E00", "✕", "broken"),
    "look": ("#E69F00", "!", "worth a look"),
    "works": ("#0072B2", "•", "does its work"),
    "not known": ("#BBBBBB", "?", "not known"),
}
_WAY = 9


def draw_layers(layers: Sequence[tuple[str, str, str]], words: str) -> Chart:
    """Layers from top to bottom: the way of a job, then those who carry it."""
    figure = new_figure(height_inches=0.6 + 0.36 * len(layers))
    axes = figure.subplots()
    for position, (name, state, told) in enumerate(layers):
        colour, mark, label = _STATES[state]
        y = len(layers) - position - (0.5 if position >= _WAY else 0.0)
        axes.plot([0], [y], marker="o", markersize=15, color=colour)
        axes.text(
            0, y, mark, color="white", ha="center", va="center", fontsize=11, fontweight="bold"
        )
        axes.text(
            0.5,
            y,
            name,
            ha="left",
            va="center",
            fontsize=11,
            fontweight="bold" if state == "broken" else "normal",
        )
        axes.text(
            3.1,
            y,
            one_line(told, 46) if told else label,
            ha="left",
            va="center",
            fontsize=9,
            color=colour if state == "broken" else "#30363d",
        )
        if 0 < position < _WAY:
            broken = state == "broken" or layers[position - 1][1] == "broken"
            axes.plot(
                [0, 0],
                [y + 0.28, y + 0.72],
                color="#D55E00" if broken else "#0072B2",
                linewidth=2,
                linestyle=":" if broken else "-",
                zorder=0,
            )
    axes.set_xlim(-0.5, 10)
    axes.set_ylim(-0.2, len(layers) + 0.7)
    axes.set_axis_off()
    stopped = [name for name, state, _ in layers if state == "broken"]
    return Chart(
        png_of(figure),
        f"The layers, from outside in; broken: {', '.join(stopped) or 'none'}. {one_line(words, 200)}",
    )
