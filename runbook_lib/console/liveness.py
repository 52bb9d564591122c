"""Whether the system works, in one word: all that is told to somebody without a token."""

from __future__ import annotations

import threading
import time

from runbook_lib.console.workplace import Workplace
from runbook_lib.errors import RunbookError
from runbook_lib.functions import call

# Whoever has no token may ask as often as they like; the checks run at most so often for them.
LIVENESS_SECONDS = 5.0


class Liveness:
    """Whether the system works, for those who may know no more than that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked_at = -LIVENESS_SECONDS
        self._well = False

    def look(self, workplace: Workplace) -> bool:
        """Asks `health`, at most every five seconds however many ask."""
        with self._lock:
            if time.monotonic() - self._asked_at >= LIVENESS_SECONDS:
                self._well = _is_well(workplace)
                self._asked_at = time.monotonic()
            return self._well


def _is_well(workplace: Workplace) -> bool:
    try:
        context = workplace.context()
    except RunbookError:
        return False
    return call("health", {}, method="GET", context=context, actor="nobody").status == 200
