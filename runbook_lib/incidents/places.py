"""Where a notebook stands: a responder's working copy, or the procedures' folder.

A responder's folder is `RUNBOOK_HOME/incidents/INCIDENT/NAME/`; a file in it says whose it is, so that a
kernel knows incident and person by the folder that it was started in, whatever program started it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

MARK = "incident.json"
# A notebook stands at most so many folders below its responder's.
DEEPEST = 4
_TEMPLATES = Path(__file__).resolve().parent.parent.parent / "notebooks"


@dataclass(frozen=True)
class Mark:
    """What the file in a responder's folder says."""

    incident: str
    actor: str
    home: str


@dataclass(frozen=True)
class Place:
    """Where notebooks of one folder belong: to an incident and a person, or to none (`mark` is None)."""

    root: Path
    mark: Mark | None = None

    def name_of(self, notebook: Path) -> str:
        """A notebook's name in this place: `emergency/system_down`."""
        return notebook.relative_to(self.root).with_suffix("").as_posix()


def write_mark(folder: Path, mark: Mark) -> None:
    (folder / MARK).write_text(json.dumps(asdict(mark)) + "\n", "utf-8")


def read_mark(folder: Path) -> Mark | None:
    """What a folder's file says; None when there is none, or it says something else."""
    try:
        found = json.loads((folder / MARK).read_text("utf-8"))
        return Mark(str(found["incident"]), str(found["actor"]), str(found["home"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def place_of(directory: Path) -> Place | None:
    """The place that a folder is in; None for a folder that is no concern of ours."""
    directory = directory.resolve()
    for folder in [directory, *directory.parents][: DEEPEST + 1]:
        if mark := read_mark(folder):
            return Place(folder, mark)
    for templates in (_TEMPLATES, os.environ.get("RUNBOOK_PROCEDURES")):
        if templates and directory.is_relative_to(root := Path(templates).resolve()):
            return Place(root)
    return None
