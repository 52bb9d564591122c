"""One job, from topic to published post, in named steps.

What is sent to a provider is committed first, so that a worker may vanish at any point: the next
attempt knows what may have happened and looks before it sends anything again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from runbook_lib.deadlines import Deadline
from runbook_lib.pipeline.attempt import (
    Attempt,
    Completed,
    RequestDraft,
    StoreArticle,
    StoreDraft,
)
from runbook_lib.pipeline.failures import Failure, JobFailed
from runbook_lib.pipeline.model import Article, Job, Post
from runbook_lib.pipeline.post_comparison import PostRequest


class Writer(Protocol):
    """Writes the article; see `pipeline.writer`."""

    def check_topic(self, job: Job) -> None: ...

    def write(self, job: Job, deadline: Deadline) -> Article: ...

    def check_article(
        self, article: Article, job: Job, recent: Iterable[tuple[int, ...]]
    ) -> None: ...


class Publisher(Protocol):
    """Publishes effectively once; see `pipeline.publishing`."""

    def find(self, job: Job, deadline: Deadline) -> Post | None: ...

    def prepare(self, job: Job, article: Article, deadline: Deadline) -> PostRequest: ...

    def create_draft(self, job: Job, request: PostRequest, deadline: Deadline) -> Post: ...

    def publish(self, job: Job, post_id: int, deadline: Deadline) -> Post: ...


class Process:
    """Runs attempts; one object serves all threads."""

    def __init__(
        self,
        writer: Writer,
        publisher: Publisher,
        recent_sketches: Callable[[Job], Iterable[tuple[int, ...]]],
        *,
        site_processing_seconds: float,
    ) -> None:
        self._writer = writer
        self._publisher = publisher
        self._recent_sketches = recent_sketches
        self._site_processing_seconds = site_processing_seconds

    def __call__(self, attempt: Attempt) -> Completed:
        """Raises `JobFailed`, or `AttemptOver` when the attempt was ended from outside."""
        post_id = attempt.job.post_id
        if post_id is None:
            article = attempt.article or self._write(attempt)
            post_id = self._draft(attempt, article)
        return self._publish(attempt, post_id)

    def _write(self, attempt: Attempt) -> Article:
        job, deadline = attempt.job, _deadline(attempt)
        self._writer.check_topic(job)
        with _measure(attempt, "write_seconds"):
            article = self._writer.write(job, deadline)
        attempt.usage = article.usage
        self._writer.check_article(article, job, self._recent_sketches(job))
        attempt.checkpoint(StoreArticle(article))
        return article

    def _draft(self, attempt: Attempt, article: Article) -> int:
        """The id of the one draft that is to be published: found, or made."""
        attempt.require_lease()
        post = self._find_earlier_draft(attempt) or self._make_draft(attempt, article)
        attempt.checkpoint(StoreDraft(post.post_id, post.url, post.status))
        return post.post_id

    def _find_earlier_draft(self, attempt: Attempt) -> Post | None:
        job = attempt.job
        if job.draft_age_seconds is None:
            return None
        with _measure(attempt, "publish_seconds"):
            post = self._publisher.find(job, _deadline(attempt))
        wait_seconds = self._site_processing_seconds - job.draft_age_seconds
        if post is None and wait_seconds > 0:
            # The earlier request may still be under way inside the site; looking again before its
            # longest processing time is over proves nothing.
            raise JobFailed(
                Failure(
                    "waiting_for_site",
                    "A draft may be under way at the site.",
                    stage="publish",
                    provider="wordpress",
                    retry_after_seconds=wait_seconds,
                )
            )
        return post

    def _make_draft(self, attempt: Attempt, article: Article) -> Post:
        job, deadline = attempt.job, _deadline(attempt)
        with _measure(attempt, "publish_seconds"):
            request = self._publisher.prepare(job, article, deadline)
        attempt.checkpoint(RequestDraft())
        with _measure(attempt, "publish_seconds"):
            found = self._publisher.find(job, deadline)
            if found is not None:
                return found
            attempt.require_lease()
            # If the attempt turns out not to be ours any more, the draft stays: the attempt that took
            # over may have adopted it. A draft that nobody adopts is trashed by the next look-up.
            return self._publisher.create_draft(job, request, deadline)

    def _publish(self, attempt: Attempt, post_id: int) -> Completed:
        attempt.require_lease()
        with _measure(attempt, "publish_seconds"):
            post = self._publisher.publish(attempt.job, post_id, _deadline(attempt))
        return Completed(post.post_id, post.url, post.status)


def _deadline(attempt: Attempt) -> Deadline:
    assert attempt.deadline is not None
    return attempt.deadline


def _measure(attempt: Attempt, name: str):  # type: ignore[no-untyped-def]
    assert attempt.timings is not None
    return attempt.timings.measure(name)
