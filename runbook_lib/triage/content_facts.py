"""Facts about what is written: articles that must not be published, and topics that are refused."""

from __future__ import annotations

from collections.abc import Iterator

from runbook_lib.pipeline.failures import FAILURE_CLASSES
from runbook_lib.triage.attempts import (
    SOURCE,
    Attempts,
    class_of,
)
from runbook_lib.triage.evidence import Evidence
from runbook_lib.triage.facts import Fact

CONTENT_CLASSES = (
    # Too alike is the topic's fault: it came twice.
    *(
        name
        for name in FAILURE_CLASSES
        if name.startswith("content_") and name != "content_too_alike"
    ),
    "openai_refused",
)
BAD_CONTENT_PERCENT, SUDDEN_PERCENT, FEWEST_BAD = 15.0, 50.0, 3
# More jobs than that, and no other written since: it is not the topics.
FEW_JOBS = 3
# What ended a job is old by then, and only to be watched.
LATELY_SECONDS = 300.0
FEW_WORDS = 60


def content_facts(evidence: Evidence, attempts: Attempts) -> Iterator[Fact]:
    answered = "newest_attempts" in evidence.rows
    yield from _content(evidence, attempts, answered)
    yield from _topics(evidence, attempts, answered)


def _content(evidence: Evidence, attempts: Attempts, answered: bool) -> Iterator[Fact]:
    bad, of = attempts.share_of(CONTENT_CLASSES)
    kinds = {class_of(row) for row in attempts.failures} & set(CONTENT_CLASSES)
    share = 100 * bad / of if of else 0.0
    over = attempts.is_over(lambda row: class_of(row) in CONTENT_CLASSES)
    # Of what ran since the first of them, where it began a moment ago.
    since = attempts.since_first(lambda row: class_of(row) in CONTENT_CLASSES)
    sudden = bad > FEWEST_BAD and bad * 100 >= SUDDEN_PERCENT * since
    many = bad >= FEWEST_BAD and (share >= BAD_CONTENT_PERCENT or sudden) and not over
    yield Fact("content.many_refused", "data", many if answered else None,
               f"{bad} of the {of} newest attempts brought an article that must not be published ({', '.join(sorted(kinds)) or 'none'}).",
               bad, {"of": of, "percent": BAD_CONTENT_PERCENT}, SOURCE, symptom=True, severe=True, subject={"provider": "openai"})  # fmt: skip
    pages = attempts.classes.get("openai_wrong_address")
    as_answers = (
        [row for row in pages.rows if row.http_status == 200] if pages and pages.going_on else []
    )
    yield Fact(
        "content.pages_as_answers", "data", bool(as_answers) if answered else None,
        "Requests for articles are answered with status 200 and a page that is none.", len(as_answers), 1, SOURCE, symptom=True, severe=True, subject={"provider": "openai"},
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
               len(short) + repeated, FEWEST_BAD, source, symptom=True, severe=True, subject={"provider": "wordpress"})  # fmt: skip
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
        # What fails at the site was written all the same.
        written = [row for row in others if row.status == "completed" or class_of(row).startswith("wordpress_")]  # fmt: skip
        fine = not others or len(written) * 2 >= len(others)
        few = len(jobs) <= max(FEW_JOBS, len({row.job_id for row in attempts.recent}) // 2)
        first = max((row.age_seconds for row in rows), default=0.0)
        since = sum(row.age_seconds < first for row in written)
        few = few and (len(jobs) <= FEW_JOBS or since * 2 >= len(jobs))
        again = len(rows) >= 2 and rows[0].age_seconds <= LATELY_SECONDS
        yield Fact(f"topics.refused_for_{kind}", "data", (len(rows) >= 1 and few) if answered else None,
                   f"{len(rows)} attempts of {len(jobs)} jobs were refused because of their topic.", len(rows), 1, SOURCE, symptom=again, subject={"job_id": rows[0].job_id} if rows else {})  # fmt: skip
        classes = [name for name, of in _OF_ONE_TOPIC.items() if of == kind]
        ended = [
            row for row in evidence.rows.get("ended_in_error", ()) if row.error_class in classes
        ]
        yield Fact(f"jobs.ended_by_{kind}", "data", bool(ended) if "ended_in_error" in evidence.rows else None, "Jobs ended for that reason, and are not tried again.",
                   sum(row.jobs for row in ended), 1, evidence.source("ended_in_error"))  # fmt: skip
        yield Fact(
            f"topics.refused_again_{kind}",
            "data",
            again if answered else None,
            "It was met more than once, and lately.",
            len(rows),
            2,
            SOURCE,
        )
        yield Fact(f"topics.others_fine_{kind}", "generate", bool(others) and fine if answered else None, "Other topics are written.",
                   sum(row.status == "completed" for row in others), 1, SOURCE)  # fmt: skip
