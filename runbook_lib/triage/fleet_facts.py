"""Facts about the workers beside one another: who differs, who is refused alone, who dies young, who is stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from runbook_lib.triage.attempts import Attempts, failed, most_by
from runbook_lib.triage.evidence import SILENT_SECONDS, Evidence
from runbook_lib.triage.facts import Fact
from runbook_lib.triage.process_table import SOURCE as PROCESSES
from runbook_lib.triage.worker_facts import about_worker, alive_workers

CRASH_LIVED_SECONDS, CRASH_WITHIN_SECONDS, FEWEST_CRASHES = 15.0, 900.0, 3
CALM_SECONDS = 45.0
HIGH_CONCURRENCY, RAISED_FACTOR = 50, 4


def fleet_facts(evidence: Evidence, attempts: Attempts) -> Iterator[Fact]:
    rows = evidence.rows.get("workers")
    if rows is None:
        return
    yield from _crashes(evidence, rows)
    yield _frozen(evidence, rows)
    yield _refused_alone(evidence, attempts)
    yield _losses(attempts)
    yield from _differences(evidence, attempts)
    yield from _concurrency(evidence, rows)


def _crashes(evidence: Evidence, rows: Sequence[Any]) -> Iterator[Fact]:
    source = evidence.source("workers")
    crashed = [
        row
        for row in rows
        if not row.stopped
        and row.age_seconds <= CRASH_WITHIN_SECONDS
        and row.lived_seconds < CRASH_LIVED_SECONDS
        and _has_ended(row, evidence.process_state(row))
    ]
    if _lives_since(alive_workers(evidence), crashed):
        crashed = []
    watched = evidence.row("watched")
    yield Fact(
        "workers.processes_come_and_go", "workers",
        None if watched is None else watched.began + watched.ended > 0 and watched.lasted == 0,
        f"Within {watched.seconds:g} s {watched.began} processes of a worker began on this host, {watched.ended} ended, and none lasted." if watched and watched.seen else "No process of a worker begins or ends on this host.",
        watched.began + watched.ended if watched else None, 0, PROCESSES, symptom=True, severe=True,
    )  # fmt: skip
    finished = sum(row.finished_count for row in crashed)
    yield Fact(
        "workers.die_young",
        "workers",
        len(crashed) >= FEWEST_CRASHES,
        f"{len(crashed)} workers started lately, and ended within {CRASH_LIVED_SECONDS:g} s each.",
        len(crashed),
        FEWEST_CRASHES,
        source,
        symptom=True,
        severe=True,
    )
    yield Fact(
        "workers.young_finish_nothing",
        "workers",
        bool(crashed) and finished == 0,
        "Those finished no job.",
        finished,
        0,
        source,
    )


def _frozen(evidence: Evidence, rows: Sequence[Any]) -> Fact:
    frozen = [row for row in rows if not row.stopped and evidence.process_state(row) == "stopped"]
    return Fact(
        "workers.process_frozen", "workers", bool(frozen), f"The process of {frozen[0].worker} is stopped: it is there, and does not run." if frozen else "No worker's process is stopped.",
        len(frozen), 1, PROCESSES, symptom=True, severe=True, subject=about_worker(frozen),
    )  # fmt: skip


def _losses(attempts: Attempts) -> Fact:
    jobs = {row.job_id for row in attempts.all if row.status == "lost"}
    return Fact(
        "workers.attempts_not_of_one_job",
        "workers",
        len(jobs) != 1 if attempts.all else None,
        "They did not all end on one job.",
        len(jobs),
        1,
        "triage.newest_attempts",
    )


def _differences(evidence: Evidence, attempts: Attempts) -> Iterator[Fact]:
    alive, source = alive_workers(evidence), evidence.source("workers")
    kinds = Counter((row.version, row.settings_digest) for row in alive)
    odd = (
        [row for row in alive if kinds[row.version, row.settings_digest] == min(kinds.values())]
        if len(kinds) > 1
        else []
    )
    yield Fact(
        "workers.differ",
        "workers",
        len(kinds) > 1,
        f"Workers differ in version or settings; {odd[0].worker} from the rest."
        if odd
        else "All workers run the same version with the same settings.",
        len(kinds),
        1,
        source,
        subject=about_worker(odd),
    )
    name, count = most_by([row for row in attempts.recent if failed(row)], "worker")
    yield Fact("workers.odd_one_fails", "workers", bool(odd) and count > 0 and name in {row.worker for row in odd} if attempts.all else None,
               "The worker that differs is the one that fails.", name, None, source, subject={"worker": name} if name else {})  # fmt: skip


def _concurrency(evidence: Evidence, rows: Sequence[Any]) -> Iterator[Fact]:
    alive, source = alive_workers(evidence), evidence.source("workers")
    capacity = sum(row.concurrency for row in alive)
    most = max((row.concurrency for row in alive), default=0)
    yield Fact(
        "workers.concurrency_high",
        "configuration",
        capacity >= HIGH_CONCURRENCY and most >= HIGH_CONCURRENCY // 2,
        f"The workers run up to {capacity} jobs at once, one of them {most}.",
        most,
        HIGH_CONCURRENCY // 2,
        source,
    )
    before = [row.concurrency for row in rows if row.stopped or row not in alive]
    raised = bool(before and alive) and most >= RAISED_FACTOR * max(before)
    yield Fact(
        "workers.concurrency_raised",
        "configuration",
        raised,
        "It is several times what workers before had.",
        most,
        RAISED_FACTOR * max(before, default=0),
        source,
    )
    limits = [
        row
        for row in evidence.rows.get("in_flight_by_provider", ())
        if row.in_flight >= HIGH_CONCURRENCY // 2
    ]
    yield Fact(
        "jobs.many_in_flight",
        "configuration",
        bool(limits) if "in_flight_by_provider" in evidence.rows else None,
        "Very many jobs are with one provider at once.",
        max((row.in_flight for row in limits), default=0),
        HIGH_CONCURRENCY // 2,
        evidence.source("in_flight_by_provider"),
    )


def _lives_since(alive: Sequence[Any], crashed: Sequence[Any]) -> bool:
    """Whether none ended for a minute, and one that began later than the last of them has lived longer than they did."""
    newest = min((row.silent_seconds for row in crashed), default=0.0)
    return newest > CALM_SECONDS and any(CRASH_LIVED_SECONDS < row.age_seconds < newest + CRASH_LIVED_SECONDS for row in alive)  # fmt: skip


def _has_ended(row: Any, state: str | None) -> bool:
    """Whether a worker's process is gone; where it cannot be looked at, its silence tells."""
    return state == "gone" or (state is None and bool(row.silent_seconds > SILENT_SECONDS / 2))


