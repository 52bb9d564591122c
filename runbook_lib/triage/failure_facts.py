"""Facts about failures: which classes go on failing, in which scope, and which provider is paused for them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

from runbook_lib.credentials.masking import one_line
from runbook_lib.pipeline.failures import FAILURE_CLASSES, Fault
from runbook_lib.pipeline.transport import REUSED_CONNECTION
from runbook_lib.triage.attempts import (
    HOST_EXHAUSTED,
    NAME_UNRESOLVED,
    SOURCE,
    UNCLASSED,
    WINDOW_SECONDS,
    Attempts,
    ClassSeen,
    class_of,
    failed,
    most_by,
    unlikely_alone,
)
from runbook_lib.triage.evidence import Evidence
from runbook_lib.triage.facts import Fact

# Ended by our own protection or by a person: they have facts of their own, or none.
_NOT_A_FAILING = (
    "worker_lost",
    "quarantined",
    "cancelled",
    "worker_stopped",
    "provider_paused",
    "waiting_for_site",
)
TOO_MANY_REQUESTS = 429
FEWEST_ALL_FAIL, FEWEST_JOBS_ALL_FAIL = 4, 3
# Of the newest attempts so many fail: it still goes on. Fewer strikes tell nothing about how often it strikes.
NEWEST, FEWEST_STRIKES, STILL_STRIKES_PERCENT = 12, 3, 25.0
BRIEF, BESIDE_FACTOR = timedelta(seconds=30), 3
# So unlikely by chance, that failures are those of one worker or one category.
CHANCE = 0.01
FEWEST_UNRESOLVED = 3
FEWEST_BROKEN, FEWEST_LATE = 4, 2
BROKEN_SECONDS = 300.0
# A link that flaps breaks again within that.
CALM_SECONDS = 75.0
_LATE = ("wordpress_outcome_unknown", "wordpress_timeout")
_TIMED_OUT = ("openai_timeout", *_LATE)
FEWEST_REUSED = 2
_TOO_LATE = re.compile("within the deadline|timed out|time-?out", re.IGNORECASE)
ERROR_CHARACTERS = 200
SCOPE_SHARE = 0.8


def failure_facts(evidence: Evidence, attempts: Attempts) -> Iterator[Fact]:
    answered = "newest_attempts" in evidence.rows
    yield from _classes(evidence, attempts, answered)
    yield from _outcomes(evidence, attempts, answered)
    yield from _scope(attempts, answered)
    yield from _pauses(evidence)


def _classes(evidence: Evidence, attempts: Attempts, answered: bool) -> Iterator[Fact]:
    """For each class whether it fails now, with jobs that suffer from it."""
    names = {*FAILURE_CLASSES, UNCLASSED, *attempts.classes} - set(_NOT_A_FAILING)
    for name in sorted(names):
        seen = attempts.classes.get(name)
        layer = layer_of_class(name, seen)
        if seen is None:
            yield Fact(
                f"failing.{name}",
                layer,
                False if answered else None,
                f"No recent attempt failed as {name}.",
                0,
                0,
                SOURCE,
            )
            continue
        suffers = _suffers(evidence, seen, attempts)
        words = (
            f"{seen.attempts} of the {seen.of} newest attempts failed as {name}: {_meaning(name)}"
        )
        words += _told(seen.rows[0])
        if not suffers and not seen.since_success:
            words += " All of their jobs are done: retries took it up."
        holds = seen.going_on and (suffers or seen.since_success > 0) and not _is_brief(evidence, seen) and not _is_beside(seen, attempts)  # fmt: skip
        yield Fact(f"failing.{name}", layer, holds, words, seen.attempts, {"of": seen.of, "low_percent": round(seen.low_percent, 1)},
                   SOURCE, symptom=True, severe=not seen.partial, subject=_struck(seen))  # fmt: skip
        yield Fact(
            f"partly.{name}",
            layer,
            seen.going_on and seen.partial,
            f"Beside failures as {name}, others succeed.",
            seen.attempts,
            seen.of,
            SOURCE,
        )


def _suffers(evidence: Evidence, seen: ClassSeen, attempts: Attempts) -> bool:
    """Whether it still strikes, or jobs wait or ended because of it; not known counts as yes.

    A burst that retries took up is over: what came after it succeeded.
    """
    if _works_again(seen):
        return False
    newest = attempts.recent[:NEWEST]
    strikes = sum(failed(row) and class_of(row) == seen.error_class for row in newest)
    if strikes >= FEWEST_STRIKES and strikes * 100 >= STILL_STRIKES_PERCENT * len(newest):
        return True
    if not seen.over and seen.attempts >= FEWEST_STRIKES:
        return True
    waiting, ended = evidence.rows.get("waiting"), evidence.rows.get("ended_in_error")
    if waiting is None or ended is None:
        return True
    # Jobs that ended so before it was over are to be tried again by somebody; they fail no more.
    stands = not seen.over or seen.within is not None
    return any(row.error_class == seen.error_class for row in waiting) or any(
        stands and row.error_class == seen.error_class and row.newest >= seen.first_at
        for row in ended
    )


def _works_again(seen: ClassSeen) -> bool:
    """Whether what the provider refused to all goes well since; what strikes some of them takes longer to tell.

    Jobs that it had put off and that wait for their time, or are due again, do not suffer any more.
    """
    # Rate limits strike in bursts, with calm between them. A site under maintenance asks to wait as well, and asks all.
    asks_all = seen.fault is Fault.RATE and seen.rows[0].http_status != TOO_MANY_REQUESTS
    return seen.within is None and seen.newest_over and (seen.fault is Fault.PROVIDER or asks_all)


def _is_brief(evidence: Evidence, seen: ClassSeen) -> bool:
    """A pause of moments that a provider asked for once or twice, and that the workers keep."""
    if seen.fault is not Fault.RATE or seen.attempts >= FEWEST_STRIKES:
        return False
    pauses = [row for row in evidence.rows.get("pauses", ()) if row.error_class == seen.error_class]
    return not any(row.until is None or row.until - evidence.taken_at > BRIEF for row in pauses)


def _is_beside(seen: ClassSeen, attempts: Attempts) -> bool:
    """A few that pass by themselves, beside several times as many of another kind since then: those are the trouble."""
    others = [
        sum(row.execution_time >= seen.first_at for row in each.rows)
        for name, each in attempts.classes.items() if name != seen.error_class
    ]  # fmt: skip
    return seen.fault is Fault.PASSING and max(others, default=0) >= BESIDE_FACTOR * seen.attempts


def _told(row: Any) -> str:
    """What the other side said at the newest of them: a class alone keeps back what a person needs."""
    told = [str(part) for part in (row.http_status, row.provider_code, row.sqlstate) if part]
    error = one_line(str(row.error or ""), ERROR_CHARACTERS)
    return f" The newest: {' '.join([*told, error]).strip().rstrip('.')}." if told or error else ""


def _struck(seen: ClassSeen) -> dict[str, Any]:
    """Which job and category a class strikes most."""
    named = {name: most_by(seen.rows, name)[0] for name in ("job_id", "category")}
    return {name: value for name, value in named.items() if value is not None}


def _meaning(name: str) -> str:
    if name == HOST_EXHAUSTED:
        return "the worker's own host had no more files, memory, ports or room on its disk."
    known = FAILURE_CLASSES.get(name)
    return known.meaning if known else "no rule knows this failure."


def layer_of_class(name: str, seen: ClassSeen | None = None) -> str:
    """At which layer attempts of a class fail."""
    if name == HOST_EXHAUSTED:
        return "workers"
    if seen and all(NAME_UNRESOLVED.search(row.error or "") for row in seen.rows):
        return "resolve"
    if name.startswith("openai_"):
        return "generate"
    if name.startswith("wordpress_"):
        return (
            "draft"
            if name
            in (
                "wordpress_category_missing",
                "wordpress_outcome_unknown",
                "wordpress_request_refused",
            )
            else "publish"
        )
    if name.startswith(("content_", "topic_")):
        return "data"
    if name.startswith("database_"):
        return "query"
    if seen and all(row.sqlstate for row in seen.rows):
        return "record"
    stage = most_by(seen.rows, "stage")[0] if seen else None
    return "publish" if stage == "publish" else "generate"


def _outcomes(evidence: Evidence, attempts: Attempts, answered: bool) -> Iterator[Fact]:
    tail = attempts.failures_in_a_row()
    jobs = len({row.job_id for row in tail})
    yield Fact("attempts.all_fail", _layer_of_rows(tail), (len(tail) >= FEWEST_ALL_FAIL and jobs >= FEWEST_JOBS_ALL_FAIL) if answered else None,
               f"The newest {len(tail)} attempts, of {jobs} jobs, all failed.", len(tail), FEWEST_ALL_FAIL, SOURCE, symptom=True, severe=True)  # fmt: skip
    yield Fact("attempts.some_succeed", "record", attempts.succeed if answered else None, "Some of the newest attempts succeed.",
               sum(row.status == "completed" for row in attempts.recent), 1, SOURCE)  # fmt: skip
    for name, words in (("failures.now", "More attempts fail than chance explains."), ("failures.in_a_row", "All attempts fail."),
                        ("queue.last_success", "Jobs wait or are worked on, and none succeeds.")):  # fmt: skip
        check = evidence.checks.get(name)
        layer = _layer_of_rows(attempts.failures) if name != "queue.last_success" else "record"
        holds = None if check is None or not check.answered else check.verdict == "critical"
        yield Fact(f"check.{name}", layer, holds, words, check.value if check else None, check.threshold if check else None,
                   (check.source if check else "") or name, symptom=name == "queue.last_success", severe=True)  # fmt: skip
    deadlocks = [
        row
        for row in attempts.all
        if row.sqlstate == "40P01" or class_of(row) == "database_deadlock"
    ]
    yield Fact(
        "failing.deadlocks",
        "record",
        len(deadlocks) >= 2 if answered else None,
        "Attempts failed because of deadlocks (40P01).",
        len(deadlocks),
        2,
        SOURCE,
        symptom=len(deadlocks) >= 2,
    )
    full = [row for row in attempts.recent if row.sqlstate == "53100"]
    yield Fact(
        "failing.disk_full",
        "record",
        bool(full) if answered else None,
        "Attempts failed because the database's disk is full (53100).",
        len(full),
        1,
        SOURCE,
        symptom=bool(full),
        severe=True,
    )
    unresolved = [row for row in attempts.failures if NAME_UNRESOLVED.search(row.error or "")]
    over = attempts.is_over(lambda row: NAME_UNRESOLVED.search(row.error or "") is not None)
    yield Fact(
        "failing.names", "resolve", len(unresolved) >= FEWEST_UNRESOLVED and not over if answered else None,
        f"{len(unresolved)} of the newest attempts failed because a name did not resolve where the worker runs.",
        len(unresolved), FEWEST_UNRESOLVED, SOURCE, symptom=True, severe=True,
    )  # fmt: skip
    broken = [
        row for row in attempts.failures if row.http_status is None and _connection_broke(row)
    ]
    parts = {str(row.provider or class_of(row).split("_")[0]) for row in broken}
    goes_on = _comes_and_goes(broken) and _bursts(attempts) >= 2
    both = {"openai", "wordpress"} <= parts and len(broken) >= FEWEST_BROKEN and goes_on
    yield Fact(
        "failing.both_unreachable", "connect", both if answered else None,
        f"{len(broken)} of the newest attempts lost their connection, to {' and '.join(sorted(parts)) or 'nobody'}.",
        len(broken), FEWEST_BROKEN, SOURCE, symptom=both,
    )  # fmt: skip
    yield _no_server_errors(attempts, answered)
    yield _without_category(evidence)
    yield _reused_connections(attempts, answered)
    late = [row for row in attempts.failures if class_of(row) in _LATE and row.http_status is None and not _connection_broke(row)]  # fmt: skip
    yield Fact(
        "publishing.answers_late", "draft", len(late) >= FEWEST_LATE if answered else None,
        f"{len(late)} of the newest attempts waited for the site's answer in vain.", len(late), FEWEST_LATE, SOURCE,
    )  # fmt: skip


def _no_server_errors(attempts: Attempts, answered: bool) -> Fact:
    """What is tried again like an overload need not be one: 409 and 425 are no errors of a server."""
    seen = [row.http_status for row in attempts.failures if class_of(row) == "openai_overloaded" and row.http_status]  # fmt: skip
    others = [status for status in seen if status < 500]
    return Fact(
        "failing.openai_without_server_error", "generate", len(others) * 2 > len(seen) if answered else None,
        f"Of {len(seen)} refusals {len(others)} were no server errors: {', '.join(sorted({str(status) for status in others})) or 'none'}.",
        len(others), len(seen), SOURCE,
    )  # fmt: skip


def _without_category(evidence: Evidence) -> Fact:
    ended = [
        row for row in evidence.rows.get("ended_in_error", ())
        if row.error_class == "wordpress_category_missing" and (evidence.taken_at - row.newest).total_seconds() <= WINDOW_SECONDS
    ]  # fmt: skip
    jobs = sum(row.jobs for row in ended)
    return Fact(
        "jobs.ended_without_category", "draft", jobs >= FEWEST_LATE if "ended_in_error" in evidence.rows else None,
        f"{jobs} jobs ended lately because the site lacks their category.", jobs, FEWEST_LATE, evidence.source("ended_in_error"),
        subject={"category": ended[0].category} if ended else {},
    )  # fmt: skip


def _reused_connections(attempts: Attempts, answered: bool) -> Fact:
    """Calls hang on connections that had served before, on new ones none does, and others succeed meanwhile.

    What writes to the site always follows a question on the same connection, and tells nothing.
    """
    hung = [
        row for row in attempts.failures
        if class_of(row) in _TIMED_OUT and row.age_seconds <= BROKEN_SECONDS and "POST " not in (row.error or "")
    ]  # fmt: skip
    reused = [row for row in hung if REUSED_CONNECTION in (row.error or "")]
    first = max((row.age_seconds for row in hung), default=0.0)
    well = sum(row.status == "completed" and row.age_seconds < first for row in attempts.recent)
    holds = len(reused) >= FEWEST_REUSED and len(reused) == len(hung) and well >= FEWEST_REUSED
    return Fact(
        "links.reused_connections_hang", "connect", holds if answered else None,
        f"{len(reused)} calls got no answer on a connection that had served before, on a new one {len(hung) - len(reused)}; meanwhile {well} attempts succeeded.",
        len(reused), FEWEST_REUSED, SOURCE, symptom=True, severe=True,
    )  # fmt: skip


def _comes_and_goes(broken: Sequence[Any]) -> bool:
    """Whether what broke, the newest first, still breaks now and then, and to all of them in the same minutes: faults
    of two services one after the other are two faults."""
    if not broken or broken[0].age_seconds > BROKEN_SECONDS:
        return False
    ages = [row.age_seconds for row in broken]
    longest_calm = max((later - earlier for earlier, later in pairwise(ages)), default=0.0)
    if ages[0] > max(CALM_SECONDS, 2 * longest_calm):
        return False
    spans = []
    for part in ("openai", "wordpress"):
        own = [row.age_seconds for row in broken if str(row.provider or class_of(row)).startswith(part)]  # fmt: skip
        spans.append((min(own, default=0.0), max(own, default=0.0)))
    (first_ended, first_began), (second_ended, second_began) = spans
    apart = max(first_ended, second_ended) - min(first_began, second_began)
    return apart <= CALM_SECONDS


def _bursts(attempts: Attempts) -> int:
    """How often connections broke anew after something had succeeded: one blip is no flapping link."""
    count, before = 0, False
    for row in attempts.recent:
        broke = failed(row) and _connection_broke(row)
        count += broke and not before
        before = broke or (before and row.status != "completed")
    return count


def _connection_broke(row: Any) -> bool:
    """Refused, reset or ended in the middle, rather than too late."""
    if class_of(row) in ("openai_unreachable", "wordpress_unreachable"):
        return True
    return class_of(row) in _LATE and not _TOO_LATE.search(row.error or "")


def _layer_of_rows(rows: Sequence[Any]) -> str:
    names = [class_of(row) for row in rows if row.status in ("error", "lost")]
    return layer_of_class(max(set(names), key=names.count)) if names else "generate"


def _scope(attempts: Attempts, answered: bool) -> Iterator[Fact]:
    """Whether failures are those of one worker, category or model, while others go on at the same time."""
    for column, fewest in (("worker", 3), ("category", 2), ("model", 3)):
        # What was lost tells of the worker's end, not of its settings.
        named = [
            row
            for row in attempts.failures
            if row.status == "error" and getattr(row, column) is not None
        ]
        name, _ = most_by(named, column)
        began = min(
            (row.execution_time for row in named if getattr(row, column) == name), default=None
        )
        # Only what ran since then compares: a worker that is gone could not fail.
        since = [
            row for row in attempts.recent if began is not None and row.execution_time >= began
        ]
        ours = [row for row in since if getattr(row, column) == name]
        others = [row for row in since if getattr(row, column) not in (name, None)]
        inside, outside = (sum(row.status == "error" for row in rows) for rows in (ours, others))
        chance = unlikely_alone(inside, len(ours), outside, len(others)) if others else 1.0
        alone = (
            inside >= fewest
            and inside >= SCOPE_SHARE * max(len(ours), inside + outside)
            and chance < CHANCE
        )
        words = f"Failures are those of one {column}: {name}, {inside} of {len(ours)}; meanwhile others fail {outside} of {len(others)}."
        yield Fact(
            f"scope.one_{column}", "workers" if column == "worker" else "data", alone if answered else None,
            words, inside, {"of": len(ours), "chance": round(chance, 6), "below": CHANCE}, SOURCE, subject={column: name} if alone else {},
        )  # fmt: skip


def _pauses(evidence: Evidence) -> Iterator[Fact]:
    pauses, source = evidence.rows.get("pauses"), evidence.source("pauses")
    if pauses is None:
        return
    standing = {str(row.error_class): row for row in pauses if row.automatic}
    for name in sorted({*FAILURE_CLASSES} & {*standing}):
        row = standing[name]
        of_provider = FAILURE_CLASSES[name].fault is Fault.PROVIDER
        yield Fact(
            f"paused.{name}",
            layer_of_class(name),
            True,
            f"Workers paused {row.provider} by themselves: {row.reason}",
            row.provider,
            None,
            source,
            symptom=of_provider,
            severe=of_provider,
        )
    by_hand = [row for row in pauses if not row.automatic]
    yield Fact("paused.by_a_person", "configuration", bool(by_hand), f"{by_hand[0].provider} is paused by {by_hand[0].paused_by}: {by_hand[0].reason}" if by_hand else "Nobody paused a provider.",
               [row.provider for row in by_hand], [], source, symptom=True)  # fmt: skip
