"""Applies a plan: looks again under lock, refuses what drifted, changes the rows, keeps what it did.

A transactional change is all or nothing, its record included. A stepwise one keeps each row as it is
done; after a crash, or when rows failed, applying it again goes on with what is left.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import psycopg2.errors

from runbook_lib.changes.actions import Action, admin_action, extend_action
from runbook_lib.changes.kinds import (
    ChangedRow,
    ChangeKind,
    Preview,
    SeenRow,
    StepwiseKind,
    TransactionalKind,
    Undo,
    kind_named,
)
from runbook_lib.changes.plans import Plan, find, undo_of
from runbook_lib.credentials.masking import mask
from runbook_lib.database.connection import Connection, Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import PlanRefused, RunbookError

_SQL = load("changes")
FAILURES_SHOWN = 20
HOLD_GRACE_SECONDS = 15
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ChangeResult:
    """What applying a plan did, in rows.

    `status`: planned (it was dry), applied, or failed (some rows failed or are left; apply it again to
    go on). `failures` names up to twenty of the failed rows.
    """

    change_id: str
    kind: str
    dry_run: bool
    status: str
    changed: int = 0
    unchanged: int = 0
    failed: int = 0
    left: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)
    undo: Undo | None = None
    action_id: str | None = None

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


def apply(
    database: Database,
    change_id: str,
    *,
    actor: str,
    dry_run: bool = True,
    reason: str | None = None,
    progress: Progress | None = None,
) -> ChangeResult:
    """Applies a plan; dry unless told otherwise: then it only looks whether it could be applied.

    `progress` is called with (done, all) after each row of a stepwise change. Raises `PlanRefused`
    when what the plan saw has changed, exceeds its limit, or was applied or is being applied; what
    was refused or failed stands in `admin_actions` too, unless it was dry.
    """
    plan = find(database, change_id)
    kind = kind_named(plan.kind)
    if dry_run:
        return _look_again(database, plan, kind)
    with admin_action(
        database,
        actor=actor,
        action=plan.kind,
        target=f"{plan.row_count} rows",
        reason=reason,
        change_id=plan.change_id,
        deadline_seconds=2 * kind.deadline_seconds,
    ) as action:
        try:
            if isinstance(kind, StepwiseKind):
                return _Stepwise(database, plan, kind, action, actor).apply(progress)
            assert isinstance(kind, TransactionalKind)
            return _apply_at_once(database, plan, kind, action, actor)
        except psycopg2.errors.LockNotAvailable:
            raise PlanRefused(
                f"Rows of change {plan.change_id} are in use and were not free within "
                f"{kind.lock_timeout_seconds:g} s. Nothing was changed; apply it again."
            ) from None


def _look_again(database: Database, plan: Plan, kind: ChangeKind) -> ChangeResult:
    if plan.status == "applied":
        raise _applied_already(plan)
    if plan.status == "planned":
        with database.transaction(
            deadline_seconds=kind.deadline_seconds, read_only=True
        ) as transaction:
            preview = kind.preview(transaction, plan.parameters, plan.row_limit + 1)
        _refuse_unfit(plan, preview)
        left = preview.count
    else:
        with database.transaction(read_only=True) as transaction:
            left = len(transaction.rows(_SQL["rows_left"], change_id=plan.change_id))
    return ChangeResult(plan.change_id, plan.kind, dry_run=True, status=plan.status, left=left)


def _apply_at_once(
    database: Database, plan: Plan, kind: TransactionalKind, action: Action, actor: str
) -> ChangeResult:
    with database.transaction(
        deadline_seconds=kind.deadline_seconds, lock_timeout_seconds=kind.lock_timeout_seconds
    ) as transaction:
        _lock_change(transaction, plan)
        rows = _locked_rows(transaction, plan, kind)
        changed = kind.apply(transaction, rows, plan.parameters, actor)
        transaction.run(
            _SQL["add_changed_rows"],
            change_id=plan.change_id,
            keys=[row.key for row in changed],
            changed=[row.changed for row in changed],
            before=[json.dumps(row.before, default=str) for row in changed],
            after=[json.dumps(row.after, default=str) for row in changed],
        )
        return _end(transaction, plan, kind, action, actor)


def _locked_rows(transaction: Transaction, plan: Plan, kind: TransactionalKind) -> list[SeenRow]:
    # Looked at twice: what the first look found is locked, so what the second one finds stays.
    first = kind.preview(transaction, plan.parameters, plan.row_limit + 1)
    _refuse_unfit(plan, first)
    kind.lock(transaction, first.rows)
    preview = kind.preview(transaction, plan.parameters, plan.row_limit + 1)
    _refuse_unfit(plan, preview)
    return list(preview.rows)


@dataclass(frozen=True)
class _Stepwise:
    """One pass over a stepwise change. Every record is fenced by the action that made it."""

    database: Database
    plan: Plan
    kind: StepwiseKind
    action: Action
    actor: str

    def apply(self, progress: Progress | None) -> ChangeResult:
        with self.database.connect() as connection:
            rows = self._take(connection)
            try:
                self._work_through(connection, rows, progress)
            finally:
                # Whatever happened, the change is open again at once for whoever goes on with it.
                with connection.transaction() as transaction:
                    result = _end(transaction, self.plan, self.kind, self.action, self.actor)
        return result

    @property
    def _hold_seconds(self) -> float:
        return self.kind.row_deadline_seconds + HOLD_GRACE_SECONDS

    def _take(self, connection: Connection) -> list[SeenRow]:
        with connection.transaction(
            deadline_seconds=self.kind.deadline_seconds,
            lock_timeout_seconds=self.kind.lock_timeout_seconds,
        ) as transaction:
            if _lock_change(transaction, self.plan) == "planned":
                self._keep_rows(transaction)
            transaction.run(
                _SQL["take_change"],
                change_id=self.plan.change_id,
                actor=self.actor,
                action_id=self.action.action_id,
                seconds=self._hold_seconds,
            )
            extend_action(transaction, self.action.action_id, self._hold_seconds)
            left = transaction.rows(_SQL["rows_left"], change_id=self.plan.change_id)
        return [SeenRow(row.row_key, row.seen) for row in left]

    def _keep_rows(self, transaction: Transaction) -> None:
        preview = self.kind.preview(transaction, self.plan.parameters, self.plan.row_limit + 1)
        _refuse_unfit(self.plan, preview)
        transaction.run(
            _SQL["add_rows"],
            change_id=self.plan.change_id,
            keys=[row.key for row in preview.rows],
            seen=[json.dumps(row.seen) for row in preview.rows],
        )

    def _work_through(
        self, connection: Connection, rows: list[SeenRow], progress: Progress | None
    ) -> None:
        failures_in_a_row = 0
        with self.kind.applier(self.database, self.plan.parameters, self.actor) as apply_row:
            for number, row in enumerate(rows, start=1):
                try:
                    changed = apply_row(row)
                except RunbookError as error:
                    failures_in_a_row += 1
                    self._record(connection, ChangedRow(row.key), error)
                else:
                    failures_in_a_row = 0
                    self._record(connection, changed, None)
                if progress is not None:
                    progress(number, len(rows))
                if failures_in_a_row >= self.kind.stop_after_failures_in_a_row:
                    return

    def _record(self, connection: Connection, row: ChangedRow, error: RunbookError | None) -> None:
        with connection.transaction() as transaction:
            ours = transaction.row(
                _SQL["keep_change"],
                change_id=self.plan.change_id,
                action_id=self.action.action_id,
                seconds=self._hold_seconds,
            )
            if ours is None:
                raise PlanRefused(
                    f"Change {self.plan.change_id} was taken over by somebody else after "
                    f"{self._hold_seconds:g} s without a sign of life; this pass stops."
                )
            done = "changed" if row.changed else "unchanged"
            transaction.run(
                _SQL["record_row"],
                change_id=self.plan.change_id,
                key=row.key,
                outcome=done if error is None else "failed",
                before=json.dumps(row.before, default=str),
                after=json.dumps(row.after, default=str),
                error=None if error is None else mask(str(error)),
            )
            extend_action(transaction, self.action.action_id, self._hold_seconds)


def _lock_change(transaction: Transaction, plan: Plan) -> str:
    """Takes the change for this transaction; returns its status. Raises `PlanRefused`."""
    row = transaction.row(_SQL["lock_change"], change_id=plan.change_id)
    if row is None or (row.status == "applying" and row.taken):
        raise PlanRefused(f"Change {plan.change_id} is being applied right now.")
    if row.status == "applied":
        raise _applied_already(plan, row)
    status: str = row.status
    return status


def _applied_already(plan: Plan, row: Any = None) -> PlanRefused:
    seen = row or plan
    return PlanRefused(
        f"Change {plan.change_id} was applied already, by {seen.applied_by} at "
        f"{seen.applied_at:%Y-%m-%d %H:%M:%S}. Plan again to do it once more."
    )


def _refuse_unfit(plan: Plan, preview: Preview) -> None:
    if preview.count > plan.row_limit:
        raise PlanRefused(
            f"{plan.kind} would touch {preview.count} rows; the limit is {plan.row_limit}. "
            "Narrow the selection, or plan again with a higher --limit."
        )
    if preview.digest != plan.digest:
        raise PlanRefused(
            f"What change {plan.change_id} was planned on has changed since: {plan.row_count} rows "
            f"then, {preview.count} now, or the same ones in another state. Plan again."
        )


def _end(
    transaction: Transaction, plan: Plan, kind: ChangeKind, action: Action, actor: str
) -> ChangeResult:
    """Keeps what became of the change, and closes the action's record with it."""
    counts = {
        row.outcome: row.rows
        for row in transaction.rows(_SQL["count_rows"], change_id=plan.change_id)
    }
    failed = transaction.rows(
        _SQL["failed_rows"], change_id=plan.change_id, row_count=FAILURES_SHOWN
    )
    changed, left = counts.get("changed", 0), counts.get("left", 0)
    result = ChangeResult(
        plan.change_id,
        plan.kind,
        dry_run=False,
        status="failed" if failed or left else "applied",
        changed=changed,
        unchanged=counts.get("unchanged", 0),
        failed=counts.get("failed", 0),
        left=left,
        failures=[{"key": row.row_key, "error": row.error} for row in failed],
        undo=undo_of(kind, plan.change_id, changed),
        action_id=action.action_id,
    )
    record = result.as_record()
    transaction.run(
        _SQL["end_change"],
        change_id=plan.change_id,
        status=result.status,
        actor=actor,
        held_by=action.action_id if isinstance(kind, StepwiseKind) else None,
        result=json.dumps(record),
        undo=json.dumps(record["undo"]),
    )
    action.close(
        transaction,
        "done" if result.status == "applied" else "failed",
        before={"rows": plan.row_count, "sample": plan.sample},
        after={name: record[name] for name in ("status", "changed", "unchanged", "failed", "left")},
        error=None if result.status == "applied" else _what_is_left(result),
    )
    return result


def _what_is_left(result: ChangeResult) -> str:
    return (
        f"{result.failed} rows failed and {result.left} are left. `runbook changes apply "
        f"{result.change_id} --execute` goes on with them."
    )
