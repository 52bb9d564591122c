"""Taking back jobs that their worker left, as a planned change.

Workers sweep by themselves each second; this is for when none runs, or when somebody wants to see first what
a sweep would take. A job whose lease still runs, or whose worker was heard of a moment ago, is never taken:
a job that two workers have is how an article appears twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runbook_lib import changes
from runbook_lib.changes import ChangedRow, Preview, SeenRow, TransactionalKind
from runbook_lib.database.connection import Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import PlanRefused
from runbook_lib.pipeline import jobs
from runbook_lib.pipeline.permits import add_event
from runbook_lib.pipeline.retries import chosen_job_ids
from runbook_lib.pipeline.turn import swept_event
from runbook_lib.policy import load_policy
from runbook_lib.settings import load_settings

_SQL = load("sweeping")


class Sweep(TransactionalKind):
    """Jobs whose lease ran out and whose worker fell silent become pending again, or go into quarantine."""

    name = "jobs.sweep"
    summary = "Takes back jobs whose worker vanished."
    parameters = {  # noqa: RUF012
        "job_ids": "only these jobs, separated by commas",
        "worker": "only jobs of this worker",
    }
    row_limit = 1000

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "job_ids": chosen_job_ids(given.get("job_ids") or None),
            "worker": given.get("worker") or None,
        }

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        rows = _held(transaction, parameters, row_count, only_left=True)
        return Preview([_seen(row) for row in rows], rows[0].total if rows else 0)

    def lock(self, transaction: Transaction, rows: Sequence[SeenRow]) -> None:
        transaction.rows(load("retries")["lock_jobs"], job_ids=[row.key for row in rows])

    def apply(
        self,
        transaction: Transaction,
        rows: Sequence[SeenRow],
        parameters: Mapping[str, Any],
        actor: str,
    ) -> list[ChangedRow]:
        swept = jobs.sweep(
            transaction,
            quarantine_after=load_settings().runbook_quarantine_after_lost_attempts,
            count=len(rows),
            job_ids=[row.key for row in rows],
        )
        for each in swept:
            add_event(transaction, actor, swept_event(each))
        if swept:
            jobs.notify_workers(transaction)
        after = {each.job_id: {"status": each.status} for each in swept}
        if missing := [row.key for row in rows if row.key not in after]:
            raise PlanRefused(f"{len(missing)} of the jobs were taken by somebody else. Plan again.")  # fmt: skip
        return [ChangedRow(row.key, row.seen, after[row.key]) for row in rows]


def left_and_kept(transaction: Transaction, *, row_count: int) -> tuple[list[str], list[Any]]:
    """Of the jobs whose lease ran out: those that their worker left, and those whose worker was heard of lately."""
    everything = {"job_ids": None, "worker": None}
    left = {row.job_id for row in _held(transaction, everything, row_count, only_left=True)}
    held = _held(transaction, everything, row_count, only_left=False)
    kept = [row for row in held if row.expired_for_seconds > 0 and row.job_id not in left]
    return sorted(left), kept


def held_jobs(
    transaction: Transaction, *, job_ids: Sequence[str] | None = None, row_count: int = 100
) -> list[Any]:
    """Jobs in processing with whoever holds them, the longest expired first; `total` is how many there are."""
    return _held(
        transaction, {"job_ids": job_ids, "worker": None}, row_count, only_left=False
    )  # fmt: skip


def _held(
    transaction: Transaction, parameters: Mapping[str, Any], row_count: int, *, only_left: bool
) -> list[Any]:
    return transaction.rows(
        _SQL["held_jobs"],
        job_ids=parameters["job_ids"],
        worker=parameters["worker"],
        only_left=only_left,
        silent_seconds=load_policy(load_settings()).thresholds.worker_silent_seconds,
        row_count=row_count,
    )


def _seen(row: Any) -> SeenRow:
    return SeenRow(
        row.job_id,
        seen={"status": "processing", "attempt": row.attempt, "worker": row.worker, "lost_count": row.lost_count},
        shown={"topic": row.topic, "stage": row.stage},
        at=row.lease_until,
    )  # fmt: skip


changes.register(Sweep())
