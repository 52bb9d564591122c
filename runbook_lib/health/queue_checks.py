"""The queue: how much waits and for how long, what is stuck, what is held back."""

from __future__ import annotations

from runbook_lib.database.statements import load
from runbook_lib.health.checks import Check, Verdict
from runbook_lib.health.registry import DeclaredCheck, View, graded
from runbook_lib.pipeline.failures import FAILURE_CLASSES, Fault

_SQL = load("queue_checks")
STUCK_JOBS = "emergency/stuck_jobs"
SLOW_JOBS = "troubleshooting/slow_jobs"
SYSTEM_DOWN = "emergency/system_down"
# A worker sweeps every second: what stays expired for longer, nobody sweeps.
UNSWEPT_WARNING_SECONDS, UNSWEPT_CRITICAL_SECONDS = 15.0, 300.0
# A deferred job becomes due within a second while a worker runs.
OVERDUE_WARNING_SECONDS = 60.0
# A provider that asks for a pause says how long; one that stands longer is worth a look.
PASSING_PAUSE_SECONDS = 300.0


def depth(view: View) -> Check:
    """How many jobs wait. The number alone proves nothing: the age does."""
    statement = _SQL["queue"]
    row = view.row(statement)
    return Check(
        "queue.depth",
        "ok",
        f"{row.due} jobs are due, {row.deferred} wait for their time, {row.processing} are in processing, {row.error} ended in error.",
        row.due,
        "jobs",
        source=statement.source,
        does_not_prove="that they move: see queue.oldest_pending and workers.progressing",
        details={
            "due": row.due,
            "deferred": row.deferred,
            "processing": row.processing,
            "error": row.error,
        },
    )


def oldest_pending(view: View) -> Check:
    """For how long the oldest job waits that could be begun."""
    name, statement, limits = "queue.oldest_pending", _SQL["queue"], view.policy.thresholds
    row = view.row(statement)
    overdue = row.longest_overdue_seconds or 0.0
    if not row.due and overdue < OVERDUE_WARNING_SECONDS:
        words = "No job is due."
        return Check(name, "ok", words, 0, "s", source=statement.source, does_not_prove="that jobs still come in: see queue.throughput")  # fmt: skip
    age = max(row.oldest_due_seconds or 0.0, overdue)
    verdict = graded(age, limits.pending_age_warning_seconds, limits.pending_age_critical_seconds)
    if verdict == "ok" and overdue >= OVERDUE_WARNING_SECONDS:
        verdict = "warning"
    return Check(
        name,
        verdict,
        f"The oldest job that is due has waited for {in_words(age)}; {row.due} are due.",
        round(age, 1),
        "s",
        limits.pending_age_warning_seconds,
        statement.source,
        "why it waits",
        "See workers.alive, queue.pauses and queue.concurrency: no worker, a paused provider, or too few hands."
        if verdict != "ok"
        else None,
        procedure=SLOW_JOBS if verdict != "ok" else None,
        details={"due": row.due, "longest_overdue_seconds": overdue},
    )


def stuck(view: View) -> Check:
    """Jobs in processing that nobody works on."""
    if view.context.sources.missing(["jobs.lease_until"]):
        return _stuck_by_age(view)
    name, statement = "queue.stuck", _SQL["expired_leases"]
    row = view.row(statement)
    seconds = (row.expired_for_seconds or 0.0) if row.expired else 0.0
    verdict = graded(seconds, UNSWEPT_WARNING_SECONDS, UNSWEPT_CRITICAL_SECONDS)
    return Check(
        name,
        verdict,
        f"{row.expired} of {row.processing} jobs in processing have an expired lease, the longest for {in_words(seconds)}."
        if row.expired
        else f"All {row.processing} jobs in processing have a valid lease.",
        row.expired,
        "jobs",
        0,
        statement.source,
        "that the others move: see workers.progressing",
        "Any running worker sweeps by itself; if none runs, start one, or run the sweeper: `runbook function sweeper --data '{}'`."
        if verdict != "ok"
        else None,
        procedure=STUCK_JOBS if verdict != "ok" else None,
        details={"processing": row.processing, "expired_for_seconds": round(seconds, 1)},
    )


