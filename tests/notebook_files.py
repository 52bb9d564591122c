"""The notebooks as files: what their cells say, for the tests of form and for those that run them."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import nbformat

from runbook_lib.archive.notebook_files import notebook_bytes, read_notebook
from runbook_lib.procedures import evidence
from runbook_lib.procedures.card import Card
from runbook_lib.procedures.catalogue import load
from runbook_lib.procedures.evidence import Finding
from runbook_lib.procedures.execution import Request, environment_for, execute
from runbook_lib.procedures.journal import executed_notebook
from runbook_lib.settings import PROJECT_DIRECTORY

NOTEBOOKS = sorted((PROJECT_DIRECTORY / "notebooks").glob("*/*.ipynb"))


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@cache
def card_of(path: Path) -> Card:
    return load(name_of(path), path).card


def notebook_at(path: Path) -> Any:
    notebook = json.loads(path.read_text("utf-8"))
    nbformat.validate(notebook)
    return notebook


def cells_of(path: Path) -> list[tuple[str, str]]:
    """Kind and text of each cell."""
    return [(cell["cell_type"], "".join(cell["source"])) for cell in notebook_at(path)["cells"]]


def code_cells(path: Path) -> list[str]:
    return [text for kind, text in cells_of(path) if kind == "code"]


def prose(path: Path) -> str:
    return "\n\n".join(text for kind, text in cells_of(path) if kind == "markdown")


def section(path: Path, heading: str) -> str:
    """The prose below a heading, up to the next one of its rank."""
    found = re.split(rf"^## {re.escape(heading)}\n", prose(path), maxsplit=1, flags=re.MULTILINE)
    return re.split(r"^## ", found[1], maxsplit=1, flags=re.MULTILINE)[0] if len(found) > 1 else ""


def execute_notebook(
    path: Path,
    directory: Path,
    environment: Mapping[str, str],
    *,
    fork_server: Path | None,
    values: Mapping[str, Any] | None = None,
    change: Callable[[Any], None] | None = None,
) -> tuple[Finding, str]:
    """Runs a notebook as the runner does, without a record; what it came to, and all that it showed.

    `change` may alter the notebook before it runs.
    """
    notebook = read_notebook(path.read_bytes())
    if change is not None:
        change(notebook)
    evidence.prepare(notebook, values or {})
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "notebook.ipynb").write_bytes(notebook_bytes(notebook))
    ending = execute(
        Request(directory, environment_for(environment, directory), 300, 300, fork_server),
        stop=threading.Event(), on_progress=lambda progress: None, on_look=lambda ending: None,
    )  # fmt: skip
    executed = executed_notebook(directory)
    return evidence.judge(executed, ending), notebook_bytes(executed).decode()
