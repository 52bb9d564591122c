"""The workers: alive, getting on, alike, with the right time."""

from __future__ import annotations

from typing import Any

from runbook_lib.database.statements import load
from runbook_lib.health.checks import Check, Verdict
from runbook_lib.health.queue_checks import STUCK_JOBS, SYSTEM_DOWN, in_words
from runbook_lib.health.registry import DeclaredCheck, View

_SQL = load("queue_checks")
# A worker that fell silent longer ago than this was missed long since, or replaced.
REMEMBERED_SECONDS = 3600.0


def _workers(view: View) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Workers that beat, and those that lately fell silent without a word."""
    limit = view.policy.thresholds.worker_silent_seconds
    rows = [row._asdict() for row in view.own_rows(_SQL["workers"])]
    alive = [row for row in rows if row["silent_seconds"] <= limit]
    silent = [row for row in rows if limit < row["silent_seconds"] <= REMEMBERED_SECONDS]
    return alive, silent


def alive(view: View) -> Check:
    """Whether a worker runs, and whether one vanished."""
    name, statement = "workers.alive", _SQL["workers"]
    running, silent = _workers(view)
    due = view.row(_SQL["queue"]).due
    verdict: Verdict = "ok"
    words = f"{len(running)} workers run."
    advice = None
    if silent:
        verdict = "warning"
        words += f" {silent[0]['worker']} fell silent {in_words(silent[0]['silent_seconds'])} ago"
        words += f", and {len(silent) - 1} more." if len(silent) > 1 else "."
        advice = "Look at its host: killed, out of memory, frozen, or cut off from the database. Its jobs are swept by the others."
    if not running:
        verdict = "critical" if due else "warning"
        words = f"No worker runs, and {due} jobs are due." + (words[words.index(" run.") + 5 :])
        advice = "Start one: `python worker.py`, or `runbook up`."
    return Check(
        name,
        verdict,
        words,
        len(running),
        "workers",
        1,
        statement.source,
        "that they get on: see workers.progressing",
        advice,
        procedure=SYSTEM_DOWN if verdict != "ok" else None,
        details={"running": running, "silent": silent},
    )


def progressing(view: View) -> Check:
    """Whether workers that have jobs in hand come a step further now and then."""
    name, statement = "workers.progressing", _SQL["workers"]
    limit = view.policy.thresholds.worker_without_progress_seconds
    busy = [row for row in _workers(view)[0] if row["in_flight"] > 0]
    standing = [row for row in busy if row["without_progress_seconds"] > limit]
    longest = max((row["without_progress_seconds"] for row in busy), default=0.0)
    words = f"{len(busy)} workers have jobs in hand"
    words += f"; the longest time without a step is {in_words(longest)}." if busy else "."
    if standing:
        words = f"{standing[0]['worker']} has {standing[0]['in_flight']} jobs in hand and came no step further for {in_words(standing[0]['without_progress_seconds'])}."
    return Check(
        name,
        "critical" if standing else "ok",
        words,
        round(longest, 1),
        "s",
        limit,
        statement.source,
        "that every single job moves",
        "A provider that takes calls and stalls (see openai and wordpress), or a frozen worker: drain it with `runbook workers drain`, then restart it."
        if standing
        else None,
        procedure=STUCK_JOBS if standing else None,
        details={"standing": standing},
    )


def clocks(view: View) -> Check:
    """Each worker's clock against the database's."""
    name, statement = "workers.clock", _SQL["workers"]
    limit = view.policy.thresholds.clock_skew_warning_seconds
    known = [row for row in _workers(view)[0] if row["clock_offset_seconds"] is not None]
    if not known:
        words = "No running worker has told its clock's offset."
        return Check(name, "not_enough_data", words, source=statement.source)
    worst = max(known, key=lambda row: abs(row["clock_offset_seconds"]))
    offset = worst["clock_offset_seconds"]
    wrong = abs(offset) > limit
    return Check(
        name,
        "warning" if wrong else "ok",
        f"The clock of {worst['worker']} is {abs(offset):.2f} s {'ahead of' if offset > 0 else 'behind'} the database's; that is the most.",
        round(offset, 3),
        "s",
        limit,
        statement.source,
        "which clock is right",
        f"Correct the clock of {worst['host']} (timedatectl)." if wrong else None,
    )


def alike(view: View) -> Check:
    """Whether all workers run the same version with the same settings."""
    name, statement = "workers.alike", _SQL["workers"]
    running = _workers(view)[0]
    kinds: dict[tuple[Any, Any], list[str]] = {}
    for row in running:
        kinds.setdefault((row["version"], row["settings_digest"]), []).append(row["worker"])
    words = f"All {len(running)} workers run the same version with the same settings."
    differ = len(kinds) > 1
    if differ:
        few = min(kinds.values(), key=len)
        words = f"Workers differ in version or settings; {', '.join(few[:3])} from the rest."
    return Check(
        name,
        "warning" if differ else "ok",
        words,
        len(kinds),
        "kinds",
        1,
        statement.source,
        "that the settings are right",
        "Restart those that were left out of the last change." if differ else None,
        details={"kinds": [{"version": version, "settings": digest, "workers": names} for (version, digest), names in kinds.items()]},
    )  # fmt: skip


def credentials(view: View) -> Check:
    """Whether all workers have the same keys and passwords; during a rotation they do within seconds."""
    name, statement = "workers.credentials", _SQL["credentials_in_use"]
    limit = view.policy.thresholds.worker_silent_seconds
    rows = view.own_rows(statement, silent_seconds=limit)
    known = sorted({row.name for row in rows})
    differ = [
        each
        for each in known
        if sum(row.name == each for row in rows) > 1
        and all(row.settled for row in rows if row.name == each)
    ]
    if not rows:
        words = "No running worker has a credential: there is none, or the sandbox stands in."
        return Check(name, "ok", words, 0, "credentials", source=statement.source)
    words = f"All running workers have the same {' and '.join(known)}."
    if differ:
        few = [row for row in rows if row.name == differ[0]][-1]
        words = f"Workers have different values of {differ[0]}: {', '.join(few.some)} has {few.handle}, and most have another."
    return Check(
        name,
        "warning" if differ else "ok",
        words,
        len(differ),
        "credentials",
        0,
        statement.source,
        "which of them is right",
        f"`runbook secrets verify {differ[0]}` says who is behind and why." if differ else None,
        procedure="monthly/secret_rotation" if differ else None,
        details={"handles": [{"name": row.name, "handle": row.handle, "workers": row.workers} for row in rows]},
    )  # fmt: skip


CHECKS: tuple[DeclaredCheck, ...] = (
    DeclaredCheck("workers.alive", "A worker runs, and none vanished.", alive, own=True),
    DeclaredCheck("workers.progressing", "Workers come further with what they have in hand.", progressing, own=True),
    DeclaredCheck("workers.clock", "The workers' clocks are right.", clocks, own=True),
    DeclaredCheck("workers.alike", "All workers have the same version and settings.", alike, own=True),
    DeclaredCheck("workers.credentials", "All workers have the same keys and passwords.", credentials, own=True),
)  # fmt: skip
