"""Working copies: the notebooks that one responder works in, in a folder of their own.

Procedures are never edited in place. A copy has no outputs, keeps its links to the other copies, and says in
its metadata what it was made from; what its alert names is filled in as the runner fills parameters in.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.archive.notebook_files import notebook_bytes, read_notebook, replace_atomically
from runbook_lib.errors import CouldNotBeDone, NotFoundError, RunbookError, UsageError
from runbook_lib.incidents.places import Mark, read_mark, write_mark
from runbook_lib.procedures import catalogue, evidence
from runbook_lib.procedures.catalogue import Procedure
from runbook_lib.procedures.parameters import ParametersRefused, check, plain
from runbook_lib.settings import PROJECT_DIRECTORY, Settings

# In a copy's metadata: the procedure and the digest of the notebook that it was made from.
METADATA_KEY = "runbook_copy"
_PAGES = ("*.md", "start_here.ipynb")
# What is opened where no alert says it: which one do I need, and what is wrong?
_BEGINNINGS = ("start_here.ipynb", "emergency/system_down.ipynb")
_MOST_COPIES = 50
_LONGEST_CELL_ID = 64


@dataclass(frozen=True)
class Copies:
    """One responder's folder. `opens` is the notebook to begin with; `notices` is what did not go well."""

    folder: Path
    opens: Path | None = None
    notices: tuple[str, ...] = ()


def incidents_folder(settings: Settings) -> Path:
    return settings.runbook_home / "incidents"


def make_copies(
    settings: Settings,
    incident: str,
    actor: str,
    procedure: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Copies:
    """A responder's folder with a copy of every procedure; what is there already stays as it is.

    `procedure` is the one to begin with, with these values filled in. What does not fit is said, and the
    copies are made all the same. Raises `CouldNotBeDone` when the disk does not take them.
    """
    notices: list[str] = []
    try:
        folder = _folder(settings, incident, actor)
        for name, path in catalogue.names(settings).items():
            try:
                _copy(folder / f"{name}.ipynb", catalogue.load(name, path), {}, renew=False)
            except UsageError as error:
                notices.append(str(error))
        _copy_pages(folder)
        opens = None
        if procedure is not None:
            opens = _begin_with(folder, procedure, dict(parameters or {}), settings, notices)
        opens = opens or next(
            (folder / name for name in _BEGINNINGS if (folder / name).exists()), None
        )
    except OSError as error:
        raise CouldNotBeDone(
            f"The working copies could not be made: {error.strerror or error}. Free some space at "
            f"{settings.runbook_home}."
        ) from error
    return Copies(folder, opens, tuple(notices))


def another_copy(
    settings: Settings, folder: Path, procedure: str, parameters: Mapping[str, Any]
) -> Path:
    """One more copy of a procedure, beside what was run already: `system_down-2.ipynb`.

    Raises `NotFoundError` for no such procedure and `ParametersRefused`.
    """
    found = catalogue.find(procedure, settings)
    values = check(found.declarations, parameters)
    for number in range(1, _MOST_COPIES):
        ending = "" if number == 1 else f"-{number}"
        path = folder / f"{found.name}{ending}.ipynb"
        if not path.exists() or (number == 1 and not _touched(path)):
            _copy(path, found, values, renew=True)
            return path
    raise UsageError(f"There are {_MOST_COPIES} copies of {found.name} here already; go on in one of them.")  # fmt: skip


def folder_of(settings: Settings, incident: str, actor: str) -> Path | None:
    """A responder's folder on this machine; None when there is none."""
    for folder, mark in folders(settings, incident):
        if mark.actor == actor:
            return folder
    return None


def folders(settings: Settings, incident: str) -> list[tuple[Path, Mark]]:
    """Every responder's folder of an incident on this machine."""
    place = incidents_folder(settings) / incident
    if not place.is_dir():
        return []
    found = [(folder, read_mark(folder)) for folder in sorted(place.iterdir()) if folder.is_dir()]
    return [(folder, mark) for folder, mark in found if mark is not None]


def _folder(settings: Settings, incident: str, actor: str) -> Path:
    if (before := folder_of(settings, incident, actor)) is not None:
        return before
    place = incidents_folder(settings) / incident
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = re.sub(r"[^a-z0-9]+", "-", actor.lower()).strip("-")[:40] or "responder"
    for number in range(1, _MOST_COPIES):
        folder = place / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue  # Somebody else's, whose name is written alike.
        write_mark(folder, Mark(incident, actor, str(settings.runbook_home)))
        return folder
    raise UsageError(f"There are too many folders for {actor} in {place}.")


def _begin_with(
    folder: Path,
    procedure: str,
    parameters: dict[str, Any],
    settings: Settings,
    notices: list[str],
) -> Path | None:
    try:
        found = catalogue.find(procedure, settings)
    except (NotFoundError, UsageError) as error:
        notices.append(str(error))
        return None
    path = folder / f"{found.name}.ipynb"
    try:
        if parameters:
            return another_copy(settings, folder, found.name, parameters)
    except ParametersRefused as error:
        notices.append(f"Its parameters stay as they are by default. {error}")
    return path


def _copy(path: Path, procedure: Procedure, values: Mapping[str, Any], *, renew: bool) -> None:
    if path.exists() and not renew:
        return
    notebook = read_notebook(json.dumps(procedure.notebook).encode(), procedure.name)
    evidence.prepare(notebook, values)
    notebook.metadata[METADATA_KEY] = {
        "procedure": procedure.name,
        "source_sha256": procedure.sha256,
        "parameters": plain(values),
    }
    for cell in notebook.cells:
        # The same in many procedures; a program that names no notebook is understood by its cells.
        cell["id"] = f"{path.stem}-{cell['id']}"[:_LONGEST_CELL_ID]
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace_atomically(path, notebook_bytes(notebook))


def _copy_pages(folder: Path) -> None:
    """The pages that procedures link to: which one do I open?"""
    for pattern in _PAGES:
        for page in (PROJECT_DIRECTORY / "notebooks").glob(pattern):
            if not (folder / page.name).exists():
                shutil.copyfile(page, folder / page.name)
                os.chmod(folder / page.name, 0o600)


def _touched(path: Path) -> bool:
    """Whether somebody has executed or changed a copy: then it stays as it is."""
    try:
        notebook = json.loads(path.read_text("utf-8"))
        executed = any(cell.get("execution_count") for cell in notebook["cells"])
        return executed or "parameters" not in notebook["metadata"].get(METADATA_KEY, {})
    except (OSError, ValueError, KeyError, TypeError, RunbookError):
        return True
