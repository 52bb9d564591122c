"""The workbench itself: its archive, its schedules."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from runbook_lib.archive.store import open_store
from runbook_lib.health.checks import Check
from runbook_lib.health.registry import DeclaredCheck, View
from runbook_lib.health.storage_checks import disk


def archive(view: View) -> Iterator[Check]:
    """Whether the next run can be filed: the archive takes a file, and its disk has room."""
    name, source = "archive.writable", "a file without a name, written and dropped"
    root = Path(open_store(view.settings).root)
    existing = next(each for each in (root, *root.parents) if each.exists())
    try:
        # Rights alone do not tell: a full or read-only disk is only found by writing.
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"\0")
            file.flush()
    except OSError as error:
        yield Check(
            name,
            "critical",
            f"The archive at {root} takes nothing: {error.strerror or error}.",
            False,
            source=source,
            next="Make room, change the folder's owner, or name another place in RUNBOOK_ARCHIVE.",
        )
    else:
        yield Check(
            name,
            "ok",
            f"The archive at {root} takes files.",
            True,
            source=source,
            does_not_prove="that what it holds is unaltered: `runbook archive verify` does",
        )
    yield disk(view, "archive.disk", existing, "the archive", source)


CHECKS: tuple[DeclaredCheck, ...] = (
    DeclaredCheck(
        "archive.writable", "The archive takes the next run.", archive, also=("archive.disk",)
    ),
)
