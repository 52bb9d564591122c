"""Entries of the timeline: written to the database, or to the spool while it is away."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import psutil
import psycopg2

from runbook_lib.archive import chain
from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Connection, Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import DatabaseUnreachable, RunbookError
from runbook_lib.processes import boot_id, process_is_gone
from runbook_lib.spool import Entry as SpoolEntry
from runbook_lib.spool import Spool

_SQL = load("incidents")
KIND = "timeline"
# A cell waits no longer than this for the database before it runs; then the entry goes to a file.
WRITE_DEADLINE_SECONDS = 3.0
# How long a database that did not take an entry is left alone.
AWAY_SECONDS = 15.0
LONGEST_SAID_CHARACTERS = 2_000
KERNEL_GONE = "The kernel ended before the cell did."
NOT_KNOWN = "The incident was closed before it was known how the cell ended."


@dataclass(frozen=True)
class TimelineEntry:
    """One thing that happened; of a cell also where it is and how it ended. Texts are masked on writing."""

    kind: str
    actor: str
    incident: str | None = None
    said: str | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    status: str | None = None
    ended_at: datetime | None = None
    seconds: float | None = None
    notebook: str | None = None
    run_id: str | None = None
    cell_id: str | None = None
    cell_number: int | None = None
    cell_count: int | None = None
    cell_title: str | None = None
    source_sha256: str | None = None
    verdict: str | None = None
    error: str | None = None
    entry_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    host: str = field(default_factory=socket.gethostname)
    pid: int | None = field(default_factory=os.getpid)
    boot_id: str | None = field(default_factory=boot_id)

    def ended(self, status: str, seconds: float, **found: Any) -> TimelineEntry:
        """The same entry, once its cell has ended."""
        return replace(self, status=status, ended_at=datetime.now(UTC), seconds=seconds, **found)

    def as_record(self) -> dict[str, Any]:
        """What is written of it, without secrets and control characters."""
        found = asdict(self)
        for name in ("actor", "said", "notebook", "cell_id", "cell_title", "error"):
            if found[name] is not None:
                found[name] = one_line(str(found[name]), LONGEST_SAID_CHARACTERS)
        return found


class Timeline:
    """Writes entries, and never raises for the database: what it does not take is kept in the spool.

    One connection is kept between entries, since a cell waits for each.
    """

    def __init__(self, open_database: Callable[[], Database], spool: Spool) -> None:
        self._open = open_database
        self._spool = spool
        self._database: Database | None = None
        self._connection: Connection | None = None
        self._away_until = 0.0
        self._waiting = False
        self._filing: threading.Thread | None = None

    def write(self, entry: TimelineEntry) -> bool:
        """Writes one entry; False when it is kept in the spool. Raises `CouldNotBeDone` when the disk
        does not take it either."""
        record = entry.as_record()
        if time.monotonic() >= self._away_until and self._write_now(record):
            self._file_what_waits()
            return True
        self._spool.put(KIND, record)
        self._waiting = True
        return False

    def _write_now(self, record: dict[str, Any]) -> bool:
        for _ in range(2 if self._connection is not None else 1):
            try:
                with self._connect().transaction(
                    deadline_seconds=WRITE_DEADLINE_SECONDS
                ) as writing:
                    write_entry(writing, record, filed_late=False)
                return True
            except DatabaseUnreachable:
                # One that was kept may have been ended meanwhile; a new one tells whether it is away.
                self._let_go()
            except (RunbookError, psycopg2.Error, OSError):
                self._let_go()
                break
        self._away_until = time.monotonic() + AWAY_SECONDS
        return False

    def _connect(self) -> Connection:
        if self._database is None:
            self._database = self._open()
        if self._connection is None:
            self._connection = self._database.connect(connect_timeout_seconds=2)
        return self._connection

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except (RunbookError, psycopg2.Error, OSError):
                pass  # It is of no use any more either way.

    def _file_what_waits(self) -> None:
        """What was kept while it was away is filed beside the next cells, not before them."""
        if not self._waiting or (self._filing is not None and self._filing.is_alive()):
            return
        self._waiting = False
        assert self._database is not None
        self._filing = threading.Thread(
            target=self._spool.file, args=(self._database,), daemon=True
        )
        self._filing.start()

    def leave_to_parent(self) -> None:
        """In a process that a cell forked: the connection is the parent's, and is not even closed."""
        _of_the_parent.append(self._connection)
        self._connection = None

    def close(self) -> None:
        if self._filing is not None:
            self._filing.join(WRITE_DEADLINE_SECONDS)
        self._let_go()


_of_the_parent: list[Any] = []


def write_entry(transaction: Transaction, record: dict[str, Any], *, filed_late: bool) -> bool:
    """Writes or completes an entry in the caller's transaction; False when it was there already."""
    return bool(transaction.run(_SQL["write_entry"], **{**record, "filed_late": filed_late}))


def file_entry(transaction: Transaction, entry: SpoolEntry) -> None:
    """Files an entry that was kept while the database was away, and enters it in the archive's chain."""
    record = {**_EMPTY, **entry.content}
    if write_entry(transaction, record, filed_late=True):
        chain.append_late(transaction, record["entry_id"], record)


_EMPTY: dict[str, Any] = dict.fromkeys(TimelineEntry.__dataclass_fields__)


def read_timeline(database: Database, incident: str) -> list[dict[str, Any]]:
    """The entries of an incident in order; first, cells whose kernel is gone are closed as lost."""
    close_lost_cells(database, incident)
    with database.transaction(read_only=True) as transaction:
        return [row._asdict() for row in transaction.rows(_SQL["timeline"], incident=incident)]


def cells_by_hand(database: Database, limit: int = 100) -> list[dict[str, Any]]:
    """Cells executed outside of any incident, straight from the procedures' folder; the newest first."""
    close_lost_cells(database)
    with database.transaction(read_only=True) as transaction:
        return [row._asdict() for row in transaction.rows(_SQL["cells_by_hand"], limit=limit)]


def close_lost_cells(
    database: Database, incident: str | None = None, *, everywhere: bool = False
) -> int:
    """Closes cells whose kernel is gone on this host; returns how many.

    `everywhere` also those of the incident on other hosts, where nobody here can look: at its end.
    """
    host = socket.gethostname()
    with database.transaction() as transaction:
        rows = transaction.rows(_SQL["cells_under_way"], host=host, incident=incident)
        gone = [row.entry_id for row in rows if row.host == host and _gone(row)]
        away = [row.entry_id for row in rows if row.host != host and everywhere]
        closed = 0
        for entries, error in ((gone, KERNEL_GONE), (away, NOT_KNOWN)):
            if entries:
                closed += transaction.run(_SQL["close_lost_cells"], entries=entries, error=error)
    return closed


def _gone(row: Any) -> bool:
    if process_is_gone(row.pid, row.boot_id):
        return True
    try:
        # Its number may have gone to another process since.
        return bool(psutil.Process(row.pid).create_time() > row.at.timestamp() + 1)
    except psutil.Error:
        return False
