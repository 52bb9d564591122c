"""Plans: what a change would touch, looked at without touching it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from runbook_lib.changes.kinds import ChangedRow, ChangeKind, Preview, Undo, kind_named
from runbook_lib.database.connection import Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import NotFoundError, UsageError

_SQL = load("changes")
SAMPLE_ROWS = 10
_CHANGE_ID = re.compile(r"[0-9a-f-]{4,36}")


@dataclass(frozen=True)
class Plan:
    """A planned change as it stands in the database.

    `status`: planned, applying, applied, or failed (it can be gone on with). `sample` holds up to ten
    rows from both ends. `undo` is known once it was applied.
    """

    change_id: str
    kind: str
    parameters: dict[str, Any]
    planned_at: datetime
    planned_by: str
    row_count: int
    row_limit: int
    oldest: datetime | None
    newest: datetime | None
    sample: list[dict[str, Any]]
    digest: str
    status: str
    applied_at: datetime | None
    applied_by: str | None
    result: dict[str, Any] | None
    undo: Undo | None

    @property
    def chosen(self) -> dict[str, Any]:
        """The parameters that somebody chose, without what a kind keeps of what it saw."""
        return {
            name: value for name, value in self.parameters.items()
            if value is not None and not isinstance(value, dict)
        }  # fmt: skip

    @property
    def exceeds_limit(self) -> bool:
        return self.row_count > self.row_limit


def plan(
    database: Database,
    kind: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    actor: str,
    row_limit: int | None = None,
) -> Plan:
    """Looks at what a change would touch, without touching it, and keeps that as a plan.

    `row_limit` replaces the kind's own; a plan beyond it is kept, and refused when applied. Raises
    `NotFoundError` for an unknown kind and `UsageError` for parameters that do not fit.
    """
    found = kind_named(kind)
    limit = found.row_limit if row_limit is None else row_limit
    if limit < 1:
        raise UsageError(f"The limit must be at least 1; it is {limit}.")
    checked, preview = _look(database, found, parameters, limit)
    times = [at for row in preview.rows for at in (row.at, row.until) if at is not None]
    with database.transaction() as transaction:
        row = transaction.row(
            _SQL["add_plan"],
            kind=kind,
            parameters=json.dumps(found.kept(checked, preview)),
            actor=actor,
            row_count=preview.count,
            row_limit=limit,
            oldest=min(times, default=None),
            newest=max(times, default=None),
            sample=json.dumps(_sample(preview)),
            digest=preview.digest,
        )
    return _plan(row)


def look(database: Database, kind: str, parameters: Mapping[str, Any] | None = None) -> Preview:
    """What a plan would see, without keeping one. Raises as `plan`."""
    found = kind_named(kind)
    return _look(database, found, parameters, found.row_limit)[1]


def _look(
    database: Database, kind: ChangeKind, parameters: Mapping[str, Any] | None, limit: int
) -> tuple[dict[str, Any], Preview]:
    checked = kind.checked(parameters or {})
    with database.transaction(
        deadline_seconds=kind.deadline_seconds, read_only=True
    ) as transaction:
        return checked, kind.preview(transaction, checked, limit + 1)


def plan_undo(database: Database, change_id: str, *, actor: str) -> Plan:
    """A plan that takes an applied change back.

    Raises `UsageError` when it was not applied or its kind cannot be undone.
    """
    applied = find(database, change_id)
    if applied.undo is None:
        reason = "cannot be undone" if applied.status == "applied" else f"is {applied.status}"
        raise UsageError(f"Change {applied.change_id} ({applied.kind}) {reason}.")
    return plan(database, applied.undo.kind, applied.undo.parameters, actor=actor)


def find(database: Database, change_id: str) -> Plan:
    """The plan with this id, or with the only id that begins so. Raises `NotFoundError`."""
    prefix = str(change_id).strip().lower()
    rows = []
    if _CHANGE_ID.fullmatch(prefix):
        with database.transaction(read_only=True) as transaction:
            rows = transaction.rows(_SQL["find_plans"], prefix=prefix)
    if not rows:
        raise NotFoundError(f"There is no change {change_id!r}. See `runbook changes list`.")
    if len(rows) > 1:
        raise NotFoundError(f"More than one change begins with {change_id!r}. Give more of its id.")
    return _plan(rows[0])


def list_changes(
    database: Database, *, kind: str | None = None, status: str | None = None, row_count: int = 50
) -> list[Plan]:
    """The newest plans, newest first."""
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows(_SQL["list_changes"], kind=kind, status=status, row_count=row_count)
    return [_plan(row) for row in rows]


def rows_changed(transaction: Transaction, change_id: str) -> list[ChangedRow]:
    """The rows that a change really changed, with before and after: what its inverse works on."""
    rows = transaction.rows(_SQL["rows_changed"], change_id=change_id)
    return [ChangedRow(row.row_key, row.before, row.after) for row in rows]


def undo_of(kind: ChangeKind, change_id: str, changed_count: int) -> Undo | None:
    """How an applied change is taken back; None when it cannot be or changed nothing."""
    if kind.inverse is None or not changed_count:
        return None
    return Undo(kind.inverse, {"change": change_id})


def _sample(preview: Preview) -> list[dict[str, Any]]:
    rows = list(preview.rows)
    if len(rows) > SAMPLE_ROWS:
        rows = rows[: SAMPLE_ROWS // 2] + rows[-SAMPLE_ROWS // 2 :]
    return [{"key": row.key, **row.shown, **row.seen} for row in rows]


def _plan(row: Any) -> Plan:
    values = row._asdict()
    for hidden in ("applying_action", "applying_until"):
        del values[hidden]
    values["change_id"] = str(values["change_id"])
    values["undo"] = Undo(**values["undo"]) if values["undo"] else None
    return Plan(**values)
