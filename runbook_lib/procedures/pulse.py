"""A run's sign of life while it goes on: how far it is, and whether somebody wants it ended.

Beside the run, in a thread of its own: a database that stalls must not keep a run from its deadline.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runbook_lib.archive.entries import find_entry
from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone, NotFoundError, UsageError
from runbook_lib.procedures import claims
from runbook_lib.procedures.execution import Ending

BEAT_SECONDS = 1.0
CANCEL_FILE = "cancel"


class Either:
    """Set once one of two events is."""

    def __init__(self, first: threading.Event, second: threading.Event) -> None:
        self._first, self._second = first, second

    def is_set(self) -> bool:
        return self._first.is_set() or self._second.is_set()


class Pulse:
    """Beats once a second until it is stopped. `cancelled` is set when somebody asks for the run's end."""

    def __init__(
        self,
        database: Database,
        run_id: str,
        directory: Path,
        claimed: str | None,
        progress: Callable[[], Ending | None],
    ) -> None:
        self._database = database
        self._run_id = run_id
        self._asked_here = directory / CANCEL_FILE
        self._claimed = claimed
        self._progress = progress
        self.cancelled = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="pulse", daemon=True)
        self.cancelled_by: str | None = None

    @contextmanager
    def beating(self) -> Iterator[Pulse]:
        self._thread.start()
        try:
            yield self
        finally:
            self._ended.set()

    def _beat_on(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            if self._asked_here.exists():
                self._cancel(one_line(self._asked_here.read_text("utf-8", "replace"), 200))
            try:
                self._beat()
            except (CouldNotBeDone, UsageError):
                pass  # Closing tries for longer, and says it when it does not succeed.

    def _cancel(self, actor: str) -> None:
        self.cancelled_by = actor
        self.cancelled.set()

    def _beat(self) -> None:
        ending = self._progress()
        last = ending.last if ending else None
        with self._database.transaction(deadline_seconds=5) as transaction:
            row = transaction.row(
                load("notebook_runs")["beat"], run_id=self._run_id,
                cells_done=ending.cells_done if ending else 0,
                cell_number=last.number if last else None, cell_title=last.title if last else None,
            )  # fmt: skip
        if row is not None and row.cancel_requested_at is not None and not self.cancelled.is_set():
            self._cancel(row.cancel_requested_by)
        if self._claimed is not None:
            claims.renew(self._database, self._claimed, self._run_id)


def request_cancel_here(directory: Path, run_id: str, actor: str) -> str:
    """Asks for the end of a run of this machine without a database; `directory` is where runs are kept.

    Returns its whole id. Raises `NotFoundError`, and `UsageError` for what is no id.
    """
    if not re.fullmatch(r"[0-9a-f-]{4,36}", run_id.lower()):
        raise UsageError(f"{run_id[:60]!r} is not the id of a run, nor the beginning of one.")
    found = list(directory.glob(f"{run_id.lower()}*"))
    if len(found) != 1:
        raise NotFoundError(f"{len(found)} runs here have an id that begins with {run_id}.")
    (found[0] / CANCEL_FILE).write_text(actor, "utf-8")
    return found[0].name


def request_cancel(database: Database, run_id: str, actor: str) -> str:
    """Asks for the end of a run, wherever it is run; returns its whole id.

    `run_id` may be the beginning of one. Raises `NotFoundError` and `UsageError`.
    """
    entry = find_entry(database, run_id)
    with database.transaction() as transaction:
        asked = transaction.value(
            load("notebook_runs")["request_cancel"], run_id=entry["run_id"], actor=actor
        )
    if asked is None:
        raise UsageError(f"Run {entry['run_id']} has ended already: {entry['status']}.")
    return str(entry["run_id"])
