"""Facts about the workers: who lives, who fell silent, and what that does to jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from runbook_lib.health.queue_checks import in_words
from runbook_lib.triage.attempts import Attempts
from runbook_lib.triage.evidence import SILENT_SECONDS, Evidence
from runbook_lib.triage.facts import Fact
from runbook_lib.triage.process_table import SOURCE as PROCESSES
from runbook_lib.triage.write_facts import writing_is_stopped

REMEMBERED_SECONDS, JUST_SECONDS = 3600.0, 60.0
# One that another took the place of, and whose jobs are taken back, is remembered for so long.
REPLACED_SECONDS = 600.0
# So long a job may be due before somebody with free hands takes it.
CLAIM_SECONDS = 15.0
HELD_BACK_SECONDS = 60.0
# A worker has to come no step further for longer than that, and than three times what any job took.
STANDING_SECONDS, STANDING_FACTOR = 180.0, 3.0
EXPIRED_SECONDS = 3.0
# A worker asks the database several times a second; one of which nothing is heard for longer does not ask.
BUSY_SECONDS, QUIET_SECONDS = 4.0, 8.0
# Leases are renewed all the time; longer than that is none that a worker took.
LONG_LEASE_SECONDS = 900.0
# Any living worker sweeps within a second or a few.
UNSWEPT_SECONDS = 15.0


def worker_facts(evidence: Evidence, attempts: Attempts) -> Iterator[Fact]:
    rows = evidence.rows.get("workers")
    if rows is None:
        return
    yield from _life(evidence, rows, attempts)


def alive_workers(evidence: Evidence) -> list[Any]:
    """Workers that gave a sign of life just now, and whose process is not gone."""
    return [
        row
        for row in evidence.rows.get("workers", ())
        if not row.stopped
        and row.silent_seconds <= SILENT_SECONDS
        and evidence.process_state(row) != "gone"
    ]


def _silent(evidence: Evidence, rows: Sequence[Any]) -> list[Any]:
    """Those that fell silent lately without a word; on this host a process that is gone says so at once."""
    silent = [
        row for row in rows
        if not row.stopped and row.silent_seconds <= REMEMBERED_SECONDS
        and (row.silent_seconds > SILENT_SECONDS or evidence.process_state(row) == "gone")
    ]  # fmt: skip
    return [row for row in silent if not _is_replaced(evidence, row, silent)]


def _is_replaced(evidence: Evidence, row: Any, silent: Sequence[Any]) -> bool:
    """Whether it is history: as many workers as fell silent with it or later began since and live, nothing is in its
    name any more, and no process of it is left."""
    if row.silent_seconds <= REPLACED_SECONDS or evidence.process_state(row) in (
        "alive",
        "stopped",
    ):
        return False
    if any(each.worker == row.worker for each in evidence.rows.get("in_processing", ())):
        return False
    since = sum(each.age_seconds < row.silent_seconds for each in alive_workers(evidence))
    return since >= sum(each.silent_seconds <= row.silent_seconds for each in silent)


def _life(evidence: Evidence, rows: Sequence[Any], attempts: Attempts) -> Iterator[Fact]:
    source = evidence.source("workers")
    alive = alive_workers(evidence)
    silent = _silent(evidence, rows)
    last_stopped = _last_stopped(rows, silent)
    yield Fact(
        "workers.none_alive",
        "workers",
        not alive,
        f"{len(alive)} workers give a sign of life.",
        len(alive),
        1,
        source,
        symptom=_wanted(evidence),
        severe=True,
    )
    yield Fact(
        "workers.none_alive_and_wanted",
        "workers",
        not alive and not last_stopped and _wanted(evidence),
        "No worker runs, and jobs wait.",
        len(alive),
        1,
        source,
    )
    youngest = sorted(alive, key=lambda row: row.age_seconds)
    yield Fact(
        "workers.some_alive",
        "workers",
        bool(alive),
        f"{len(alive)} workers give a sign of life.",
        len(alive),
        1,
        source,
        subject=about_worker(youngest),
    )
    yield Fact(
        "workers.stopped_orderly", "workers", last_stopped is not None,
        _how_it_stopped(last_stopped) if last_stopped else "The last worker did not say that it stops.",
        round(last_stopped.silent_seconds, 1) if last_stopped else None, None, source,
    )  # fmt: skip
    yield Fact(
        "workers.none_for_long",
        "workers",
        not rows or all(row.silent_seconds > REMEMBERED_SECONDS for row in rows),
        "No worker was heard of within an hour.",
        len(rows),
        1,
        source,
    )
    yield from _vanished(evidence, silent, attempts)
    limit = max(STANDING_SECONDS, STANDING_FACTOR * attempts.longest_seconds)
    standing = [
        row for row in alive if row.in_flight > 0 and (row.without_progress_seconds or 0) > limit
        and _longest_in_hand(evidence, row) > limit
    ]  # fmt: skip
    yield Fact("workers.stand_still", "workers", bool(standing), f"{standing[0].worker} beats, has {standing[0].in_flight} jobs in hand, and comes no step further." if standing else "Workers with jobs in hand get on.",
               round(standing[0].without_progress_seconds, 1) if standing else None, limit, source, symptom=True, severe=True, subject=about_worker(standing))  # fmt: skip
    free = sum(
        max(0, row.concurrency + row.prefetch - row.in_flight) for row in alive if not row.draining
    )
    idle = bool(alive) and free > 0
    due = [
        row
        for row in evidence.rows.get("waiting", ())
        if row.due and (row.longest_seconds or 0) > CLAIM_SECONDS
    ]
    paused = {row.provider for row in evidence.rows.get("pauses", ())}
    held_back = {"write": "openai", "publish": "wordpress"}
    full = {
        row.provider
        for row in evidence.rows.get("in_flight_by_provider", ())
        if row.most is not None and row.in_flight >= row.most
    }
    limited = {row.provider for row in evidence.rows.get("limited_providers", ())}
    yield _held_back(evidence, [row for row in due if held_back.get(row.stage) in limited - paused], limited)  # fmt: skip
    open_due = [row for row in due if held_back.get(row.stage) not in paused | full | limited]
    yield Fact("queue.not_claimed", "claim", bool(open_due) and idle if "waiting" in evidence.rows else None,
               f"Jobs are due that nothing holds back, workers have {free} hands free, and nobody takes them.", sum(row.jobs for row in open_due), 0, evidence.source("waiting"), symptom=not (_unswept(evidence) or writing_is_stopped(evidence, attempts)), severe=True)  # fmt: skip


def _held_back(evidence: Evidence, rows: Sequence[Any], limited: set[str]) -> Fact:
    """Jobs that wait for a rate or a budget that somebody set: on purpose, and worth knowing when posts come late."""
    count = sum(row.jobs for row in rows)
    longest = max((row.longest_seconds for row in rows), default=0.0)
    names = ", ".join(sorted(limited))
    return Fact(
        "limits.hold_jobs_back", "configuration", longest > HELD_BACK_SECONDS if "waiting" in evidence.rows else None,
        f"{count} jobs wait, the longest for {longest:.0f} s, for the rate or budget that is set for {names}: runbook limits show." if rows else "No job waits for a rate or a budget of ours.",
        round(longest, 1), HELD_BACK_SECONDS, evidence.source("limited_providers"), symptom=True,
    )  # fmt: skip


def _longest_in_hand(evidence: Evidence, row: Any) -> float:
    """For how long a worker has had its oldest job: one that it took just now is a step further."""
    ages = [each.age_seconds or 0.0 for each in evidence.rows.get("in_processing", ()) if each.worker == row.worker]  # fmt: skip
    return max(ages, default=float("inf"))


def _last_stopped(rows: Sequence[Any], silent: Sequence[Any]) -> Any | None:
    """The worker that stopped in order after all others had ended; None where one fell silent after it."""
    stopped = min((row for row in rows if row.stopped), key=lambda row: row.silent_seconds, default=None)  # fmt: skip
    if stopped is None or any(row.silent_seconds < stopped.silent_seconds for row in silent):
        return None
    return stopped


def _how_it_stopped(row: Any) -> str:
    asked = f", as {row.drained_by} had asked it to" if row.draining and row.drained_by else ""
    return f"The last worker, {row.worker}, stopped in order {row.silent_seconds:.0f} s ago{asked}."


def _wanted(evidence: Evidence) -> bool:
    """Whether a worker is needed: jobs wait, or were lately worked on."""
    return bool(evidence.rows.get("waiting") or evidence.rows.get("in_processing"))


def _vanished(evidence: Evidence, silent: Sequence[Any], attempts: Attempts) -> Iterator[Fact]:
    source = evidence.source("workers")
    first = silent[0] if silent else None
    yield Fact("workers.vanished", "workers", bool(silent), f"{first.worker} fell silent {first.silent_seconds:.0f} s ago without a word." if first else "No worker fell silent.",
               round(first.silent_seconds, 1) if first else None, SILENT_SECONDS, source, symptom=True, subject=about_worker(silent))  # fmt: skip
    names = {row.worker for row in silent}
    held = [row for row in evidence.rows.get("in_processing", ()) if row.worker in names]
    expired = [
        row
        for row in evidence.rows.get("in_processing", ())
        if (row.lease_left_seconds or 0) < -EXPIRED_SECONDS
    ]
    yield _held_by_nobody(evidence)
    lost = [row for row in attempts.all if row.status == "lost" and row.worker in names]
    yield Fact("workers.vanished_with_jobs", "workers", bool(held or lost) if "in_processing" in evidence.rows else None,
               f"It had jobs in hand: {len(held)} are still in its name, {len(lost)} were taken back from it.", len(held) + len(lost), 1, evidence.source("in_processing"))  # fmt: skip
    yield Fact(
        "workers.jobs_still_held",
        "workers",
        bool(held),
        "Jobs are still in its name.",
        len(held),
        0,
        evidence.source("in_processing"),
    )
    lately = bool(silent) and first is not None and first.silent_seconds <= JUST_SECONDS
    yield Fact(
        "workers.just_vanished",
        "workers",
        lately,
        "That was a moment ago.",
        round(first.silent_seconds, 1) if first else None,
        JUST_SECONDS,
        source,
    )
    unswept = _unswept(evidence)
    able = bool(alive_workers(evidence))
    yield Fact(
        "jobs.leases_not_swept", "record", bool(unswept) and able if "in_processing" in evidence.rows else None,
        f"{len(unswept)} jobs have a lease that ran out long ago, and the workers that live do not take them back.",
        len(unswept), 0, evidence.source("in_processing"), symptom=True, severe=True,
    )  # fmt: skip
    yield Fact("jobs.leases_expired", "workers", bool(expired) if "in_processing" in evidence.rows else None, f"{len(expired)} jobs in processing have a lease that ran out.",
               len(expired), 0, evidence.source("in_processing"), symptom=True)  # fmt: skip
    states = {row.worker: evidence.process_state(row) for row in silent}
    known = {worker: state for worker, state in states.items() if state is not None}
    gone = [worker for worker, state in known.items() if state == "gone"]
    frozen = [worker for worker, state in known.items() if state != "gone"]
    looked = PROCESSES
    yield Fact(
        "workers.process_gone",
        "workers",
        bool(gone) if known else None,
        f"The process of {gone[0]} is gone."
        if gone
        else "The process of the silent worker is there.",
        len(gone),
        1,
        looked,
    )
    yield Fact(
        "workers.process_there",
        "workers",
        bool(frozen) if known else None,
        f"The process of {frozen[0]} is there ({states[frozen[0]]}), and gives no sign."
        if frozen
        else "No silent worker has a process.",
        len(frozen),
        1,
        looked,
        subject={"worker": frozen[0]} if frozen else {},
    )
    living = [worker for worker in frozen if states[worker] == "alive"]
    yield Fact(
        "workers.process_alive",
        "workers",
        bool(living) if known else None,
        "The process of the silent worker is running.",
        len(living),
        1,
        looked,
    )
    yield from _activity(evidence)
    yield from _sessions(evidence, [worker for worker, state in states.items() if state in (None, "alive")])  # fmt: skip
    recent = [row for row in attempts.recent if row.status == "lost"]
    yield Fact(
        "workers.attempts_lost",
        "workers",
        len(recent) >= 1 if attempts.all else None,
        f"{len(recent)} of the newest attempts were lost with their worker.",
        len(recent),
        1,
        "triage.newest_attempts",
    )
    alive_names = {row.worker for row in alive_workers(evidence)}
    robbed = [row for row in recent if row.worker in alive_names]
    yield Fact(
        "workers.lost_while_alive",
        "workers",
        len(robbed) >= 2 if attempts.all else None,
        f"{len(robbed)} attempts were taken from workers that are alive.",
        len(robbed),
        1,
        "triage.newest_attempts beside triage.workers",
        symptom=True,
        severe=True,
    )


def _held_by_nobody(evidence: Evidence) -> Fact:
    """Jobs in the name of no living worker, with a lease far longer than workers take: nobody will take them back."""
    alive = {row.worker for row in alive_workers(evidence)}
    rows = [
        row for row in evidence.rows.get("in_processing", ())
        if row.worker not in alive and (row.lease_left_seconds or 0) > LONG_LEASE_SECONDS
    ]  # fmt: skip
    left = max((row.lease_left_seconds for row in rows), default=0.0)
    return Fact(
        "jobs.held_by_nobody", "workers", bool(rows) if {"in_processing", "workers"} <= {*evidence.rows} else None,
        f"{len(rows)} jobs are in processing in the name of {rows[0].worker}, which does not live, and their lease runs for another {in_words(left)}." if rows else "No job is held by a worker that does not live.",
        len(rows), 0, evidence.source("in_processing"), symptom=True, severe=True, subject=about_worker(rows),
    )  # fmt: skip


def _unswept(evidence: Evidence) -> list[Any]:
    """Jobs that any living worker would have taken back: where they stay, what ended cannot be recorded."""
    return [
        row
        for row in evidence.rows.get("in_processing", ())
        if (row.lease_left_seconds or 0) < -UNSWEPT_SECONDS
    ]


def _activity(evidence: Evidence) -> Iterator[Fact]:
    """What a silent worker's process does on this host: nothing at all, or it sends and gets no receipt."""
    rows = evidence.rows.get("activity")
    still = [row for row in rows or () if row.context_switches == 0]
    polls = [row for row in rows or () if row.polls]
    quiet = any(_is_quiet(row) for row in evidence.rows.get("worker_sessions", ()))
    yield Fact(
        "workers.polls_in_vain", "connect", bool(polls) and quiet if rows is not None else None,
        "The silent worker's process runs, and its session at the database hears nothing of it: the connection in between is dead." if polls and quiet else "No silent worker runs beside a session that hears nothing.",
        len(polls), 0, f"{PROCESSES} beside {evidence.source('worker_sessions')}", symptom=True, severe=True,
    )  # fmt: skip
    unread = [row for row in rows or () if row.unacknowledged_bytes > 0]
    yield Fact(
        "workers.process_does_nothing", "workers", bool(still) if rows else None,
        "The silent worker's process did not run for a moment while it was looked at.", len(still), 0, PROCESSES,
    )  # fmt: skip
    yield Fact(
        "workers.unacknowledged_data", "connect", bool(unread) if rows is not None else None,
        "What a silent worker sent to the database is not acknowledged: its connection leads nowhere.",
        max((row.unacknowledged_bytes for row in unread), default=0), 0, "connections of this host's processes", symptom=True, severe=True,
    )  # fmt: skip