def _stuck_by_age(view: View) -> Check:
    name, statement = "queue.stuck", _SQL["long_in_processing"]
    missing = view.context.sources.missing(["jobs.started_at"])
    if missing:
        return Check(
            name,
            "not_enough_data",
            f"This pipeline has neither leases nor {missing[0]}, so nothing tells a stuck job from one that is worked on.",
            source=statement.source,
            details={"missing": ["jobs.lease_until", *missing]},
        )
    limit = view.policy.thresholds.stuck_after_seconds
    row = view.row(statement, seconds=limit)
    words = f"{row.old} of {row.processing} jobs have been in processing for more than {in_words(limit)}"
    words += f", the oldest for {in_words(row.oldest_seconds)}. There are no leases: they may still be running." if row.old else "."  # fmt: skip
    return Check(
        name,
        "warning" if row.old else "ok",
        words,
        row.old,
        "jobs",
        0,
        statement.source,
        "that they are stuck: they may still be running" if row.old else None,
        "Ask the worker before you take them away from it: a job that is given out twice is published twice."
        if row.old
        else None,
        procedure=STUCK_JOBS if row.old else None,
        parameters={"older_than_minutes": round(limit / 60)} if row.old else {},
        details={"processing": row.processing, "without_start": row.without_start},
    )


def pauses(view: View) -> Check:
    """Whether a provider is paused, by a person or because it refused."""
    name, statement = "queue.pauses", _SQL["pauses"]
    rows = [row._asdict() for row in view.own_rows(statement)]
    if not rows:
        words = "No provider is paused."
        return Check(name, "ok", words, 0, "pauses", source=statement.source)
    verdicts: list[Verdict] = [_pause_verdict(row) for row in rows]
    worst = max(verdicts, key=("ok", "warning", "critical").index)
    first = rows[verdicts.index(worst)]
    until = f"until {first['until']:%H:%M} UTC" if first["until"] else "until it is resumed"
    return Check(
        name,
        worst,
        f"{first['provider']} is paused by {first['paused_by']} {until}: {first['reason']}",
        len(rows),
        "pauses",
        0,
        statement.source,
        "that the reason still holds",
        f"When the reason is gone: `runbook resume {first['provider']}`."
        if worst != "ok"
        else None,
        details={"pauses": rows},
    )


def _pause_verdict(row: dict[str, object]) -> Verdict:
    known = FAILURE_CLASSES.get(str(row["error_class"]))
    if row["automatic"] and known is not None and known.fault is Fault.PROVIDER:
        return "critical"
    if row["automatic"] and float(str(row["seconds"])) < PASSING_PAUSE_SECONDS:
        return "ok"
    return "warning"


def concurrency(view: View) -> Check:
    """Jobs in processing against what workers can hold and what the providers' limits allow."""
    name, statement = "queue.concurrency", _SQL["in_flight_by_provider"]
    if view.context.sources.attached:
        return _concurrency_by_policy(view, name)
    rows = view.own_rows(statement)
    processing = sum(row.in_flight for row in rows)
    capacity = sum(row.capacity for row in view.own_rows(_SQL["workers"]))
    over = [row for row in rows if row.most is not None and row.in_flight > row.most]
    too_many = bool(over) or processing > capacity
    words = f"{processing} jobs are in processing; the workers can hold {capacity}."
    for row in over:
        words += f" At {row.provider} there are {row.in_flight}, and its limit is {row.most}."
    return Check(
        name,
        "warning" if too_many else "ok",
        words,
        processing,
        "jobs",
        capacity,
        statement.source,
        "that they move",
        "More than the workers hold: some of these workers have vanished (queue.stuck). More than a limit: it was lowered "
        "a moment ago, or another program works on the queue."
        if too_many
        else None,
        procedure=STUCK_JOBS if too_many else None,
        details={"by_provider": [row._asdict() for row in rows]},
    )


def _concurrency_by_policy(view: View, name: str) -> Check:
    limit = view.policy.thresholds.concurrent_jobs_limit
    row = view.row(_SQL["queue"])
    over = limit is not None and row.processing > limit
    return Check(
        name,
        "warning" if over else "ok" if limit is not None else "not_enough_data",
        f"{row.processing} jobs are in processing"
        + (f"; the limit is {limit}." if limit is not None else "; how many may be is not known."),
        row.processing,
        "jobs",
        limit,
        _SQL["queue"].source,
        next="Set concurrent_jobs_limit in RUNBOOK_CONFIG." if limit is None else None,
        procedure=SLOW_JOBS if over else None,
    )


def in_words(seconds: float) -> str:
    """A length of time for people: `45 s`, `12 min`, `3.5 h`, `2 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.0f} days"


CHECKS: tuple[DeclaredCheck, ...] = (
    DeclaredCheck("queue.depth", "How many jobs wait.", depth, needs=("jobs.status",)),
    DeclaredCheck("queue.oldest_pending", "No job that is due waits for long.", oldest_pending, needs=("jobs.status", "jobs.created_at")),
    DeclaredCheck("queue.stuck", "No job in processing was left by its worker.", stuck, needs=("jobs.status",)),
    DeclaredCheck("queue.concurrency", "No more jobs at once than allowed.", concurrency, needs=("jobs.status",)),
    DeclaredCheck("queue.pauses", "No provider is paused.", pauses, own=True),
)  # fmt: skip
