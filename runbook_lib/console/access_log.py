"""The access log: one row a request, written beside the requests, never in front of them."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psycopg2

from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.errors import RunbookError

MOST_WAITING = 10_000
ROWS_AT_ONCE = 500
WRITE_SECONDS = 1.0
DEADLINE_SECONDS = 5.0
KEEP_DAYS = 90


class Entry(NamedTuple):
    """One request. `token` is a name such as "read token", never a value; `route` is its template."""

    at: datetime
    client: str
    token: str
    actor: str | None
    method: str
    route: str
    status: int
    outcome: str
    milliseconds: float


class AccessLog:
    """Takes entries at once and writes them in the background.

    While the database is away entries wait, up to a number; what does not fit is counted, and the count
    is written as a row of its own.
    """

    def __init__(self, database: Callable[[], Database]) -> None:
        self._database = database
        self._waiting: queue.Queue[Entry] = queue.Queue(MOST_WAITING)
        self._stop = threading.Event()
        self._dropped = 0
        self._silent_since_failure = False
        self._thread = threading.Thread(target=self._write_on, name="access log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def add(self, entry: Entry) -> None:
        """Never waits, never raises."""
        try:
            self._waiting.put_nowait(entry)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Writes what waits, if that is possible at once."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2 * DEADLINE_SECONDS)

    def _write_on(self) -> None:
        left: list[Entry] = []
        while not (self._stop.wait(WRITE_SECONDS) and self._waiting.empty()):
            left = self._write(left)
            if left and self._stop.is_set():
                return
        self._write(left)

    def _write(self, left: list[Entry]) -> list[Entry]:
        """Writes a batch; returns what could not be written."""
        entries = left or self._take()
        while entries:
            try:
                self._insert(entries)
            except (RunbookError, psycopg2.Error) as error:
                self._say(error)
                return entries
            self._silent_since_failure = False
            entries = self._take()
        return []

    def _insert(self, entries: list[Entry]) -> None:
        sql = load("access_log")
        with self._database().transaction(deadline_seconds=DEADLINE_SECONDS) as transaction:
            transaction.run_many(sql["add_entries"], entries)
            transaction.run(sql["forget_old_entries"], keep_days=KEEP_DAYS)

    def _take(self) -> list[Entry]:
        entries: list[Entry] = []
        while len(entries) < ROWS_AT_ONCE:
            try:
                entries.append(self._waiting.get_nowait())
            except queue.Empty:
                break
        if self._dropped:
            count, self._dropped = self._dropped, 0
            entries.append(_not_kept(count))
        return entries

    def _say(self, error: Exception) -> None:
        if not self._silent_since_failure:
            self._silent_since_failure = True
            print(
                f"The access log waits for the database: {one_line(str(error))}",
                file=sys.stderr,
                flush=True,
            )


def _not_kept(count: int) -> Entry:
    return Entry(
        datetime.now(UTC),
        "-",
        "-",
        None,
        "-",
        f"{count} requests that did not fit",
        0,
        "not kept",
        0.0,
    )


def recent_entries(database: Database, *, row_count: int = 100) -> list[dict[str, Any]]:
    """The newest requests, newest first."""
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows(load("access_log")["recent_entries"], row_count=row_count)
    return [row._asdict() for row in rows]
