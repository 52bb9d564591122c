"""Total deadlines for outside calls, kept by one watchdog thread that shuts the socket.

Time-outs of servers and clients are per read or per statement: a body dripped byte by byte, or a
link that stalls behind a proxy that still acknowledges, outlives all of them (measured: a call with
`timeout=2` took 12 s, and `statement_timeout` with TCP keepalives hung for good). Shutting the socket
from another thread ends every blocking read at once.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deadline:
    """A point in time, on the monotonic clock, by which something must have ended."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    def remaining_seconds(self) -> float:
        return max(0.0, self.at - time.monotonic())

    def passed(self) -> bool:
        return time.monotonic() >= self.at

    def within(self, seconds: float) -> Deadline:
        """The earlier of this deadline and `seconds` from now."""
        return Deadline(min(self.at, time.monotonic() + seconds))


@dataclass
class Guard:
    """One guarded call; `expired` says whether the watchdog ended it.

    A socket that is only known once the call is under way is added with `shut_at_deadline`.
    """

    deadline: Deadline
    expired: bool = False
    _closed: bool = False
    _shutters: list[Callable[[], None]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def shut_at_deadline(self, shut: Callable[[], None]) -> None:
        """Registers what ends the call; runs at once when the deadline has passed already."""
        with self._lock:
            if not self.expired:
                self._shutters.append(shut)
                return
        shut()

    def expire(self) -> None:
        with self._lock:
            if self._closed:
                return
            self.expired = True
            shutters = list(self._shutters)
        for shut in shutters:
            try:
                shut()
            except Exception as error:
                # What it wanted to shut is closed already. The watchdog must live on for all others.
                _log.debug("nothing left to shut at the deadline: %s", error)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._shutters.clear()


class Watchdog:
    """One daemon thread that expires guards when their deadline passes."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Guard]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._process = os.getpid()

    @contextmanager
    def guard(self, deadline: Deadline, shut: Callable[[], None] | None = None) -> Iterator[Guard]:
        """Runs the block under a deadline; `shut` is called from the watchdog's thread if it passes."""
        guard = Guard(deadline)
        if shut is not None:
            guard.shut_at_deadline(shut)
        self._add(guard)
        try:
            yield guard
        finally:
            guard.close()

    def _add(self, guard: Guard) -> None:
        with self._changed:
            if self._thread is None or self._process != os.getpid():
                self._start()
            heapq.heappush(self._heap, (guard.deadline.at, next(self._numbers), guard))
            if self._heap[0][2] is guard:
                self._changed.notify()

    def _start(self) -> None:
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._watch, name="deadline-watchdog", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            with self._changed:
                while not self._heap or self._heap[0][0] > time.monotonic():
                    wait = self._heap[0][0] - time.monotonic() if self._heap else None
                    self._changed.wait(wait)
                    # Guards that ended in time would otherwise stay until their deadline.
                    while self._heap and self._heap[0][2]._closed:
                        heapq.heappop(self._heap)
                guard = heapq.heappop(self._heap)[2]
            guard.expire()


WATCHDOG = Watchdog()


def shut_descriptor(descriptor: int) -> None:
    """Shuts both directions of the socket behind a file descriptor that somebody else owns."""
    try:
        copy = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        return
    try:
        copy.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    finally:
        copy.close()
