"""`sweeper`: takes back jobs whose worker vanished; a dry run only shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runbook_lib.changes import admin_action
from runbook_lib.errors import UsageError
from runbook_lib.functions.calling import Call
from runbook_lib.functions.requests import Sweeper
from runbook_lib.health.stuck import stuck_jobs
from runbook_lib.pipeline import jobs
from runbook_lib.pipeline.permits import add_event
from runbook_lib.pipeline.sweeping import left_and_kept
from runbook_lib.pipeline.turn import swept_event

ROWS_SHOWN = 100
ROWS_A_SWEEP = 1000


def sweeper(call: Call) -> dict[str, Any]:
    """What is expired and what was taken back.

    A job whose lease still runs is never touched, nor one whose worker was heard of a moment ago: it may be
    at it. Of a pipeline that is not ours
    what seems stuck is shown, and nothing is taken back.
    """
    request = call.request
    assert isinstance(request, Sweeper)
    if request.dry_run:
        return _preview(call)
    if call.context.sources.attached:
        raise UsageError(
            "This pipeline is not ours: nothing is written to it. Its own sweeper is called by "
            "`runbook changes plan sweeper.call` and then `runbook changes apply` (RUNBOOK_FUNCTIONS_URL)."
        )
    return _sweep(call, request)


def _preview(call: Call) -> dict[str, Any]:
    found = stuck_jobs(
        call.context.sources,
        older_than_seconds=call.context.policy.thresholds.stuck_after_seconds,
        row_count=ROWS_SHOWN,
    )
    kept: list[Any] = []
    if not call.context.sources.attached:
        with call.context.sources.bookkeeping.transaction(read_only=True) as transaction:
            kept = left_and_kept(transaction, row_count=ROWS_SHOWN)[1]
    lives = {row.job_id for row in kept}
    words = f" {len(kept)} of them would be left alone: their worker lives." if kept else ""
    return {
        "dry_run": True,
        "processing": found.processing,
        "expired": found.count,
        "by_age": found.by_age,
        "would_sweep": [job for job in found.jobs if str(job["job_id"]) not in lives],
        "left_alone": _named(kept),
        "message": f"{found.words}{words} Nothing was changed.",
    }


def _sweep(call: Call, request: Sweeper) -> dict[str, Any]:
    database, settings = call.context.sources.bookkeeping, call.context.settings
    with (
        admin_action(
            database,
            actor=call.actor,
            action="sweep",
            target="expired leases",
            reason=request.reason,
        ) as action,
        database.transaction() as transaction,
    ):
        left, kept = left_and_kept(transaction, row_count=ROWS_A_SWEEP)
        swept = jobs.sweep(
            transaction,
            quarantine_after=settings.runbook_quarantine_after_lost_attempts,
            count=ROWS_A_SWEEP,
            job_ids=left,
        )
        for each in swept:
            add_event(transaction, call.actor, swept_event(each))
        if swept:
            jobs.notify_workers(transaction)
        taken = [{"job_id": each.job_id, "status": each.status, "attempt": each.attempt, "worker": each.worker} for each in swept]  # fmt: skip
        action.done(transaction, after={"swept": len(taken), "jobs": taken[:ROWS_SHOWN]})
    return {
        "dry_run": False,
        "swept": len(taken),
        "jobs": taken[:ROWS_SHOWN],
        "more_may_be_left": len(taken) == ROWS_A_SWEEP,
        "left_alone": _named(kept),
        "message": _told(len(taken), kept),
    }


def _named(kept: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {"job_id": row.job_id, "attempt": row.attempt, "worker": row.worker}
        for row in kept[:ROWS_SHOWN]
    ]


def _told(taken: int, kept: Sequence[Any]) -> str:
    words = f"{taken} jobs were taken back." if taken else "Nothing was taken back: no lease had expired of a worker that is gone."  # fmt: skip
    if not kept:
        return words
    first = kept[0]
    return (
        f"{words} {len(kept)} were left alone: their lease ran out and their worker lives ({first.worker} was heard of "
        f"{first.silent_seconds:.0f} s ago), so they would be done twice. `runbook workers drain {first.worker}` lets it "
        "finish, or end its process; what it leaves is taken back by itself."
    )
