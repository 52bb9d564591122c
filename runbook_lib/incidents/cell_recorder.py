"""Tells the timeline of each cell, from inside the kernel: before it runs, and after it.

Recorded are who, when, which cell by id, number and heading, how it ended, how long it took, and the verdict
that it concluded or showed. Neither its source nor its outputs are: they may hold anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runbook_lib.database import Database, open_reachable_or_not
from runbook_lib.incidents.places import Place
from runbook_lib.incidents.records import run_of_copy
from runbook_lib.incidents.timeline import Timeline, TimelineEntry
from runbook_lib.procedures import recorder
from runbook_lib.settings import current_actor, load_settings
from runbook_lib.spool import open_spool

VERDICTS = (*recorder.VERDICTS, "not_allowed")
_HEADING = re.compile(r"^#{1,6}\s+(.+)$", re.MULTILINE)


class CellRecorder:
    """One kernel's recorder. A cell may execute another one inside it: the innermost ends first."""

    def __init__(self, place: Place, namespace: Mapping[str, Any]) -> None:
        settings = load_settings()
        self._place = place
        self._actor = place.mark.actor if place.mark else current_actor()
        self._incident = place.mark.incident if place.mark else None
        self._notebooks = _Notebooks(place, namespace)
        self._timeline = Timeline(_database, open_spool(settings))
        self._running: list[tuple[TimelineEntry, float]] = []
        self._heard: dict[str, Any] | None = None
        recorder.LISTENERS.append(self._hear)
        os.register_at_fork(after_in_child=self._in_a_child)
        self._process = os.getpid()

    def before(self, info: Any) -> None:
        """Writes the entry of a cell that is about to run."""
        if os.getpid() != self._process:
            return
        self._heard = None
        source = str(info.raw_cell or "")
        notebook, cell = self._notebooks.find(getattr(info, "cell_id", None), source)
        entry = TimelineEntry(
            "cell", self._actor, self._incident, status="started", notebook=notebook,
            run_id=self._run_of(notebook), cell_id=getattr(info, "cell_id", None),
            source_sha256=hashlib.sha256(source.encode("utf-8", "replace")).hexdigest(), **cell,
        )  # fmt: skip
        try:
            self._timeline.write(entry)
        finally:
            self._running.append((entry, time.monotonic()))

    def after(self, result: Any) -> None:
        """Completes the entry of the cell that has just ended."""
        if os.getpid() != self._process or not self._running:
            return
        entry, begun = self._running.pop()
        seconds = time.monotonic() - begun
        error = result.error_before_exec or result.error_in_exec
        status = "succeeded" if error is None else "failed"
        if isinstance(error, KeyboardInterrupt):
            status = "interrupted"
        verdict, said = self._verdict(result.result)
        self._timeline.write(
            entry.ended(
                status, round(seconds, 3), verdict=verdict, said=said,
                error=None if error is None else type(error).__name__,
            )
        )  # fmt: skip

    def _run_of(self, notebook: str | None) -> str | None:
        """A copy is one run: what its cells change is recorded as that run's."""
        if self._incident is None or notebook is None:
            return None
        run_id = run_of_copy(self._incident, self._actor, notebook)
        os.environ["RUNBOOK_RUN_ID"] = run_id
        return run_id

    def _hear(self, conclusion: dict[str, Any]) -> None:
        self._heard = conclusion

    def _verdict(self, shown: Any) -> tuple[str | None, str | None]:
        """What the cell concluded, else what the check says that it showed."""
        if self._heard is not None:
            return self._heard["verdict"], self._heard["summary"] or None
        if not type(shown).__module__.startswith("runbook_lib."):
            return None, None
        try:
            check = getattr(shown, "check", shown)
            verdict, message = getattr(check, "verdict", None), getattr(check, "message", None)
        except Exception:
            return None, None
        return (verdict, message) if verdict in VERDICTS else (None, None)

    def _in_a_child(self) -> None:
        self._timeline.leave_to_parent()


def _database() -> Database:
    return open_reachable_or_not(load_settings(), "runbook timeline")


class _Notebooks:
    """Finds the notebook that a cell stands in, and the cell's number and heading.

    Jupyter's servers and editors name the notebook. Where nobody does, it is the one beside the kernel
    that holds every cell executed so far; while several do, it is not known yet.
    """

    def __init__(self, place: Place, namespace: Mapping[str, Any]) -> None:
        self._place = place
        named = Path(
            os.environ.get("JPY_SESSION_NAME") or namespace.get("__vsc_ipynb_file__") or ""
        )
        known = named.suffix == ".ipynb" and named.is_absolute()
        self._beside = Path.cwd().resolve()
        self._possible = [named.resolve()] if known else sorted(self._beside.glob("*.ipynb"))
        self._named = known

    def find(self, cell_id: str | None, source: str) -> tuple[str | None, dict[str, Any]]:
        """The notebook's name, and what is known of the cell."""
        held = self._holding(self._possible, cell_id, source)
        if not held and not self._named:
            # The kernel went on with another notebook, or one was added.
            held = self._holding(sorted(self._beside.glob("*.ipynb")), cell_id, source)
        if held and not self._named:
            self._possible = list(held)
        if len(self._possible) != 1 or not self._possible[0].is_relative_to(self._place.root):
            return None, {}
        path = self._possible[0]
        cell = held.get(path, {})
        return self._place.name_of(path), {name: cell[name] for name in _KNOWN if name in cell}

    @staticmethod
    def _holding(paths: list[Path], cell_id: str | None, source: str) -> dict[Path, dict[str, Any]]:
        """The notebooks that hold this cell: by its id, else by its text."""
        found = {path: _cells(path) for path in paths}
        by_id = {path: cells[cell_id or ""] for path, cells in found.items() if cell_id in cells}
        same = {
            path: cell for path, cells in found.items() if (cell := _same_source(cells, source))
        }
        both = {path: cell for path, cell in by_id.items() if path in same}
        return both or by_id or same


_KNOWN = ("cell_number", "cell_count", "cell_title")


def _same_source(cells: dict[str, dict[str, Any]], source: str) -> dict[str, Any] | None:
    """The cell with this text, for programs that do not say which cell they execute."""
    found = [cell for cell in cells.values() if cell["source"].strip() == source.strip()]
    return found[0] if len(found) == 1 else None


def _cells(path: Path) -> dict[str, dict[str, Any]]:
    """The code cells of a notebook by their id, as it stands on disk now."""
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        found: dict[str, dict[str, Any]] = {}
        title = ""
        code = [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]  # fmt: skip
        for cell in cells:
            source = "".join(cell["source"])
            if cell["cell_type"] != "code" and (headings := _HEADING.findall(source)):
                title = headings[-1].strip()
            elif cell in code:
                found[cell.get("id", f"cell {len(found) + 1}")] = {
                    "cell_number": len(found) + 1, "cell_count": len(code), "cell_title": title,
                    "source": source,
                }  # fmt: skip
        return found
    except (OSError, ValueError, KeyError, TypeError):
        return {}
