"""Facts about the queue: what waits, how long each stage takes, jobs given out twice, and whether jobs come in."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import Any

from runbook_lib.health.queue_checks import OVERDUE_WARNING_SECONDS, in_words
from runbook_lib.triage.attempts import (
    FEWEST_IN_A_ROW,
    SLOWER_FACTOR,
    SOURCE,
    Attempts,
    class_of,
    failed,
)
from runbook_lib.triage.evidence import Evidence
from runbook_lib.triage.facts import Fact
from runbook_lib.triage.worker_facts import alive_workers

# A difference that chance makes once in a thousand comparisons.
CERTAIN_DEVIATIONS = 3.0
SLOWER_WRITING_SECONDS, SLOWER_PUBLISHING_SECONDS = 3.0, 3.0
LONG_IN_PROCESSING_SECONDS, LONG_FACTOR = 120.0, 3.0
FEWEST_POSTS_MISSING = 2
FEWEST_UNTOLD = 2
# So unlikely by chance, with a look every minute of a year in mind; and the fewest days to compare with.
SILENT_BY_CHANCE, FEWEST_DAYS = 1e-6, 7
# Jobs that wait for one answer longer than that, and than three times what any took, hang.
UNDER_WAY_SECONDS = 20.0
HANGING_SECONDS, PUBLISHING_SECONDS, DEADLINE_MARGIN_SECONDS = 60.0, 30.0, 30.0


def queue_facts(evidence: Evidence, attempts: Attempts) -> Iterator[Fact]:
    answered = "newest_attempts" in evidence.rows
    yield from _durations(evidence, attempts, answered)
    yield from _jobs(evidence, attempts, answered)
    yield from _producer(evidence, attempts)


def _durations(evidence: Evidence, attempts: Attempts, answered: bool) -> Iterator[Fact]:
    for stage, column, layer, more in (
        ("writing", "write_seconds", "generate", SLOWER_WRITING_SECONDS),
        ("publishing", "publish_seconds", "publish", SLOWER_PUBLISHING_SECONDS),
    ):
        # How long a job has been at publishing is not told: its age counts from before it was written.
        under_way = _under_way_seconds(evidence, "write") if stage == "writing" else ()
        found = attempts.slower(column, more, under_way)
        slower = (
            found is not None
            and found[0] >= SLOWER_FACTOR * found[1]
            and found[0] - found[1] >= more
            and found[2] >= CERTAIN_DEVIATIONS
        )
        yield Fact(f"{stage}.slower_than_before", layer, slower if answered and found else (None if not answered else False),
                   f"{stage.capitalize()} takes {found[0]:.1f} s, before it took {found[1]:.1f} s (medians)." if found else f"There are too few durations of {stage} to compare.",
                   round(found[0], 2) if found else None, round(SLOWER_FACTOR * found[1], 2) if found else None, SOURCE, symptom=slower)  # fmt: skip
        yield Fact(f"{stage}.as_before", layer, not slower if found else None, f"{stage.capitalize()} takes as long as before.", round(found[0], 2) if found else None,
                   round(SLOWER_FACTOR * found[1], 2) if found else None, SOURCE)  # fmt: skip
    rows, source = evidence.rows.get("in_processing"), evidence.source("in_processing")
    yield _hanging(evidence, attempts)
    yield _hanging_at_the_site(evidence, attempts)
    yield _goes_on(attempts)
    yield _under_way(evidence, attempts)
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
    long = None if overdue is None or not overdue.answered else overdue.verdict != "ok"
    late = float(overdue.details.get("longest_overdue_seconds") or 0) if overdue else 0.0
    # A job whose time came is taken within moments; one that was never put off may wait its turn.
    by_time = bool(long and overdue and overdue.value < overdue.threshold)
    yield Fact(
        "queue.waits_long", "claim", long, "Jobs whose time has come are not taken." if by_time else "Jobs that are due wait for long.",
        round(late, 1) if by_time else overdue.value if overdue else None, OVERDUE_WARNING_SECONDS if by_time else overdue.threshold if overdue else None,
        "queue_checks.queue", symptom=True,
    )  # fmt: skip
    row = evidence.row("completed_without_post")
    yield Fact("jobs.completed_without_post", "publish", None if row is None else row.without_post >= FEWEST_POSTS_MISSING and row.without_post * 2 > row.completed,
               "Jobs completed, and name no post.", row.without_post if row else None, FEWEST_POSTS_MISSING, evidence.source("completed_without_post"), symptom=True, severe=True)  # fmt: skip
    overlaps = evidence.rows.get("overlapping_attempts")
    yield Fact("jobs.given_out_twice", "claim", bool(overlaps) if overlaps is not None else None, f"{len(overlaps or ())} attempts of one job ran at the same time at two workers.",
               len(overlaps or ()), 1, evidence.source("overlapping_attempts"), symptom=True, severe=True)  # fmt: skip
    untold = evidence.rows.get("attempts_without_a_row")
    yield Fact(
        "jobs.attempts_without_a_row", "claim", None if untold is None else len(untold) >= FEWEST_UNTOLD,
        f"{len(untold or ())} jobs had attempts of which no row tells: each of ours leaves one, so somebody else took them away.",
        len(untold or ()), FEWEST_UNTOLD, evidence.source("attempts_without_a_row"), symptom=True, severe=True,
    )  # fmt: skip
    yield from _killers(evidence, attempts, answered)


def _killers(evidence: Evidence, attempts: Attempts, answered: bool) -> Iterator[Fact]:
    """A job on which one worker after another vanishes."""
    lost: dict[str, set[str]] = {}
    for row in attempts.all:
        if row.status == "lost":
            lost.setdefault(row.job_id, set()).add(str(row.worker))
    ranked = sorted(lost.items(), key=lambda item: -len(item[1]))
    job, workers = ranked[0] if ranked else (None, set())
    second = len(ranked[1][1]) if len(ranked) > 1 else 0
    # Where several jobs lose the same workers, it is the workers: each new one takes the same jobs first. And
    # whoever is killed takes along what else it had in hand.
    alone = second == 0 or (len(workers) >= 3 and second <= len(workers) - 2)
    yield Fact("jobs.one_job_loses_workers", "data", len(workers) >= 2 and alone if answered else None,
               f"{len(workers)} workers vanished one after another on the job {job}; no other job lost more than {second}." if job else "No job lost several workers.", len(workers), 2, SOURCE, symptom=True, subject={"job_id": job} if job else {})  # fmt: skip
    yield Fact("jobs.others_keep_workers", "data", alone if answered and job else None,
               "Other jobs lose no worker, or lost one beside it.", second, max(0, len(workers) - 2), SOURCE)  # fmt: skip
    rows = evidence.rows.get("in_processing")
    counted = max((row.lost_count or 0 for row in rows or ()), default=0)
    waiting = max((row.most_lost or 0 for row in evidence.rows.get("waiting", ())), default=0)
    quarantined = any(
        row.error_class == "quarantined" for row in evidence.rows.get("ended_in_error", ())
    )
    yield Fact("jobs.lost_again_and_again", "data", max(counted, waiting) >= 2 or quarantined if rows is not None else None,
               "A job's attempts were lost several times in a row, or it is in quarantine.", max(counted, waiting), 2, evidence.source("in_processing"))  # fmt: skip


def _producer(evidence: Evidence, attempts: Attempts) -> Iterator[Fact]:
    volume, waiting = evidence.checks.get("queue.throughput"), evidence.rows.get("waiting")
    silent = (
        None if volume is None or not volume.answered else volume.verdict in ("warning", "critical")
    )
    yield Fact("producer.less_than_usual", "data", silent, volume.message if volume else "Whether less comes than usual is not known.",
               volume.value if volume else None, volume.threshold if volume else None, (volume.source if volume else None) or "queue.throughput", symptom=True)  # fmt: skip
    yield _arrivals(evidence)
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


def _hanging(evidence: Evidence, attempts: Attempts) -> Fact:
    """All that is with OpenAI waits for longer than any did, and none came back since.

    Beyond the total deadline it is the worker that does not end its attempts.
    """
    rows = [row for row in evidence.rows.get("in_processing", ()) if row.stage == "write"]
    ages = [row.age_seconds or 0.0 for row in rows]
    limit = max(HANGING_SECONDS, LONG_FACTOR * attempts.longest_seconds)
    within = max(ages, default=0.0) <= evidence.openai_deadline_seconds + DEADLINE_MARGIN_SECONDS
    ended = [row for row in attempts.all if row.age_seconds < min(ages, default=0.0)]
    hang = len(ages) >= 2 and min(ages) > limit and within and not ended
    return Fact(
        "processing.all_hang_in_write", "generate", hang if "in_processing" in evidence.rows else None,
        f"All {len(ages)} jobs that are with OpenAI wait for longer than any did before, and none came back since." if hang else "Jobs come back from OpenAI.",
        round(min(ages, default=0.0), 1), round(limit, 1), evidence.source("in_processing"), symptom=True, severe=True,
    )  # fmt: skip


def _hanging_at_the_site(evidence: Evidence, attempts: Attempts) -> Fact:
    """All that is being published is older than any attempt was, and none came back since."""
    rows = [row for row in evidence.rows.get("in_processing", ()) if row.stage == "publish"]
    ages = [row.age_seconds or 0.0 for row in rows]
    limit = max(PUBLISHING_SECONDS, LONG_FACTOR * attempts.longest_seconds)
    ended = any(row.age_seconds < min(ages, default=0.0) and row.stage == "publish" for row in attempts.all)  # fmt: skip
    hang = len(ages) >= 2 and min(ages) > limit and not ended
    return Fact(
        "processing.all_hang_in_publish", "publish", hang if "in_processing" in evidence.rows else None,
        f"All {len(ages)} jobs that are being published are longer at it than any was before, and none came back since." if hang else "Jobs come back from the site.",
        round(min(ages, default=0.0), 1), round(limit, 1), evidence.source("in_processing"), symptom=True, severe=True,
    )  # fmt: skip


def _goes_on(attempts: Attempts) -> Fact:
    """Whether articles are written between the time-outs: then OpenAI answers some and not others.

    Where the newest attempts are nothing but time-outs, it did so before.
    """
    late = [row for row in attempts.recent if failed(row) and class_of(row) == "openai_timeout"]
    first = max((row.age_seconds for row in late), default=0.0)
    written = [row for row in attempts.recent if row.write_seconds and not failed(row) and row.age_seconds < first]  # fmt: skip
    seen = attempts.classes.get("openai_timeout")
    ended = seen is not None and seen.since_success >= FEWEST_IN_A_ROW
    return Fact(
        "writing.goes_on", "generate", bool(late) and not ended and len(written) * 3 >= len(late) and len(written) >= 2,
        f"Since the first of {len(late)} time-outs {len(written)} articles were written.", len(written), len(late), SOURCE,
    )  # fmt: skip


def _under_way_seconds(evidence: Evidence, stage: str) -> list[float]:
    """For how long living workers have had the jobs that are at a stage."""
    alive = {row.worker for row in alive_workers(evidence)}
    rows = evidence.rows.get("in_processing", ())
    return [row.age_seconds or 0.0 for row in rows if row.stage == stage and row.worker in alive]


def _under_way(evidence: Evidence, attempts: Attempts) -> Fact:
    """Several jobs that are written for longer than any was: they need not have ended to tell that it is slow."""
    limit = max(UNDER_WAY_SECONDS, 2 * attempts.longest_seconds)
    long = [seconds for seconds in _under_way_seconds(evidence, "write") if seconds > limit]
    return Fact(
        "writing.under_way_longer", "generate", len(long) >= 2 if "in_processing" in evidence.rows else None,
        f"{len(long)} jobs are being written for more than twice as long as any took before.", len(long), 1, evidence.source("in_processing"), symptom=len(long) >= 2,
    )  # fmt: skip


def _arrivals(evidence: Evidence) -> Fact:
    """By the same hours of the two weeks before: how likely it is that by chance nothing came for so long.

    Jobs that come by themselves are about Poisson-distributed. The days before and the same weekday must
    both have brought some, else it was as quiet then.
    """
    rows = [row for row in evidence.rows.get("arrivals", ()) if row.known]
    usual = [row.published for row in rows]
    same_weekday = [row.published for row in rows if row.day in (7, 14)]
    enough = len(rows) >= FEWEST_DAYS and bool(same_weekday)
    expected = (
        min(statistics.fmean(usual), *same_weekday, statistics.median(usual)) if enough else 0.0
    )
    silent = rows[0].silent_seconds if rows else None
    return Fact(
        "producer.silent_for_long", "data", None if not enough else math.exp(-expected) < SILENT_BY_CHANCE,
        f"Nothing was published for {in_words(silent or 0)}; in the same hours of the days before it was {expected:.0f} at least."
        if enough else "There is too little history to say how much comes in these hours.",
        round(math.exp(-expected), 9) if enough else None, SILENT_BY_CHANCE, evidence.source("arrivals"), symptom=True,
    )  # fmt: skip


def _covers(first_hour: Any, evidence: Evidence, days: int) -> bool:
    return bool((evidence.taken_at - first_hour).days >= days)
