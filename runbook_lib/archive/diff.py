"""What differs between two runs: the verdict and the figures first, then the cells."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from runbook_lib.archive.notebook_files import read_notebook
from runbook_lib.archive.store import Store
from runbook_lib.errors import NotFoundError

LONGEST_DIFFERENCE_LINES = 60
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_PARAMETERS = "the run's parameters"


@dataclass(frozen=True)
class Change:
    """One value in A and in B. `percent` is the change of a number, in percent of A's."""

    name: str
    a: Any
    b: Any
    percent: float | None = None


@dataclass(frozen=True)
class CellChange:
    """A cell that differs: `what` is source, output, only in A, or only in B; `lines` a unified diff."""

    cell: str
    what: str
    lines: list[str]


@dataclass(frozen=True)
class Difference:
    """`answer` holds verdict and status, `figures` the results; only what differs is in any of them.

    `cells` is None when a notebook is not in the archive, and `missing` says which.
    """

    a: str
    b: str
    answer: list[Change]
    figures: list[Change]
    parameters: list[Change]
    code: list[Change]
    cells: list[CellChange] | None
    missing: str | None = None

    @property
    def same(self) -> bool:
        return not (self.answer or self.figures or self.parameters or self.code or self.cells)

    def as_record(self) -> dict[str, Any]:
        return {**asdict(self), "same": self.same}


def compare(store: Store, a: dict[str, Any], b: dict[str, Any]) -> Difference:
    """Compares two runs as `entries.find_entry` gives them."""
    cells, missing = _compare_notebooks(store, a, b)
    return Difference(
        a["run_id"],
        b["run_id"],
        answer=_changes({n: a[n] for n in _ANSWER}, {n: b[n] for n in _ANSWER}),
        figures=_changes(flat(a["results"]), flat(b["results"])),
        parameters=_changes(flat(a["parameters"]), flat(b["parameters"])),
        code=_changes({n: a[n] for n in _CODE}, {n: b[n] for n in _CODE}),
        cells=cells,
        missing=missing,
    )


_ANSWER = ("verdict", "status", "error")
_CODE = ("procedure", "source_sha256", "code_commit")


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested values by their paths: `{"queue": {"pending": 3}}` → `{"queue.pending": 3}`."""
    if isinstance(value, dict | list) and value:
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        found: dict[str, Any] = {}
        for part, inside in parts:
            found |= flat(inside, f"{name}.{part}" if name else str(part))
        return found
    return {name: value} if name else {}


def _changes(a: dict[str, Any], b: dict[str, Any]) -> list[Change]:
    names = [*a, *(name for name in b if name not in a)]
    return [
        Change(name, a.get(name), b.get(name), _percent(a.get(name), b.get(name)))
        for name in names
        if a.get(name) != b.get(name) or (name in a) != (name in b)
    ]


def _percent(a: Any, b: Any) -> float | None:
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (a, b))
    return round((b - a) / abs(a) * 100, 2) if numbers and a else None


def _compare_notebooks(
    store: Store, a: dict[str, Any], b: dict[str, Any]
) -> tuple[list[CellChange] | None, str | None]:
    notebooks = []
    for run in (a, b):
        if run["archive_notebook"] is None:
            return None, f"Run {run['run_id']} left no notebook; it {run['status']}."
        try:
            notebooks.append(_cells(store.read(run["archive_notebook"])))
        except NotFoundError as error:
            return None, str(error)
    return list(_cell_changes(*notebooks)), None


def _cells(data: bytes) -> dict[str, Any]:
    """Cells by what makes them the same in two runs: their id, which the template gave them."""
    found = {}
    for number, cell in enumerate(read_notebook(data).cells, start=1):
        injected = "injected-parameters" in cell.metadata.get("tags", [])
        found[_PARAMETERS if injected else cell.get("id") or f"cell {number}"] = cell
    return found


def _cell_changes(a: dict[str, Any], b: dict[str, Any]) -> Iterator[CellChange]:
    for name in [*a, *(name for name in b if name not in a)]:
        if name not in a or name not in b:
            cell = a[name] if name in a else b[name]
            what = "only in A" if name in a else "only in B"
            yield CellChange(name, what, cell.source.splitlines()[:LONGEST_DIFFERENCE_LINES])
            continue
        for what, text in (("source", _source), ("output", _output)):
            if lines := _difference(text(a[name]), text(b[name])):
                yield CellChange(name, what, lines)


def _difference(a: str, b: str) -> list[str]:
    if a == b:
        return []
    lines = list(difflib.unified_diff(a.splitlines(), b.splitlines(), "A", "B", n=1, lineterm=""))
    left_out = len(lines) - LONGEST_DIFFERENCE_LINES
    if left_out <= 0:
        return lines
    return [*lines[:LONGEST_DIFFERENCE_LINES], f"… and {left_out} lines more"]


def _source(cell: Any) -> str:
    return str(cell.source)


def _output(cell: Any) -> str:
    return "\n".join(_words(output) for output in cell.get("outputs", ()))


def _words(output: Any) -> str:
    if output.output_type == "stream":
        return _COLOURS.sub("", output.text)
    if output.output_type == "error":
        return f"{output.ename}: {_COLOURS.sub('', output.evalue)}"
    pictures = [
        f"[{kind} {hashlib.sha256(str(content).encode()).hexdigest()[:12]}]"
        for kind, content in output.data.items()
        if kind.startswith("image/")
    ]
    return "\n".join([str(output.data.get("text/plain", "")), *pictures])
