"""The record of what operators did: a row in `admin_actions`, opened before anything happens.

The row is committed as `started` first and closed in the transaction of the effect, so that a crash
leaves a trace. A row that nobody closed by `expected_by` is closed as `failed` by whoever looks next.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg2

from runbook_lib.credentials.masking import mask
from runbook_lib.database.connection import Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import (
    CouldNotBeDone,
    DatabaseUnreachable,
    NotFoundError,
    PlanRefused,
    RunbookError,
    UsageError,
)
from runbook_lib.settings import load_settings
from runbook_lib.spool import UNWRITABLE, Entry, open_spool

_SQL = load("admin_actions")
# What a run by schedule may change, by name: the variable that tells it so.
ALLOWED_CHANGES = "RUNBOOK_ALLOWED_CHANGES"
_NOTHING = "nothing"
_REFUSALS = (PlanRefused, UsageError, NotFoundError)


@dataclass
class Action:
    """One operator's action while it is under way."""

    action_id: str
    before: Any = None
    after: Any = None
    closed: bool = field(default=False, repr=False)

    def done(self, transaction: Transaction, *, before: Any = None, after: Any = None) -> None:
        """Closes the record in the transaction of the effect: both are kept, or neither."""
        self.close(transaction, "done", before=before, after=after)

    def close(
        self,
        transaction: Transaction,
        outcome: str,
        *,
        before: Any = None,
        after: Any = None,
        error: str | None = None,
    ) -> None:
        """As `done`, for any outcome: done, failed or refused."""
        self.before, self.after = before, after
        _close(transaction, self, outcome, error)
        self.closed = True


@contextmanager
def admin_action(
    database: Database,
    *,
    actor: str,
    action: str,
    target: str | None = None,
    reason: str | None = None,
    change_id: str | None = None,
    deadline_seconds: float | None = None,
) -> Iterator[Action]:
    """Records an action: opened before the block, closed by `Action.done` inside it.

    A block that ends without `done` is closed as done in a transaction of its own; one that raises is
    closed as refused (`PlanRefused`, `UsageError`, `NotFoundError`) or failed, with the error masked.
    While the database cannot be written nothing is done: that it was asked for goes to the spool.
    What ends while it is away is closed from there later.
    """
    asked = {
        "action_id": str(uuid.uuid4()),
        "actor": actor,
        "host": socket.gethostname(),
        "action": action,
        "target": target,
        "reason": None if reason is None else mask(reason),
        "change_id": change_id,
        "run_id": _run_of_this_kernel(),
    }
    try:
        with database.transaction() as transaction:
            close_stale_actions(transaction)
            transaction.run(
                _SQL["open_action"],
                deadline_seconds=deadline_seconds or 2 * database.deadline_seconds,
                **asked,
            )
    except UNWRITABLE as error:
        raise _refused(asked, error) from error
    opened = Action(str(asked["action_id"]))
    try:
        _require_allowed(action)
        yield opened
    except BaseException as error:
        _close_after(database, opened, error)
        raise
    if not opened.closed:
        try:
            with database.transaction() as transaction:
                opened.done(transaction, before=opened.before, after=opened.after)
        except UNWRITABLE:
            open_spool().put("admin_action_closed", _closing(opened, "done", None))


def file_action(transaction: Transaction, entry: Entry) -> None:
    """Files an action that was refused while the database was away."""
    transaction.run(
        _SQL["file_refused_action"], acted_at=entry.happened_at, **{"run_id": None, **entry.content}
    )


def file_closing(transaction: Transaction, entry: Entry) -> None:
    """Files how an action ended while the database was away."""
    transaction.run(_SQL["file_closing"], ended_at=entry.happened_at, **entry.content)


def allowed_changes(names: Collection[str]) -> str:
    """The names as the variable `ALLOWED_CHANGES` of a run holds them."""
    return ",".join(names) or _NOTHING


def _require_allowed(action: str) -> None:
    """Raises `PlanRefused` in a run that may change only what its schedule names."""
    allowed = load_settings().runbook_allowed_changes
    if allowed is None or action in allowed.split(","):
        return
    raise PlanRefused(
        f"{action} was not done: this run may change {allowed.replace(',', ', ')}. "
        f"To allow it in a run by schedule, add {action} to allow_changes in the schedule's file."
    )


def extend_action(transaction: Transaction, action_id: str, seconds: float) -> None:
    """A long action is still under way: it is stale only after another `seconds`."""
    transaction.run(_SQL["extend_action"], action_id=action_id, seconds=seconds)


def close_stale_actions(transaction: Transaction) -> int:
    """Closes as failed what was never closed and is past its time; returns how many."""
    return transaction.run(_SQL["close_stale_actions"])


def _run_of_this_kernel() -> str | None:
    """The run of a procedure whose cell does this; None outside of one."""
    try:
        return str(uuid.UUID(os.environ.get("RUNBOOK_RUN_ID", "")))
    except ValueError:
        return None


def _close_after(database: Database, action: Action, error: BaseException) -> None:
    outcome = "refused" if isinstance(error, _REFUSALS) else "failed"
    text = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    # What `done` kept, if its transaction was committed, stays; if it was rolled back, it is not true.
    action.before = action.after = None
    try:
        try:
            with database.transaction() as transaction:
                _close(transaction, action, outcome, mask(text))
        except UNWRITABLE:
            open_spool().put("admin_action_closed", _closing(action, outcome, mask(text)))
    except (RunbookError, psycopg2.Error):
        pass  # the error itself matters more; the row is closed as stale by whoever looks next


def _close(transaction: Transaction, action: Action, outcome: str, error: str | None) -> None:
    transaction.run(_SQL["close_action"], **_closing(action, outcome, error))


def _closing(action: Action, outcome: str, error: str | None) -> dict[str, Any]:
    return {
        "action_id": action.action_id,
        "outcome": outcome,
        "before": json.dumps(action.before, default=str),
        "after": json.dumps(action.after, default=str),
        "error": error,
    }


def _refused(asked: dict[str, Any], reason: Exception) -> CouldNotBeDone:
    """Keeps in the spool that an action was asked for; returns what its caller is told."""
    said = (
        f"{asked['action']} was not done, since the database cannot be written: {mask(str(reason))}"
    )
    open_spool().put("admin_action", {**asked, "error": said})
    return DatabaseUnreachable(f"{said} That it was asked for is recorded later.")
