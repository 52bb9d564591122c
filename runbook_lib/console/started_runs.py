"""Runs that were started from a page: they go on behind it, and end with the console at the latest."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from runbook_lib.credentials.masking import one_line
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone, RunbookError
from runbook_lib.health.context import Context

TRIGGER = "console"
RUNS_AT_ONCE = 4
# How long a page waits for the record of its run, before it leads to the list instead.
RECORD_SECONDS = 10.0
STOP_SECONDS = 20.0


class StartedRuns:
    """Starts runs on threads of their own, so many at once; `close` ends what still goes on as killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[threading.Thread, threading.Event] = {}

    def start(
        self,
        context: Context,
        procedure: str,
        values: Mapping[str, Any],
        actor: str,
        **options: Any,
    ) -> str | None:
        """Starts a run; returns its id, or None when its record was not open in time.

        Raises what refuses it before it begins, and `CouldNotBeDone` when too many go on already.
        """
        refused: list[RunbookError] = []
        stop = threading.Event()
        trigger = options.pop("trigger", TRIGGER)

        def work() -> None:
            from runbook_lib.procedures.runner import run

            try:
                run(
                    procedure, dict(values), actor, trigger, database=context.sources.bookkeeping,
                    settings=context.settings, stop=stop, **options,
                )  # fmt: skip
            except RunbookError as error:
                refused.append(error)
            finally:
                with self._lock:
                    self._running.pop(threading.current_thread(), None)

        thread = threading.Thread(target=work, name=f"run {procedure}", daemon=True)
        with self._lock:
            if len(self._running) >= RUNS_AT_ONCE:
                raise CouldNotBeDone(
                    f"{RUNS_AT_ONCE} runs that were started here go on already. Wait for one, or cancel one."
                )
            self._running[thread] = stop
        begun = time.monotonic()
        thread.start()
        while time.monotonic() - begun < RECORD_SECONDS:
            if refused:
                raise refused[0]
            if found := _record(context, procedure, actor, trigger, time.monotonic() - begun + 1):
                return found
            time.sleep(0.1)
        return None

    def close(self) -> None:
        """Ends what goes on; it is archived as killed."""
        with self._lock:
            running = dict(self._running)
        for stop in running.values():
            stop.set()
        until = time.monotonic() + STOP_SECONDS
        for thread in running:
            thread.join(max(0.0, until - time.monotonic()))


def _record(
    context: Context, procedure: str, actor: str, trigger: str, within: float
) -> str | None:
    with context.sources.bookkeeping.transaction(read_only=True) as transaction:
        row = transaction.row(
            load("console")["begun_run"], procedure=procedure, actor=one_line(actor, 200),
            trigger=trigger, within_seconds=within,
        )  # fmt: skip
    return row.run_id if row else None
