"""Notebooks as bytes and as nbformat's nodes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from runbook_lib.errors import UsageError

if TYPE_CHECKING:
    import nbformat


def skip_unused_parsers() -> None:
    """Keeps jsonschema from building 35 parsers of internationalised addresses at import.

    No notebook schema uses them, and they are three quarters of what importing nbformat or papermill
    costs where JupyterLab is installed (python-jsonschema/jsonschema#1428). Call before either.
    """
    if "jsonschema" not in sys.modules:
        sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


def read_notebook(data: bytes, name: str = "notebook") -> nbformat.NotebookNode:
    """A notebook from its bytes, brought to format 4. Raises `UsageError` for anything else."""
    skip_unused_parsers()
    import nbformat

    try:
        return nbformat.reads(data.decode("utf-8"), as_version=4)
    except Exception as error:
        raise UsageError(f"{name} is not a notebook: {str(error).splitlines()[0][:200]}") from error


def notebook_bytes(notebook: nbformat.NotebookNode) -> bytes:
    """A notebook as bytes. Lone surrogates, which are no text, become replacement characters."""
    skip_unused_parsers()
    import nbformat

    text = nbformat.writes(notebook)
    return text.encode("utf-8", "replace") + b"\n"


def replace_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Writes a file that others may read at any moment: they see the old one or the new one, whole.

    `durable` waits until it would survive the machine's end, not only the process's.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    temporary.replace(path)
