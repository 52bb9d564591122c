"""Facts from the history and the queue: what fails and goes on failing, in which scope, and what waits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from runbook_lib.pipeline.failures import FAILURE_CLASSES, Fault
from runbook_lib.triage.attempts import (
    UNCLASSED,
    Attempts,
    ClassSeen,
    class_of,
    failed,
    most_by,
    unlikely_alone,
)
from runbook_lib.triage.evidence import Evidence
from runbook_lib.triage.facts import Fact

SOURCE = "triage.newest_attempts"
# Ended by our own protection or by a person: they have facts of their own, or none.
_NOT_A_FAILING = (
    "worker_lost",
    "quarantined",
    "cancelled",
    "worker_stopped",
    "provider_paused",
    "waiting_for_site",
)
FEWEST_ALL_FAIL, FEWEST_JOBS_ALL_FAIL = 4, 3
# Of the newest attempts so many fail: it still goes on.
NEWEST, FEWEST_STRIKES, STILL_STRIKES_PERCENT = 12, 3, 25.0
# So unlikely by chance, that failures are those of one worker or one category.
CHANCE = 0.01
SCOPE_SHARE = 0.8
SLOWER_FACTOR = 1.8
SLOWER_WRITING_SECONDS, SLOWER_PUBLISHING_SECONDS = 3.0, 3.0
LONG_IN_PROCESSING_SECONDS, LONG_FACTOR = 120.0, 3.0
CONTENT_CLASSES = (
    # Too alike is the topic's fault: it came twice.
    *(
        name
        for name in FAILURE_CLASSES
        if name.startswith("content_") and name != "content_too_alike"
    ),
    "openai_refused",
)
BAD_CONTENT_PERCENT, FEWEST_BAD = 15.0, 3
FEW_WORDS = 60
FEWEST_POSTS_MISSING = 2


def history_facts(evidence: Evidence) -> Iterator[Fact]:
    answered = "newest_attempts" in evidence.rows
    attempts = Attempts(evidence.rows.get("newest_attempts", ()))
    yield from _classes(evidence, attempts, answered)
    yield from _outcomes(evidence, attempts, answered)
    yield from _scope(attempts, answered)
    yield from _content(evidence, attempts, answered)
    yield from _durations(evidence, attempts, answered)
    yield from _jobs(evidence, attempts, answered)
    yield from _pauses(evidence)
    yield from _producer(evidence, attempts)


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
        if not suffers and not seen.since_success:
            words += " All of their jobs are done: retries took it up."
        holds = seen.going_on and (suffers or seen.since_success > 0)
        yield Fact(f"failing.{name}", layer, holds, words, seen.attempts, {"of": seen.of, "low_percent": round(seen.low_percent, 1)},
                   SOURCE, symptom=True, severe=not seen.partial)  # fmt: skip
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
    """Whether jobs wait or ended because of it, or it still strikes many; not known counts as yes.

    A burst that retries took up is over: what came after it succeeded.
    """
    newest = attempts.recent[:NEWEST]
    strikes = sum(failed(row) and class_of(row) == seen.error_class for row in newest)
    if (
        newest
        and strikes * 100 >= STILL_STRIKES_PERCENT * len(newest)
        and strikes >= FEWEST_STRIKES
    ):
        return True
    waiting, ended = evidence.rows.get("waiting"), evidence.rows.get("ended_in_error")
    if waiting is None or ended is None:
        return True
    return any(row.error_class == seen.error_class for row in waiting) or any(
        row.error_class == seen.error_class and row.newest >= seen.first_at for row in ended
    )


def _meaning(name: str) -> str:
    known = FAILURE_CLASSES.get(name)
    return known.meaning if known else "no rule knows this failure."


def layer_of_class(name: str, seen: ClassSeen | None = None) -> str:
    """At which layer attempts of a class fail."""
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
                   (check.source if check else "") or name, symptom=True, severe=True)  # fmt: skip
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
    unreachable = {
        name
        for name, seen in attempts.classes.items()
        if name in ("openai_unreachable", "wordpress_unreachable") and seen.attempts >= 2
    }
    yield Fact(
        "failing.both_unreachable",
        "connect",
        len(unreachable) == 2 if answered else None,
        "Attempts lost their connection to both providers.",
        sorted(unreachable),
        2,
        SOURCE,
        symptom=len(unreachable) == 2,
    )


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
            words, inside, {"of": len(ours), "chance": round(chance, 6), "below": CHANCE}, SOURCE,
        )  # fmt: skip


def _content(evidence: Evidence, attempts: Attempts, answered: bool) -> Iterator[Fact]:
    bad, of = attempts.share_of(CONTENT_CLASSES)
    kinds = {class_of(row) for row in attempts.failures} & set(CONTENT_CLASSES)
    share = 100 * bad / of if of else 0.0
    yield Fact("content.many_refused", "data", (bad >= FEWEST_BAD and share >= BAD_CONTENT_PERCENT) if answered else None,
               f"{bad} of the {of} newest attempts brought an article that must not be published ({', '.join(sorted(kinds)) or 'none'}).",
               bad, {"of": of, "percent": BAD_CONTENT_PERCENT}, SOURCE, symptom=True, severe=True)  # fmt: skip
    pages = attempts.classes.get("openai_wrong_address")
    as_answers = (
        [row for row in pages.rows if row.http_status == 200] if pages and pages.going_on else []
    )
    yield Fact(
        "content.pages_as_answers", "data", bool(as_answers) if answered else None,
        "Requests for articles are answered with status 200 and a page that is none.", len(as_answers), 1, SOURCE, symptom=True, severe=True,
    )  # fmt: skip
    articles, source = evidence.rows.get("recent_articles"), evidence.source("recent_articles")
    newest = list(articles or ())[:20]
    short = [
        row
        for row in newest
        if row.word_count < FEW_WORDS or row.finish_reason in ("length", "content_filter")
    ]
    repeated = len(newest) - len({row.body for row in newest})
    yield Fact("content.stored_bad", "data", (len(short) >= FEWEST_BAD and len(short) * 4 >= len(newest)) or repeated >= FEWEST_BAD if articles is not None else None,
               f"Of the {len(newest)} newest articles {len(short)} are cut or hardly a text, and {repeated} repeat another word for word.",
               len(short) + repeated, FEWEST_BAD, source, symptom=True, severe=True)  # fmt: skip
    usual = [row.word_count for row in list(articles or ())[20:]]
    fell = (
        len(usual) >= 20
        and len(newest) == 20
        and sorted(row.word_count for row in newest)[10] * 2 < sorted(usual)[len(usual) // 2]
    )
    yield Fact(
        "content.shorter_than_usual",
        "data",
        fell if articles is not None else None,
        "The newest articles are less than half as long as those before.",
        None,
        0.5,
        source,
    )


def _durations(evidence: Evidence, attempts: Attempts, answered: bool) -> Iterator[Fact]:
    for stage, column, layer, more in (
        ("writing", "write_seconds", "generate", SLOWER_WRITING_SECONDS),
        ("publishing", "publish_seconds", "publish", SLOWER_PUBLISHING_SECONDS),
    ):
        found = attempts.slower(column, more)
        slower = (
            found is not None
            and found[0] >= SLOWER_FACTOR * found[1]
            and found[0] - found[1] >= more
        )
        yield Fact(f"{stage}.slower_than_before", layer, slower if answered and found else (None if not answered else False),
                   f"{stage.capitalize()} takes {found[0]:.1f} s, before it took {found[1]:.1f} s (medians)." if found else f"There are too few durations of {stage} to compare.",
                   round(found[0], 2) if found else None, round(SLOWER_FACTOR * found[1], 2) if found else None, SOURCE, symptom=slower)  # fmt: skip
        yield Fact(f"{stage}.as_before", layer, not slower if found else None, f"{stage.capitalize()} takes as long as before.", round(found[0], 2) if found else None,
                   round(SLOWER_FACTOR * found[1], 2) if found else None, SOURCE)  # fmt: skip
    rows, source = evidence.rows.get("in_processing"), evidence.source("in_processing")
    limit = max(LONG_IN_PROCESSING_SECONDS, LONG_FACTOR * attempts.longest_seconds)
    for stage, layer in (("write", "generate"), ("publish", "publish")):
        long = [row for row in rows or () if row.stage == stage and (row.age_seconds or 0) > limit]
        yield Fact(f"processing.long_in_{stage}", layer, bool(long) if rows is not None else None,
                   f"{len(long)} jobs are at the stage {stage} for longer than any took before.", round(max((row.age_seconds for row in long), default=0.0), 1),
                   round(limit, 1), source, symptom=True)  # fmt: skip


def _jobs(evidence: Evidence, attempts: Attempts, answered: bool) -> Iterator[Fact]:
    waiting, source = evidence.rows.get("waiting"), evidence.source("waiting")
    due = [row for row in waiting or () if row.due]
    yield Fact(
        "queue.jobs_due",
        "claim",
        bool(due) if waiting is not None else None,
        f"{sum(row.jobs for row in due)} jobs are due.",
        sum(row.jobs for row in due),
        1,
        source,
    )
    overdue = evidence.checks.get("queue.oldest_pending")
    yield Fact("queue.waits_long", "claim", None if overdue is None or not overdue.answered else overdue.verdict != "ok", "Jobs that are due wait for long.",
               overdue.value if overdue else None, overdue.threshold if overdue else None, "queue_checks.queue", symptom=True)  # fmt: skip
    row = evidence.row("completed_without_post")
    yield Fact("jobs.completed_without_post", "publish", None if row is None else row.without_post >= FEWEST_POSTS_MISSING and row.without_post * 2 > row.completed,
               "Jobs completed, and name no post.", row.without_post if row else None, FEWEST_POSTS_MISSING, evidence.source("completed_without_post"), symptom=True, severe=True)  # fmt: skip
    overlaps = evidence.rows.get("overlapping_attempts")
    yield Fact("jobs.given_out_twice", "claim", bool(overlaps) if overlaps is not None else None, f"{len(overlaps or ())} attempts of one job ran at the same time at two workers.",
               len(overlaps or ()), 1, evidence.source("overlapping_attempts"), symptom=True, severe=True)  # fmt: skip
    yield from _killers(evidence, attempts, answered)
    yield from _topics(evidence, attempts, answered)


def _killers(evidence: Evidence, attempts: Attempts, answered: bool) -> Iterator[Fact]:
    """A job on which one worker after another vanishes."""
    lost: dict[str, set[str]] = {}
    for row in attempts.all:
        if row.status == "lost":
            lost.setdefault(row.job_id, set()).add(str(row.worker))
    job, workers = max(lost.items(), key=lambda item: len(item[1]), default=(None, set()))
    yield Fact("jobs.one_job_loses_workers", "data", len(workers) >= 2 if answered else None,
               f"{len(workers)} workers vanished one after another on the job {job}." if job else "No job lost several workers.", len(workers), 2, SOURCE, symptom=True)  # fmt: skip
    others = {row.job_id for row in attempts.all if row.status == "lost"} - {job}
    yield Fact("jobs.others_keep_workers", "data", not others or len(others) * 2 < len(workers) if answered and job else None,
               "Other jobs lose no worker.", len(others), 1, SOURCE)  # fmt: skip
    rows = evidence.rows.get("in_processing")
    counted = max(
        (
            row.lost_count or 0
            for row in [
                *(rows or ()),
            ]
        ),
        default=0,
    )
    waiting = max((row.most_lost or 0 for row in evidence.rows.get("waiting", ())), default=0)
    quarantined = any(
        row.error_class == "quarantined" for row in evidence.rows.get("ended_in_error", ())
    )
    yield Fact("jobs.lost_again_and_again", "data", max(counted, waiting) >= 2 or quarantined if rows is not None else None,
               "A job's attempts were lost several times in a row, or it is in quarantine.", max(counted, waiting), 2, evidence.source("in_processing"))  # fmt: skip


_OF_ONE_TOPIC = {
    "openai_content_filtered": "filter",
    "openai_refused": "filter",
    "openai_context_too_long": "length",
    "topic_too_long": "length",
}


def _topics(evidence: Evidence, attempts: Attempts, answered: bool) -> Iterator[Fact]:
    """Failures that belong to a topic: the same jobs fail, and others succeed."""
    for kind in ("filter", "length"):
        rows = [
            row
            for row in attempts.recent
            if row.status == "error" and _OF_ONE_TOPIC.get(class_of(row)) == kind
        ]
        jobs = {row.job_id for row in rows}
        others = [row for row in attempts.recent if row.job_id not in jobs]
        fine = not others or sum(row.status == "completed" for row in others) * 2 >= len(others)
        few = len(jobs) <= max(3, len({row.job_id for row in attempts.recent}) // 4)
        yield Fact(f"topics.refused_for_{kind}", "data", (len(rows) >= 1 and few) if answered else None,
                   f"{len(rows)} attempts of {len(jobs)} jobs were refused because of their topic.", len(rows), 1, SOURCE, symptom=len(rows) >= 2)  # fmt: skip
        classes = [name for name, of in _OF_ONE_TOPIC.items() if of == kind]
        ended = [
            row for row in evidence.rows.get("ended_in_error", ()) if row.error_class in classes
        ]
        yield Fact(f"jobs.ended_by_{kind}", "data", bool(ended) if "ended_in_error" in evidence.rows else None, "Jobs ended for that reason, and are not tried again.",
                   sum(row.jobs for row in ended), 1, evidence.source("ended_in_error"))  # fmt: skip
        yield Fact(
            f"topics.refused_again_{kind}",
            "data",
            len(rows) >= 2 if answered else None,
            "It was met more than once.",
            len(rows),
            2,
            SOURCE,
        )
        yield Fact(f"topics.others_fine_{kind}", "generate", bool(others) and fine if answered else None, "Other topics are written.",
                   sum(row.status == "completed" for row in others), 1, SOURCE)  # fmt: skip


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
               [row.provider for row in by_hand], [], source)  # fmt: skip


def _producer(evidence: Evidence, attempts: Attempts) -> Iterator[Fact]:
    volume, waiting = evidence.checks.get("queue.throughput"), evidence.rows.get("waiting")
    silent = (
        None if volume is None or not volume.answered else volume.verdict in ("warning", "critical")
    )
    yield Fact("producer.less_than_usual", "data", silent, volume.message if volume else "Whether less comes than usual is not known.",
               volume.value if volume else None, volume.threshold if volume else None, (volume.source if volume else None) or "queue.throughput", symptom=True)  # fmt: skip
    in_hand = evidence.rows.get("in_processing")
    known = waiting is not None and in_hand is not None
    yield Fact(
        "producer.queue_empty",
        "data",
        not waiting and not in_hand if known else None,
        "No job waits and none is worked on.",
        sum(row.jobs for row in waiting or ()),
        0,
        evidence.source("waiting"),
    )
    before = evidence.row("same_time_before")
    same = (
        before is not None
        and before.first_hour is not None
        and (
            (before.a_week_ago == 0 and _covers(before.first_hour, evidence, 8))
            or (before.a_year_ago == 0 and _covers(before.first_hour, evidence, 365))
        )
    )
    yield Fact(
        "producer.same_gap_before",
        "data",
        same if before else None,
        "There was the same gap a week or a year ago.",
        before.a_week_ago if before else None,
        0,
        evidence.source("same_time_before"),
    )
    well = sum(row.status == "completed" for row in attempts.recent)
    yield Fact(
        "producer.what_came_succeeded",
        "data",
        well * 5 >= len(attempts.recent) * 4 and well > 0,
        "What came last was published.",
        well,
        len(attempts.recent),
        SOURCE,
    )


def _covers(first_hour: Any, evidence: Evidence, days: int) -> bool:
    return bool((evidence.taken_at - first_hour).days >= days)
