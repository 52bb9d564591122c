"""What the rows of rehearsals amount to: each measure with its bar, and each miss with what it was taken for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.figures import percentile

Row = dict[str, Any]
FEWEST_HEALTHY, FEWEST_TRIALS = 100, 300


@dataclass(frozen=True)
class Measure:
    """One line of the table. `met` None: too little was run to say."""

    name: str
    value: float
    unit: str
    bar: str
    met: bool | None
    samples: int
    misses: list[str] = field(default_factory=list)


def measures(rows: Iterable[Row]) -> list[Measure]:
    """The table of the catalogue, of what was run."""
    run = [row for row in rows if row["right"] is not None]
    of = lambda *kinds: [row for row in run if row["kind"] in kinds]  # noqa: E731
    named = of("catalogue", "compound", "partial", "held-out")
    found = [
        _share("top cause right, catalogue", of("catalogue"), 95, _right),
        _share("exact set on compound faults", of("compound"), 75, _right),
        _share("milder and partial faults", of("partial"), 95, _right),
        _count("false alarms on healthy systems", of("healthy"), 0, lambda row: not row["right"], fewest=FEWEST_HEALTHY),
        _share("unknown causes called unknown, with the layer", of("unknown"), 90, _right),
        _share("held-out scenes, which no rule was tuned on", of("held-out"), 90, _right),
        _share("control runs as they must be", of("control"), 100, _right),
        _figures(run),
        _share("first action right", [row for row in named if row["truth"]], 95, lambda row: bool(row.get("action_right"))),
        _count("harm done by following the advice", [row for row in run if "outcome" in row], 0, lambda row: bool(row.get("harm")), fewest=FEWEST_TRIALS),
        _seconds("open to verdict, one dependency black-holed, p95", of("black-hole"), 30),
        _seconds("open to verdict, all answering, p95", of("healthy"), 5),
        _share("a verdict in every broken state", of("broken", "black-hole"), 100, _right),
        _count("paid requests by probes and actions", run, 0, lambda row: bool(row.get("paid"))),
    ]  # fmt: skip
    return [measure for measure in found if measure is not None]


def misses(rows: Iterable[Row]) -> list[str]:
    """Each miss with what it was mistaken for, and what could not be staged, with the reason."""
    lines = []
    for row in rows:
        name = title(row)
        if row["right"] is None:
            lines.append(f"not staged {name}: {row['problem']}")
            continue
        if not row["right"]:
            lines.append(f"miss {name}: {row.get('problems') or answered(row)}")
        if row.get("action_problem"):
            lines.append(f"first action {name}: {row['action_problem']}")
        lines += [f"harm {name}: {harm}" for harm in row.get("harm") or ()]
        lines += [f"figure {name}: {figure}" for figure in row.get("figures_amiss") or ()]
    return lines


def title(row: Row) -> str:
    return f"{row['kind']} {row['name']}#{row['seed']}"


def answered(row: Row) -> str:
    """What triage said: the causes, or the verdict with its layer."""
    layer = f", layer {row['layer']}" if row["layer"] else ""
    return " + ".join(row["found"]) or f"{row['verdict']}{layer}"


def _right(row: Row) -> bool:
    return bool(row["right"])


def _share(
    name: str, rows: Sequence[Row], bar: float, is_right: Callable[[Row], bool]
) -> Measure | None:
    if not rows:
        return None
    wrong = [title(row) for row in rows if not is_right(row)]
    share = 100 * (len(rows) - len(wrong)) / len(rows)
    return Measure(name, share, "%", f">= {bar:g} %", share >= bar, len(rows), wrong)


def _count(
    name: str, rows: Sequence[Row], bar: int, counts: Callable[[Row], bool], *, fewest: int = 0
) -> Measure | None:
    if not rows:
        return None
    wrong = [title(row) for row in rows if counts(row)]
    enough = len(rows) >= fewest
    words = f"{bar} in >= {fewest}" if fewest else str(bar)
    met = len(wrong) <= bar if enough or len(wrong) > bar else None
    return Measure(name, len(wrong), f"of {len(rows)}", words, met, len(rows), wrong)


def _seconds(name: str, rows: Sequence[Row], bar: float) -> Measure | None:
    if not rows:
        return None
    worst = percentile([row["seconds"] for row in rows], 95)
    late = [title(row) for row in rows if row["seconds"] > bar]
    return Measure(name, worst, "s", f"<= {bar:g} s", worst <= bar, len(rows), late)


def _figures(rows: Sequence[Row]) -> Measure | None:
    cited = sum(row.get("figures") or 0 for row in rows)
    if not cited:
        return None
    amiss = [f"{title(row)}: {each}" for row in rows for each in row.get("figures_amiss") or ()]
    share = 100 * (cited - len(amiss)) / cited
    return Measure("cited figures that can be had again", share, "%", "100 %", not amiss, cited, amiss)  # fmt: skip
