"""The same thing twice: jobs created twice, articles that are alike, and one job's article on the site twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
from psycopg2.errors import InsufficientPrivilege

from runbook_lib.credentials.masking import one_line
from runbook_lib.database.statements import load
from runbook_lib.errors import RunbookError
from runbook_lib.health.answers import LONGEST_PROBLEM_CHARACTERS, Answer, table
from runbook_lib.health.checks import Check, Verdict
from runbook_lib.health.sources import Sources
from runbook_lib.health.tables import Table
from runbook_lib.maintenance.content_review import (
    BadPost,
    ContentReview,
    content_review,
    short_address,
)
from runbook_lib.maintenance.published_posts import OpenSite
from runbook_lib.pipeline.posts import site_of_settings

NEEDS = ("jobs.topic", "jobs.created_at", "jobs.status")
ROWS_SHOWN = 50
_SQL = load("duplicates")
_TAKE_OFF = 'Take it off: emergency/bad_content with kinds="{kind}".'
_NO_ACTION = "None needed: look at who creates the jobs."


@dataclass(frozen=True, repr=False)
class DuplicateReview(Answer):
    """What there is twice; each row says the first safe thing to do about it."""

    check: Check
    content: ContentReview | None
    topic_rows: Sequence[Mapping[str, Any]] = ()
    key_rows: Sequence[Mapping[str, Any]] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    problem: str | None = None

    @property
    def posts(self) -> Table:
        """Posts of the site that are there twice, or nearly so."""
        rows = [
            {"published_at": post.published_at, "post": str(post.post_id), "title": post.title,
             "twice": "; ".join(f"{fault.kind}: {fault.detail}" for fault in post.faults if fault.kind in ("doubled", "too alike")),
             "address": short_address(post.url, post.post_id), "first_action": _TAKE_OFF.format(kind="doubled" if "doubled" in post.kinds else "too alike")}
            for post in self._twice()
        ]  # fmt: skip
        return table(rows, ("published_at", "post", "title", "twice", "address", "first_action"), self._empty("No post is there twice."))  # fmt: skip

    @property
    def topics(self) -> Table:
        """Topics with more than one job; those that came at once stand first."""
        return table(self.topic_rows, ("topic", "jobs", "at_once", "pending", "completed", "without_key", "producers", "first_at", "last_at", "first_action"),
                     self._empty("No topic came twice."))  # fmt: skip

    @property
    def keys(self) -> Table:
        """Idempotency keys that more than one job carries."""
        return table(self.key_rows, ("key", "jobs", "first_at", "last_at", "some_jobs"), self._empty("No key is carried twice."))  # fmt: skip

    def results(self) -> dict[str, Any]:
        """Every figure of the review, for the record."""
        twice = self._twice()
        return {
            **self.counts,
            "topics_twice": len(self.topic_rows),
            "jobs_created_at_once": sum(row["at_once"] for row in self.topic_rows),
            "keys_twice": len(self.key_rows),
            "posts_doubled": sum("doubled" in post.kinds for post in twice),
            "posts_alike": sum("too alike" in post.kinds for post in twice),
            "site_asked": self.content.results()["site_asked"] if self.content else False,
            "problem": self.problem,
        }

    def sentences(self) -> list[str]:
        lines = []
        if self.content is not None and self.content.site.verdict != "ok":
            lines.append(self.content.site.message)
        if self.counts:
            lines.append(f"{self.counts['jobs_with_key']:,} of {self.counts['jobs']:,} jobs carry an idempotency key; {self.counts['jobs_refused_as_alike']:,} were stopped because their article was too alike.")  # fmt: skip
        return lines

    def _twice(self) -> list[BadPost]:
        posts = self.content.bad_posts if self.content else ()
        return [post for post in posts if {"doubled", "too alike"} & set(post.kinds)]

    def _empty(self, words: str) -> str:
        return f"Not known: {self.problem}" if self.problem else words


def duplicate_review(
    sources: Sources,
    *,
    days: int = 7,
    within_minutes: float = 10,
    most_posts: int = 2_000,
    open_site: OpenSite = site_of_settings,
) -> DuplicateReview:
    """Looks for what came or went out twice in the last days. Reads only, here and at the site.

    Two jobs of one topic are `at_once` when they came within so many minutes. Never raises for what it finds.
    """
    until = datetime.now(UTC)
    period = {"since": until - timedelta(days=days), "until": until}
    try:
        if missing := sources.missing(NEEDS):
            return _without_answer(f"This pipeline has no {', '.join(missing)}.")
        with sources.pipeline.transaction(read_only=True) as transaction:
            topics = transaction.rows(sources.reading(_SQL["jobs_with_one_topic"]), within_seconds=60 * within_minutes, row_count=ROWS_SHOWN, **period)  # fmt: skip
            keys = transaction.rows(sources.reading(_SQL["jobs_with_one_key"]), row_count=ROWS_SHOWN, **period)  # fmt: skip
            counted = transaction.row(sources.reading(_SQL["jobs_of_days"]), **period)
    except InsufficientPrivilege as error:
        return _without_answer(one_line(str(error), LONGEST_PROBLEM_CHARACTERS), "not_allowed")
    except (RunbookError, psycopg2.OperationalError) as error:
        return _without_answer(one_line(str(error), LONGEST_PROBLEM_CHARACTERS))
    assert counted is not None
    found = DuplicateReview(
        Check("content.duplicates", "ok", ""),
        content_review(sources, days=days, most_posts=most_posts, open_site=open_site),
        [_topic_row(row) for row in topics],
        [{**row._asdict(), "some_jobs": ", ".join(map(str, row.some_jobs))} for row in keys],
        {"jobs": counted.jobs, "jobs_with_key": counted.with_key, "jobs_refused_as_alike": counted.refused_as_alike},
    )  # fmt: skip
    return replace(found, check=_check(found.results(), days))


def _topic_row(row: Any) -> dict[str, Any]:
    told = row._asdict()
    pending = [str(job_id) for job_id in row.later_pending or ()]
    if pending:
        told["first_action"] = f"Cancel the later ones before they cost anything: `runbook jobs cancel {pending[0]}`."  # fmt: skip
    elif row.completed > 1:
        told["first_action"] = "Read both posts; if they are the same, take the later one off: emergency/bad_content."  # fmt: skip
    else:
        told["first_action"] = _NO_ACTION
    return told


def _check(results: Mapping[str, Any], days: int) -> Check:
    check = Check(
        "content.duplicates", "ok", f"Nothing of the last {days} days is there twice.", results["posts_doubled"], "doubled posts", 0,
        "duplicates.jobs_with_one_topic",
        does_not_prove="that two articles on one subject in other words are not one too many",
    )  # fmt: skip
    if results["posts_doubled"]:
        return replace(
            check, verdict="critical", message=f"{results['posts_doubled']:,} posts are on the site beside the post of the same job.",
            next="Take the copies off; then find out who wrote to the site beside the workers.", procedure="emergency/bad_content", parameters={"kinds": "doubled"},
        )  # fmt: skip
    told = [
        f"{results[name]:,} {words}"
        for name, words in (("posts_alike", "posts are nearly the same as an earlier one"), ("keys_twice", "idempotency keys are carried by more than one job"), ("jobs_created_at_once", "jobs came right after another one of the same topic"))
        if results[name]
    ]  # fmt: skip
    if told:
        return replace(check, verdict="warning", message=f"{'; '.join(told)}.", next="Look at who creates the jobs, and whether they send an idempotency key.")  # fmt: skip
    if not results["jobs"]:
        return replace(check, verdict="not_enough_data", message=f"No job was created in the last {days} days.")  # fmt: skip
    return check


def _without_answer(problem: str, verdict: Verdict = "not_enough_data") -> DuplicateReview:
    check = Check("content.duplicates", verdict, f"Nothing could be looked at. {problem}", source="duplicates.jobs_with_one_topic")  # fmt: skip
    return DuplicateReview(check, None, problem=problem)
