"""What the pages work on: opened when it is first needed, so that the console is up without a database."""

from __future__ import annotations

import threading
import time

from runbook_lib.errors import DatabaseUnreachable, RunbookError
from runbook_lib.health.context import Context, open_context
from runbook_lib.settings import Settings

# A page is looked at by somebody who waits: longer than this it says so instead.
PAGE_DEADLINE_SECONDS = 10.0
_TRY_AGAIN_SECONDS = 2.0
_WAIT_FOR_OTHERS_SECONDS = 8.0


class Workplace:
    """Holds the context of this process once it could be opened."""

    def __init__(self, settings: Settings) -> None:
        shorter = min(settings.runbook_database_deadline_seconds, PAGE_DEADLINE_SECONDS)
        self.settings = settings
        self._settings = settings.model_copy(update={"runbook_database_deadline_seconds": shorter})
        self._lock = threading.Lock()
        self._context: Context | None = None
        self._failed: RunbookError | None = None
        self._failed_at = 0.0

    def context(self) -> Context:
        """The context. Raises why it cannot be opened now; asks the database again after two seconds."""
        if self._context is not None:
            return self._context
        if not self._lock.acquire(timeout=_WAIT_FOR_OTHERS_SECONDS):
            raise DatabaseUnreachable(
                f"The database has not answered for {_WAIT_FOR_OTHERS_SECONDS:g} s and is being tried."
            )
        try:
            if self._context is None:
                self._open()
            assert self._context is not None
            return self._context
        finally:
            self._lock.release()

    def _open(self) -> None:
        if self._failed and time.monotonic() - self._failed_at < _TRY_AGAIN_SECONDS:
            raise self._failed
        try:
            self._context = open_context(self._settings, "runbook console", require_schema=False)
        except RunbookError as error:
            self._failed, self._failed_at = error, time.monotonic()
            raise

    def close(self) -> None:
        with self._lock:
            if self._context is not None:
                self._context.close()
