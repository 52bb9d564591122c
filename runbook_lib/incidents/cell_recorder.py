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

    def __init__(self, place: Place) -> None:
        settings = load_settings()
        self._place = place
        self._actor = place.mark.actor if place.mark else current_actor()
        self._incident = place.mark.incident if place.mark else None
        self._notebooks = _Notebooks(place)
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
        self._running.append((entry, time.monotonic()))
        self._timeline.write(entry)

    def after(self, result: Any) -> None:
        """Completes the entry of the cell that has just ended."""
        if os.getpid() != self._process or not self._running:
            return
        entry, begun = self._running.pop()
        error = result.error_before_exec or result.error_in_exec
        status = "succeeded" if error is None else "failed"
        if isinstance(error, KeyboardInterrupt):
            status = "interrupted"
        verdict, said = self._verdict(result.result)
        self._timeline.write(
            entry.ended(
                status, round(time.monotonic() - begun, 3), verdict=verdict, said=said,
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
    """Finds the notebook that a cell stands in, and the cell's number and heading."""

    def __init__(self, place: Place) -> None:
        self._place = place
        named = Path(os.environ.get("JPY_SESSION_NAME") or "")
        self._named = named.resolve() if named.suffix == ".ipynb" and named.is_absolute() else None
        self._beside = Path.cwd()
        self._found: Path | None = None

    def find(self, cell_id: str | None, source: str) -> tuple[str | None, dict[str, Any]]:
        """The notebook's name, and what is known of the cell."""
        for path in self._candidates():
            cells = _cells(path)
            cell = cells.get(cell_id or "") or _same_source(cells, source)
            if cell is not None:
                self._found = path
                return self._place.name_of(path), {name: cell[name] for name in _KNOWN}
        known = self._named if self._named in self._candidates() else self._found
        return (self._place.name_of(known) if known else None), {}

    def _candidates(self) -> list[Path]:
        if self._named is not None and self._named.is_relative_to(self._place.root):
            return [self._named]
        beside = sorted(self._beside.glob("*.ipynb"))
        return [self._found, *beside] if self._found in beside and self._found else beside


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
