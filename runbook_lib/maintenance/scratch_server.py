"""A PostgreSQL of its own for a restore: started in an empty folder, and removed with all that is in it.

The source's server is never asked to hold a copy: no rights are needed there, and a restore that goes
wrong harms nothing.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.database import Database, embedded
from runbook_lib.database.binaries import Binaries
from runbook_lib.processes import SharedProcess

# Nothing here has to survive a crash.
FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "wal_level=minimal", "max_wal_senders=0", "autovacuum=off")  # fmt: skip
START_SECONDS = 60
STOP_SECONDS = 30


@dataclass(frozen=True)
class Scratch:
    """The address of the empty database, with its password, and a folder for the dump."""

    url: str
    folder: Path

    def database(self, schema: str, deadline_seconds: float) -> Database:
        return Database(self.url, schema=schema, deadline_seconds=deadline_seconds)


@contextmanager
def scratch_server(home: Path, binaries: Binaries) -> Iterator[Scratch]:
    """Starts it; whatever happens inside, it is stopped and removed. Raises `ServiceNotStarted`."""
    root = home / "scratch"
    remove_left_over(root)
    folder = root / uuid.uuid4().hex[:12]
    folder.mkdir(parents=True, mode=0o700)
    server = SharedProcess(
        folder / "postgres", "runbook_lib.database.server", [str(binaries.directory), *FAST]
    )
    try:
        with server.acquire(START_SECONDS) as hold:
            yield Scratch(embedded.address(folder, hold.state), folder)
    finally:
        server.wait_until_stopped(STOP_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            root.rmdir()
        except OSError:
            pass  # another restore is under way


def remove_left_over(root: Path) -> int:
    """Removes what a process that was killed left; returns how many. A server that is held stays."""
    removed = 0
    for folder in root.glob("*"):
        status = SharedProcess(folder / "postgres", "runbook_lib.database.server").status()
        if not status.held and not status.running and (folder / "postgres").exists():
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed
