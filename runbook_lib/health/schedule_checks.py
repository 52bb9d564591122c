"""The scheduler: whether one is there, whether what should have run did, whether every file fits."""

from __future__ import annotations

from runbook_lib.database.statements import load
from runbook_lib.health.checks import Check
from runbook_lib.health.registry import DeclaredCheck, View

_SQL = load("scheduling")
NAMES_SHOWN = 3


def heartbeat(view: View) -> Check:
    """Whether a scheduler gave a sign of life lately."""
    silent_seconds = view.policy.thresholds.scheduler_silent_seconds
    statement = _SQL["heartbeat"]
    row = view.own_row(statement, silent_seconds=silent_seconds)
    name, source = "scheduler.heartbeat", statement.source
    if not row.schedulers:
        return Check(
            name, "not_enough_data", "No scheduler was ever started on this database.", source=source,
            next="Start one where schedules should run: `runbook schedule start`, or `make run`.",
        )  # fmt: skip
    facts = {
        "value": round(row.age_seconds, 1), "unit": "s", "threshold": silent_seconds, "source": source,
        "details": {"scheduler": row.name, "alive": row.alive, "schedules": row.schedules},
    }  # fmt: skip
    if row.alive:
        return Check(
            name, "ok", f"{row.alive} running; the newest sign of life is {row.age_seconds:.0f} s old.",
            does_not_prove="that what it ran went well: `runbook schedule list`", **facts,
        )  # fmt: skip
    if row.stopped_at is not None:
        return Check(
            name, "warning", f"No scheduler runs; {row.name} was stopped {_ago(row.age_seconds)}.",
            next="Start it again: `runbook schedule start`. What came due meanwhile is caught up by each schedule's policy.",
            **facts,
        )  # fmt: skip
    return Check(
        name, "critical", f"The scheduler {row.name} gave its last sign of life {_ago(row.age_seconds)}.",
        next="Look at its log and start it again: `runbook schedule start`. Nothing with effects is run again by itself.",
        **facts,
    )  # fmt: skip


def absent_runs(view: View) -> Check:
    """Whether runs are absent that a schedule promised."""
    grace_seconds = view.policy.thresholds.absent_run_grace_seconds
    statement = _SQL["absent_runs"]
    rows = view.own_rows(statement, grace_seconds=grace_seconds)
    name, source = "scheduler.absent_runs", statement.source
    details = {
        row.schedule_id: {
            "procedure": row.procedure, "due_at": row.due_at.isoformat(),
            "late_seconds": round(row.late_seconds), "reason": row.reason,
        }
        for row in rows
    }  # fmt: skip
    if not rows:
        known = view.own_row(_SQL["heartbeat"], silent_seconds=grace_seconds).schedules
        if not known:
            said = "No scheduler has read any schedule yet."
            return Check(name, "not_enough_data", said, source=source)
        return Check(
            name, "ok", f"Of {known} schedules, each ran as it should.", 0, "runs", threshold=0,
            source=source, does_not_prove="that the schedules' files are the right ones",
        )  # fmt: skip
    shown = "; ".join(
        f"{row.schedule_id} due {row.due_at:%Y-%m-%d %H:%M} ({_ago(row.late_seconds)}): {row.reason}"
        for row in rows[:NAMES_SHOWN]
    )
    more = f" and {len(rows) - NAMES_SHOWN} more" if len(rows) > NAMES_SHOWN else ""
    return Check(
        name, "warning", f"Absent: {shown}{more}", len(rows), "runs", threshold=0, source=source,
        next=f"See that a scheduler runs, then `runbook schedule run-now {rows[0].schedule_id}`.",
        procedure=rows[0].procedure, details=details,
    )  # fmt: skip


def files(view: View) -> Check:
    """Whether every schedule's file fits."""
    statement = _SQL["unfit_schedules"]
    rows = view.own_rows(statement)
    name, source = "scheduler.files", statement.source
    if not rows:
        return Check(
            name, "ok", "No schedule's file was found unfit.", 0, "files", threshold=0, source=source,
            does_not_prove="that a scheduler has read them",
        )  # fmt: skip
    shown = "; ".join(f"{row.schedule_id}: {row.problem}" for row in rows[:NAMES_SHOWN])
    return Check(
        name, "warning", f"{len(rows)} do not fit and do not run. {shown}", len(rows), "files",
        threshold=0, source=source, next="`runbook schedule check` says it for each; mend the files.",
        details={row.schedule_id: row.problem for row in rows},
    )  # fmt: skip


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.0f} h ago"


CHECKS: tuple[DeclaredCheck, ...] = (
    DeclaredCheck("scheduler.heartbeat", "A scheduler is there.", heartbeat),
    DeclaredCheck("scheduler.absent_runs", "Every promised run began.", absent_runs),
    DeclaredCheck("scheduler.files", "Every schedule's file fits.", files),
)