def _refused_alone(evidence: Evidence, attempts: Attempts) -> Fact:
    """A provider refuses one worker, and takes the same key or password from here: that worker's are old.

    The pause that follows holds for all workers, so that the others have no attempts to compare with.
    """
    alone: list[str] = []
    paused = {row.error_class for row in evidence.rows.get("pauses", ()) if row.automatic}
    for name, probe in (
        ("openai_key_invalid", "openai.key"),
        ("openai_wrong_address", "openai.key"),
        ("wordpress_login_failed", "wordpress.login"),
    ):
        seen, check = attempts.classes.get(name), evidence.checks.get(probe)
        if (
            seen
            and ((seen.going_on and not seen.newest_over) or name in paused)
            and seen.workers == 1
            and check is not None
            and check.verdict == "ok"
        ):
            alone.append(str(seen.rows[0].worker))
    several = len(alive_workers(evidence)) > 1
    return Fact(
        "scope.one_worker_is_refused", "workers", bool(alone) and several, f"Only {alone[0]} is refused; what this machine has is accepted." if alone else "No worker is refused alone.",
        alone, [], "triage.newest_attempts beside GET models, GET users/me", symptom=bool(alone), severe=True,
        subject={"worker": alone[0]} if alone else {},
    )  # fmt: skip
