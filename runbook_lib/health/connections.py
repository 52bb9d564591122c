"""A few connections that many checks share, so that looking does not use up what it looks at."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from runbook_lib.database.connection import Connection, Database
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import DatabaseUnreachable, DeadlineExceeded

T = TypeVar("T")
# The least that libpq knows.
CONNECT_SECONDS = 2.0
TRIES, TRY_AGAIN_SECONDS = 6, 0.4
_BROKE = re.compile("reset by peer|closed the connection unexpectedly|broken pipe", re.IGNORECASE)


def again_where_the_link_breaks(work: Callable[[], T]) -> T:
    """Does something that only looks, and again for some seconds where the link broke on the way: one that breaks
    now and then lets the next in, and must not blind whoever looks. Raises what the last try raised."""
    for _ in range(TRIES - 1):
        try:
            return work()
        except DatabaseUnreachable as error:
            if not _BROKE.search(str(error)):
                raise
            time.sleep(TRY_AGAIN_SECONDS)
    return work()


class Connections:
    """At most `most` connections to one database, opened as they are needed, for threads to share.

    A database that was not reached once is not tried again (but where the link broke on the way, a few times):
    `unreachable` says why, and whoever asks next hears it at once. One that lets in fewer than `most` is asked with those.
    """

    def __init__(self, database: Database, most: int = 3) -> None:
        self._database = database
        self._free: queue.LifoQueue[Connection | None] = queue.LifoQueue()
        for _ in range(most):
            self._free.put(None)
        self._opening = threading.Lock()
        self._opened = 0
        self._closed = False
        self.unreachable: DatabaseUnreachable | None = None
        self.connect_seconds: float | None = None

    @contextmanager
    def lent(self, deadline: Deadline) -> Iterator[Connection]:
        """A connection for one statement. Raises `DatabaseUnreachable` and `DeadlineExceeded`."""
        connection = self._take(deadline)
        try:
            yield connection
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Closes what is free now, and the rest when it is given back."""
        self._closed = True
        while True:
            try:
                connection = self._free.get_nowait()
            except queue.Empty:
                return
            if connection is not None:
                connection.close()

    def _take(self, deadline: Deadline) -> Connection:
        while True:
            if self.unreachable is not None:
                raise self.unreachable
            try:
                connection = self._free.get(timeout=max(0.01, deadline.remaining_seconds()))
            except queue.Empty:
                raise DeadlineExceeded(
                    "No connection to the database was free in time: the checks before this one took all of it."
                ) from None
            if connection is not None and not connection.broken:
                return connection
            opened = self._open()
            if opened is not None:
                return opened

    def _open(self) -> Connection | None:
        """A new connection; None when the database lets no more in and others are open."""
        with self._opening:
            if self.unreachable is not None:
                self._free.put(None)
                raise self.unreachable
            started = time.monotonic()
            try:
                connection = again_where_the_link_breaks(lambda: self._database.connect(connect_timeout_seconds=CONNECT_SECONDS))  # fmt: skip
            except DatabaseUnreachable as error:
                if self._opened:
                    return None
                self.unreachable = error
                self._free.put(None)
                raise
            self._opened += 1
            if self.connect_seconds is None:
                self.connect_seconds = time.monotonic() - started
            return connection

    def _give_back(self, connection: Connection) -> None:
        if connection.broken:
            with self._opening:
                self._opened -= 1
        if self._closed:
            connection.close()
        else:
            self._free.put(connection)
