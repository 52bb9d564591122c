"""The workbench itself: its archive, its schedules."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from runbook_lib.archive.store import FolderStore, Store, open_store
from runbook_lib.errors import CouldNotBeDone
from runbook_lib.health.checks import Check
from runbook_lib.health.registry import DeclaredCheck, View
from runbook_lib.health.storage_checks import disk

_ANOTHER_PLACE = "Make room, change the folder's owner, or name another place in RUNBOOK_ARCHIVE."


def archive(view: View) -> Iterator[Check]:
    """Whether the next run can be filed: the archive takes a file, and its disk has room."""
    store = open_store(view.settings)
    if isinstance(store, FolderStore):
        existing = next(each for each in (store.root, *store.root.parents) if each.exists())
        yield _folder(store.root, existing)
        yield disk(view, "archive.disk", existing, "the archive", "statvfs")
    else:
        yield _object_store(store)


def _folder(root: Path, existing: Path) -> Check:
    name, source = "archive.writable", "a file without a name, written and dropped"
    try:
        # Rights alone do not tell: a full or read-only disk is only found by writing.
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"\0")
            file.flush()
    except OSError as error:
        words = f"The archive at {root} takes nothing: {error.strerror or error}."
        return Check(name, "critical", words, False, source=source, next=_ANOTHER_PLACE)
    return Check(
        name,
        "ok",
        f"The archive at {root} takes files.",
        True,
        source=source,
        does_not_prove="that what it holds is unaltered: `runbook archive verify` does",
    )


def _object_store(store: Store) -> Check:
    name, source = "archive.writable", "a look for an object that nobody made"
    try:
        store.found("runbook-look")
    except CouldNotBeDone as error:
        return Check(name, "critical", str(error), False, source=source, next=_ANOTHER_PLACE)
    return Check(
        name,
        "ok",
        f"The archive at {store.root} answers.",
        True,
        source=source,
        does_not_prove="that it takes the next run: nothing was written",
    )


CHECKS: tuple[DeclaredCheck, ...] = (
    DeclaredCheck(
        "archive.writable", "The archive takes the next run.", archive, also=("archive.disk",)
    ),
)
