"""Draining a worker as a planned change, and taking that back.

`runbook workers drain` asks at once; here it is looked at first: which worker, with how many jobs in hand,
and whether another one takes jobs meanwhile. The only one is left alone: drained, nobody would take any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from runbook_lib import changes
from runbook_lib.changes import ChangedRow, Preview, SeenRow, TransactionalKind
from runbook_lib.database.connection import Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import NotFoundError, PlanRefused, UsageError
from runbook_lib.pipeline.brakes import end_drain, put_drain
from runbook_lib.policy import load_policy
from runbook_lib.settings import load_settings

_SQL = load("worker_changes")
YES_NO = ("no", "yes")


class _OfWorkers(TransactionalKind):
    """One row a worker."""

    def lock(self, transaction: Transaction, rows: Sequence[SeenRow]) -> None:
        transaction.rows(_SQL["lock_workers"], workers=[row.key for row in rows])


class Drain(_OfWorkers):
    """Asks one worker to finish what it has, to take nothing more and to end."""

    name = "workers.drain"
    summary = "Asks one worker to finish its jobs and to end, while another one goes on."
    parameters: ClassVar[Mapping[str, str]] = {
        "worker": "its name, or the beginning of it, as `runbook workers` shows it",
        "also_the_last": "yes: also when no other worker takes jobs (default: no)",
    }
    inverse = "workers.undrain"

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        worker = str(given.get("worker") or "").strip()
        if not worker:
            raise UsageError("Say which worker: worker=…. `runbook workers` lists them.")
        also_the_last = str(given.get("also_the_last") or "no").lower()
        if also_the_last not in YES_NO:
            raise UsageError(f"also_the_last is yes or no, not {also_the_last!r}.")
        return {"worker": worker, "also_the_last": also_the_last}

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        row = _the_one(transaction, parameters["worker"])
        if row.draining:
            return Preview([], 0)
        if not row.others and parameters["also_the_last"] != "yes":
            raise PlanRefused(
                f"{row.worker} is the only worker that takes jobs: drained, nobody would. Start another one first "
                "(`python worker.py`), or plan it with also_the_last=yes."
            )
        shown = {
            "worker": row.worker, "host": row.host, "version": row.version, "jobs_in_hand": row.in_flight,
            "silent_seconds": round(row.silent_seconds), "others_that_go_on": row.others,
        }  # fmt: skip
        seen = {"started_at": row.started_at.isoformat()}
        return Preview([SeenRow(row.worker, seen, shown, row.started_at)], 1)

    def apply(
        self, transaction: Transaction, rows: Sequence[SeenRow], parameters: Mapping[str, Any], actor: str
    ) -> list[ChangedRow]:  # fmt: skip
        found = []
        for row in rows:
            drained = put_drain(transaction, row.key, actor=actor)
            # It may have paused a provider for all, for an old key of its own: those that go on try at once.
            tried = [each.provider for each in transaction.rows(_SQL["try_again_now"], worker=row.key)]  # fmt: skip
            after = {"in_flight": drained["in_flight"], "tried_again": tried}
            found.append(ChangedRow(row.key, row.seen, after))
        return found


class Undrain(_OfWorkers):
    """Lets a worker go on that a change asked to drain, if it has not ended yet."""

    name = "workers.undrain"
    summary = "Takes back that a worker was asked to drain, while it has not ended yet."
    parameters: ClassVar[Mapping[str, str]] = {"change": "the change that asked it"}

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return changes.undo_parameters(given)

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        rows = transaction.rows(_SQL["workers_drained"], change_id=parameters["change"])
        if ended := [row.worker for row in rows if row.stopped]:
            raise PlanRefused(
                f"{', '.join(ended)} has ended: nothing is lost, and it cannot go on. Start it again: `python worker.py`."
            )
        seen = [
            SeenRow(row.worker, {"started_at": row.started_at.isoformat()}, {"worker": row.worker, "jobs_in_hand": row.in_flight}, row.started_at)
            for row in rows if row.draining
        ]  # fmt: skip
        return Preview(seen, len(seen))

    def apply(
        self, transaction: Transaction, rows: Sequence[SeenRow], parameters: Mapping[str, Any], actor: str
    ) -> list[ChangedRow]:  # fmt: skip
        for row in rows:
            end_drain(transaction, row.key, actor=actor)
        return [ChangedRow(row.key, {"draining": True}, {"draining": False}) for row in rows]


def _the_one(transaction: Transaction, name: str) -> Any:
    """The running worker of this name. Raises `NotFoundError` for none, and for a beginning of several."""
    silent_seconds = load_policy(load_settings()).thresholds.worker_silent_seconds
    rows = transaction.rows(_SQL["worker_to_drain"], name=name, silent_seconds=silent_seconds)
    if not rows or (len(rows) > 1 and rows[0].worker != name):
        fitting = ", ".join(row.worker for row in rows) or "none"
        raise NotFoundError(f"There is no one running worker {name!r} (fitting: {fitting}). See `runbook workers`.")  # fmt: skip
    return rows[0]


changes.register(Drain())
changes.register(Undrain())
