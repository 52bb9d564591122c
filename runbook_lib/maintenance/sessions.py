"""The change `sessions.end`: one session that holds others up is cancelled or terminated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import psycopg2.errors

from runbook_lib.changes import ChangedRow, Preview, SeenRow, TransactionalKind, register
from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone, UsageError

_SQL = load("database_errors")
WAYS = ("cancel", "terminate")


class EndSession(TransactionalKind):
    """Ends what one session does, or the session. Its transaction is rolled back, and those behind it go on."""

    name = "sessions.end"
    summary = "Cancels or terminates one session of the database. What it did in its transaction is rolled back."
    parameters: ClassVar[Mapping[str, str]] = {
        "pid": "the process, as the tree of blockers names it",
        "how": "cancel (what it does now) or terminate (the session; the only way when it is idle in a transaction)",
    }
    row_limit = 1

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        how = str(given.get("how") or "cancel").strip()
        if how not in WAYS:
            raise UsageError(f"how is cancel or terminate, not {how!r}.")
        if given.get("pid") is None:
            raise UsageError(
                "No process is named and none holds others up: there is no session to end."
            )
        try:
            return {"pid": int(str(given["pid"])), "how": how}
        except ValueError:
            raise UsageError(f"pid is the number of a process, not {given['pid']!r}.") from None

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        row = transaction.row(_SQL["session"], pid=parameters["pid"])
        if row is None:
            return Preview([], 0)
        if row.ours:
            raise UsageError("This is the session that asks; name another.")
        if parameters["how"] == "cancel" and str(row.state).startswith("idle"):
            raise UsageError(
                f"Process {row.pid} is {row.state}: there is nothing to cancel. Plan it with how=terminate."
            )
        # Another transaction of the same session is not the one that was looked at.
        seen = {"backend_start": str(row.backend_start), "xact_start": str(row.xact_start)}
        shown = {
            "role": row.role, "application": row.application, "state": row.state,
            "transaction_seconds": row.transaction_seconds and round(row.transaction_seconds),
            "directly_waiting": row.directly_waiting, "query": one_line(row.query or "", 200),
        }  # fmt: skip
        return Preview([SeenRow(str(row.pid), seen, shown, row.xact_start)], 1)

    def lock(self, transaction: Transaction, rows: Sequence[SeenRow]) -> None:
        """A session cannot be locked: it is looked at once more right before it is ended."""

    def apply(
        self, transaction: Transaction, rows: Sequence[SeenRow], parameters: Mapping[str, Any], actor: str
    ) -> Sequence[ChangedRow]:  # fmt: skip
        how = parameters["how"]
        try:
            ended = [transaction.value(_SQL[how], pid=parameters["pid"]) for _ in rows]
        except psycopg2.errors.InsufficientPrivilege as error:
            told = str(error).strip().splitlines()[0]
            raise CouldNotBeDone(f"This role may not {how} that session: {told}. Its own role, or one with pg_signal_backend, may.") from error  # fmt: skip
        return [
            ChangedRow(row.key, before=row.shown, after={"ended_by": how}, changed=bool(done))
            for row, done in zip(rows, ended, strict=True)
        ]


register(EndSession())
