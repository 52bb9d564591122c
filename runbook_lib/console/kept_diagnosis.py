"""The last diagnosis, kept for a moment: however many look during an incident, everything is asked once."""

from __future__ import annotations

import threading
import time

from runbook_lib.health.context import Context
from runbook_lib.triage.diagnosis import Diagnosis, diagnose_context

KEPT_SECONDS = 5.0


class KeptDiagnosis:
    """Asks at most one at a time, and not again within some seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[float, Diagnosis] | None = None

    def read(self, context: Context) -> Diagnosis:
        with self._lock:
            if self._kept is None or time.monotonic() - self._kept[0] > KEPT_SECONDS:
                found = diagnose_context(context)
                self._kept = (time.monotonic(), found)
            return self._kept[1]