def _is_quiet(row: Any) -> bool:
    """Whether nothing was asked in a worker's session for long; the one that only listens asks nothing ever."""
    return not getattr(row, "listens", False) and str(row.state).startswith("idle") and bool(row.in_state_seconds > QUIET_SECONDS)  # fmt: skip


def _sessions(evidence: Evidence, living: Sequence[str]) -> Iterator[Fact]:
    """What the workers' sessions do tells a worker that stands still from one that the database keeps waiting."""
    rows, source = evidence.rows.get("worker_sessions"), evidence.source("worker_sessions")
    waiting = [row for row in rows or () if row.blocked or row.wait_event_type == "Lock"]
    quiet = [row for row in rows or () if row not in waiting and _is_quiet(row)]
    busy = [row for row in rows or () if row in waiting or row.state == "active" or (row.in_state_seconds or 0) < BUSY_SECONDS]  # fmt: skip
    alive = len(alive_workers(evidence))
    yield Fact(
        "workers.sessions_wait_for_a_lock", "query", bool(waiting) if rows is not None else None,
        f"{len(waiting)} sessions of workers wait for somebody's lock.", len(waiting), 0, source,
    )  # fmt: skip
    yield Fact(
        "workers.silent_session_open", "workers", bool(living and quiet) if rows is not None else None,
        "The silent worker's session at the database is open, and nothing is asked in it." if living and quiet else "No session of a silent worker is open and quiet.",
        len(quiet), 0, source,
    )  # fmt: skip
    yield Fact(
        "workers.try_in_vain", "record" if evidence.rows.get("in_processing") else "claim", bool(living) and len(busy) > alive if rows is not None else None,
        f"{len(busy)} sessions of workers are busy, and of only {alive} workers a sign of life arrives: what they write is refused or held up.",
        len(busy), alive, source, symptom=True, severe=True,
    )  # fmt: skip


def about_worker(rows: Sequence[Any]) -> dict[str, Any]:
    """Whom a fact is about: the first of these."""
    return {"worker": rows[0].worker} if rows else {}
