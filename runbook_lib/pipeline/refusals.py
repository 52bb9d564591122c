"""What the database refuses a worker: a row that says so, where without it only the worker's log would.

A worker whose writes are refused keeps everything and tries again, so that its jobs stand still and nothing
in the tables says why: a trigger that raises, a function that was replaced, no partition that takes the row.
"""

from __future__ import annotations

import logging
import time

import psycopg2

from runbook_lib.credentials.masking import one_line
from runbook_lib.database.connection import Connection
from runbook_lib.errors import CouldNotBeDone
from runbook_lib.pipeline.permits import Event, add_event

log = logging.getLogger(__name__)

KIND = "statement_refused"
# Of one refusal that lasts a row so often.
TELL_AGAIN_SECONDS = 30.0
# Once may be chance: the turn is tried again.
FEWEST_IN_A_ROW = 2
DEADLINE_SECONDS = 3.0
# Broken links, a server that ends or starts, no connection left, and conflicts that a retry settles.
_NO_REFUSAL = ("08", "57", "40", "53300", "55P03")


class Refusals:
    """Counts the refusals in a row of one worker, and writes an event when it is not by chance."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._in_a_row = 0
        self._told_at = float("-inf")

    def over(self) -> None:
        """A turn was taken by the database."""
        self._in_a_row = 0
        self._told_at = float("-inf")

    def note(self, error: BaseException, connection: Connection | None) -> None:
        """Writes the event on the worker's own connection, where that still can be done."""
        event = refused_statement(error)
        if event is None:
            return
        self._in_a_row += 1
        due = time.monotonic() - self._told_at >= TELL_AGAIN_SECONDS
        if self._in_a_row < FEWEST_IN_A_ROW or not due or connection is None or connection.broken:
            return
        try:
            with connection.transaction(deadline_seconds=DEADLINE_SECONDS) as transaction:
                add_event(transaction, self._worker, event)
            self._told_at = time.monotonic()
        except (CouldNotBeDone, psycopg2.Error) as refused:
            log.info("The refusal cannot be noted either: %s", type(refused).__name__)


def refused_statement(error: BaseException) -> Event | None:
    """The event of a statement that the server refused; None for what is no refusal.

    Its details are `sqlstate`, `relation`, `constraint` and `within`, the function that raised it. Never the
    server's DETAIL, which prints whole rows.
    """
    cause = _server_error(error)
    if cause is None or cause.pgcode is None or cause.pgcode.startswith(_NO_REFUSAL):
        return None
    told = cause.diag
    within = (told.context or "").split("\n")[0]
    details = {
        "sqlstate": cause.pgcode,
        "relation": told.table_name,
        "constraint": told.constraint_name,
        "within": one_line(within, 200) or None,
    }
    words = one_line(told.message_primary or type(cause).__name__, 200)
    return Event(
        KIND,
        f"The database refuses what this worker writes: {cause.pgcode} {words}",
        "critical",
        details={name: value for name, value in details.items() if value},
    )


def _server_error(error: BaseException | None) -> psycopg2.Error | None:
    """The error as the server gave it, below our own words for it."""
    while error is not None and not (isinstance(error, psycopg2.Error) and error.pgcode):
        error = error.__cause__
    return error
