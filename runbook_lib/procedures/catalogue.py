"""The procedures that there are: notebooks by `chapter/name`, read without executing them."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from runbook_lib.errors import NotFoundError, UsageError
from runbook_lib.procedures.card import Card, read_card
from runbook_lib.procedures.parameters import Declaration, nearest, read_declarations
from runbook_lib.settings import PROJECT_DIRECTORY, Settings

_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,60}/[a-z0-9][a-z0-9_]{0,60}")


@dataclass(frozen=True)
class Procedure:
    """One notebook as it stands on disk now. `notebook` is its parsed JSON, `sha256` of its bytes."""

    name: str
    path: Path
    card: Card
    declarations: dict[str, Declaration]
    notebook: dict[str, Any]
    sha256: str


def folders(settings: Settings) -> list[Path]:
    """Where procedures are looked for: the project's, then a team's own (`RUNBOOK_PROCEDURES`)."""
    own = [settings.runbook_procedures] if settings.runbook_procedures else []
    return [PROJECT_DIRECTORY / "notebooks", *own]


def is_name(text: str) -> bool:
    """Whether this can be a procedure's name, `chapter/name`."""
    return _NAME.fullmatch(text) is not None


def names(settings: Settings) -> dict[str, Path]:
    """Every procedure's name and file. Raises `UsageError` when two folders have the same name."""
    found: dict[str, Path] = {}
    for folder in folders(settings):
        for path in sorted(folder.glob("*/*.ipynb")):
            name = f"{path.parent.name}/{path.stem}"
            if not _NAME.fullmatch(name):
                continue
            if name in found:
                raise UsageError(f"{path} has the name of {found[name]}; rename one of them.")
            found[name] = path
    return found


def find(name: str, settings: Settings) -> Procedure:
    """The procedure of this name, `chapter/name` or a bare name that is unique.

    Raises `NotFoundError` with the nearest name, `UsageError` for a name that fits several or a
    notebook that is not a procedure.
    """
    known = names(settings)
    wanted = name.removesuffix(".ipynb").removeprefix("notebooks/")
    matches = [each for each in known if wanted in (each, each.split("/")[1])]
    if len(matches) > 1:
        raise UsageError(f"{name!r} fits {' and '.join(matches)}; name the chapter as well.")
    if not matches:
        bare = [each.split("/")[1] for each in known]
        raise NotFoundError(
            f"There is no procedure {name!r}{nearest(wanted, [*known, *bare]) or '.'} "
            "`runbook procedures` lists them."
        )
    return load(matches[0], known[matches[0]])


def overdue(settings: Settings, today: date) -> dict[str, Card]:
    """The cards of procedures that should have been read through again by now, by name."""
    found = {}
    for name, path in names(settings).items():
        try:
            card = load(name, path).card
        except UsageError:
            continue  # `runbook procedures` says what is wrong with it
        if card.overdue(today):
            found[name] = card
    return found


def load(name: str, path: Path) -> Procedure:
    """Reads one notebook. Raises `UsageError` when its card or parameters do not fit."""
    try:
        data = path.read_bytes()
        notebook = json.loads(data)
        cells, metadata = notebook["cells"], notebook["metadata"]
        sources = [_text(cell["source"]) for cell in cells if _is_parameters(cell)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not a notebook: {error}.") from None
    if len(sources) > 1:
        raise UsageError(f"{path} has {len(sources)} cells tagged parameters; one is allowed.")
    try:
        declarations = read_declarations(sources[0]) if sources else {}
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    card = read_card(metadata, name)
    return Procedure(
        name, path, card, declarations, notebook, sha256=hashlib.sha256(data).hexdigest()
    )


def _is_parameters(cell: dict[str, Any]) -> bool:
    return cell["cell_type"] == "code" and "parameters" in cell.get("metadata", {}).get("tags", [])


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)
