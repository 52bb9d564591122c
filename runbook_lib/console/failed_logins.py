"""How many wrong tokens are answered in full: so many a client and so many in all, then briefly.

A right token is let in whatever others did: tokens are too long to be guessed, so the limit is against
noise, and nobody can lock the owner out by failing on purpose.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

# A program may be set up wrongly and try again and again; a person types few tokens.
PER_PROGRAM = 60
PER_PERSON = 10
IN_ALL = 300
WINDOW_SECONDS = 60.0
_MOST_CLIENTS = 2000


class FailedLogins:
    """Counts failures in buckets that empty within a minute."""

    def __init__(self, per_client: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_client = per_client
        self._clock = clock
        self._lock = threading.Lock()
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._all = (0.0, clock())

    def record(self, client: str) -> int:
        """Counts one failure; returns after how many seconds to come again, 0 while within the limits."""
        now = self._clock()
        with self._lock:
            self._all, wait_all = _add(self._all, now, IN_ALL)
            level, wait = _add(self._levels.pop(client, (0.0, now)), now, self._per_client)
            self._levels[client] = level
            while len(self._levels) > _MOST_CLIENTS:
                self._levels.popitem(last=False)
        return max(wait, wait_all)


def _add(bucket: tuple[float, float], now: float, size: int) -> tuple[tuple[float, float], int]:
    level, filled_at = bucket
    drained = max(0.0, level - (now - filled_at) * size / WINDOW_SECONDS)
    if drained + 1 > size:
        return (drained, now), math.ceil((drained + 1 - size) * WINDOW_SECONDS / size)
    return (drained + 1, now), 0
