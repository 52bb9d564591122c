"""Changes by an operator: planned, looked at, then applied; each leaves a row in `admin_actions`.

**Using a kind of change**::

    plan = changes.plan(database, "jobs.retry", {"class": "openai_timeout"}, actor="ana")
    changes.apply(database, plan.change_id, actor="ana")                  # dry: looks again, changes nothing
    result = changes.apply(database, plan.change_id, actor="ana", dry_run=False, reason="outage is over")
    undo = changes.plan_undo(database, plan.change_id, actor="ana")       # a plan of the inverse kind

**Adding a kind** (in a higher room; `catalogue.py` says which module registers it)::

    class Retry(TransactionalKind):                    # effects in this database only
        name = "jobs.retry"
        summary = "Sets failed jobs back to pending."
        parameters = {"class": "error class", "since": "not before this time"}
        inverse = "jobs.unretry"                       # or None; undone by {"change": <id>}

        def check(self, given): ...                    # → plain JSON values; times made absolute
        def preview(self, transaction, parameters, row_count): ...   # read-only → Preview
        def lock(self, transaction, rows): ...         # SELECT … FOR UPDATE of these keys
        def apply(self, transaction, rows, parameters, actor): ...   # → one ChangedRow a row

    class Unpublish(StepwiseKind):                     # effects outside: row by row, resumable
        ...                                            # name, summary, parameters, check, preview
        @contextmanager
        def applier(self, database, parameters, actor):
            with client(...) as site:
                yield lambda row: ChangedRow(row.key, before={...}, after={...})

    register(Retry())

A stepwise applier gets a `SeenRow` as it was planned and returns a `ChangedRow`. It raises a
`RunbookError` when the row failed: that is recorded and the next row is tried; after several in a row
the rest is left. It must be repeatable: after a crash a second `apply` goes on with what is not
recorded as done, so the row at which it stopped may be done again. For the same reason `changed=False`
means that the row does not differ from what was *seen* (a row that this change did before the crash
does differ), and `before` is taken from there: else undoing would leave that row out.
`rows_changed(transaction, change_id)` gives an inverse kind what was changed, with before and after;
its `check` is `undo_parameters`.

An effect that needs no plan (a pause, a limit) stands in `with admin_action(database, …) as action:`.
"""

from __future__ import annotations

from runbook_lib.changes.actions import Action, admin_action, close_stale_actions
from runbook_lib.changes.applying import ChangeResult, apply
from runbook_lib.changes.kinds import (
    ChangedRow,
    ChangeKind,
    Preview,
    SeenRow,
    StepwiseKind,
    TransactionalKind,
    Undo,
    kinds,
    register,
    undo_parameters,
)
from runbook_lib.changes.plans import Plan, find, list_changes, look, plan, plan_undo, rows_changed

__all__ = [
    "Action",
    "ChangeKind",
    "ChangeResult",
    "ChangedRow",
    "Plan",
    "Preview",
    "SeenRow",
    "StepwiseKind",
    "TransactionalKind",
    "Undo",
    "admin_action",
    "apply",
    "close_stale_actions",
    "find",
    "kinds",
    "list_changes",
    "look",
    "plan",
    "plan_undo",
    "register",
    "rows_changed",
    "undo_parameters",
]
