"""How benchmarks report: a JSON line per figure, and the raw samples in a file."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Figure:
    """One measured figure. `ratio` is value / what `against` names, from the same run."""

    name: str
    value: float
    unit: str
    ratio: float | None
    against: str | None
    bar: str | None
    met: bool | None


REPORTED: list[Figure] = []


def report(
    name: str,
    value: float,
    unit: str,
    *,
    ratio: float | None = None,
    against: str | None = None,
    bar: str | None = None,
    met: bool | None = None,
    samples: Any = None,
) -> Figure:
    """Prints one figure as a JSON line and writes it with its raw samples to benchmarks/results/.

    `bar` says in words what must be reached, `met` whether it was.
    """
    figure = Figure(
        name, _short(value), unit, None if ratio is None else _short(ratio), against, bar, met
    )
    REPORTED.append(figure)
    print(json.dumps(asdict(figure), ensure_ascii=False), flush=True)
    _keep(figure, samples)
    return figure


@dataclass(frozen=True)
class Pairs:
    """Samples of two things measured in turns, so that a slow moment of the machine hits both."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def our_median(self) -> float:
        return statistics.median(self.ours)

    @property
    def their_median(self) -> float:
        return statistics.median(self.theirs)

    @property
    def ratio(self) -> float:
        """The median of the pairs' ratios, ours / theirs."""
        return statistics.median(
            our / their for our, their in zip(self.ours, self.theirs, strict=True)
        )


def interleaved(pairs: int, ours: Callable[[], float], theirs: Callable[[], float]) -> Pairs:
    """Measures both `pairs` times, in turns; who goes first alternates."""
    measured = Pairs()
    for number in range(pairs):
        turns = [(ours, measured.ours), (theirs, measured.theirs)]
        for measure, samples in turns if number % 2 == 0 else reversed(turns):
            samples.append(measure())
    return measured


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that at least `percent` of all samples do not exceed (nearest rank)."""
    ordered = sorted(samples)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def _short(value: float) -> float:
    return float(f"{value:.4g}") if abs(value) < 1000 else round(value)


def _keep(figure: Figure, samples: Any) -> None:
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    machine = {
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    content = {
        **asdict(figure),
        "measured_at": now.isoformat(),
        "machine": machine,
        "samples": samples,
    }
    file_name = (
        f"{re.sub(r'[^A-Za-z0-9]+', '_', figure.name).strip('_')}-{now:%Y%m%dT%H%M%S%f}.json"
    )
    (RESULTS / file_name).write_text(
        json.dumps(content, ensure_ascii=False, indent=1, default=str) + "\n"
    )
