"""What an execution leaves while it goes on: a file that only grows, a line for each thing that happened.

A notebook rewritten after each cell costs ten gigabytes for two hundred cells of 250 kB, and a process
that is killed meanwhile leaves half a file. A line is there or is not.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook_lib.archive.notebook_files import read_notebook

if TYPE_CHECKING:
    import nbformat

NOTEBOOK_FILE = "notebook.ipynb"
JOURNAL_FILE = "journal.jsonl"


class Journal:
    """The journal of one execution, written by its engine."""

    def __init__(self, directory: Path) -> None:
        path = directory / JOURNAL_FILE
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def cell(self, index: int, cell: Any) -> None:
        """How a cell stands now: it replaces what was said of it before."""
        self._append({"cell": index, "content": cell})

    def metadata(self, metadata: Any) -> None:
        """What papermill says of the whole notebook."""
        self._append({"metadata": metadata})

    def _append(self, entry: dict[str, Any]) -> None:
        data = json.dumps(entry).encode() + b"\n"
        while data:
            data = data[os.write(self._descriptor, data) :]


def is_kept(directory: Path) -> bool:
    """Whether an execution left anything here."""
    return (directory / NOTEBOOK_FILE).exists()


def executed_notebook(directory: Path) -> nbformat.NotebookNode:
    """The notebook as far as it was executed. Raises `UsageError` when what is there is unusable."""
    from nbformat import from_dict

    notebook = read_notebook((directory / NOTEBOOK_FILE).read_bytes())
    journal = directory / JOURNAL_FILE
    if not journal.exists():
        return notebook
    with journal.open("rb") as lines:
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # Half a line: its writer was killed.
            if "metadata" in entry:
                notebook.metadata.update(from_dict(entry["metadata"]))
            else:
                notebook.cells[entry["cell"]] = from_dict(entry["content"])
    return notebook
