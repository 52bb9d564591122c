"""One attempt at one job: what its thread sees of the coordinator, and what it tells it.

A thread has no database connection. It hands each checkpoint to the coordinator, which commits it in
its next turn and answers; only then does the thread go on. So nothing is sent to a provider that the
database does not know of.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from runbook_lib.deadlines import Deadline
from runbook_lib.pipeline.model import Article, Job, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator


class AttemptOver(Exception):
    """The attempt is not this thread's any more: stop without touching anything."""


@dataclass(frozen=True)
class StoreArticle:
    """The article is written and paid for: keep it, and ask to go on to publishing."""

    article: Article


@dataclass(frozen=True)
class RequestDraft:
    """A draft is about to be sent."""


@dataclass(frozen=True)
class StoreDraft:
    """The draft exists under this id."""

    post_id: int
    post_url: str
    post_status: str


Checkpoint = StoreArticle | RequestDraft | StoreDraft


@dataclass(frozen=True)
class Completed:
    """The job is done; the post stands at WordPress as `post_status`."""

    post_id: int | None = None
    post_url: str | None = None
    post_status: str | None = None


class Abandoned:
    """A thread gave its attempt up by itself, because the lease may have run out."""


@dataclass
class Timings:
    """Seconds spent inside calls to each provider during this attempt."""

    write_seconds: float = 0.0
    publish_seconds: float = 0.0

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            setattr(self, name, getattr(self, name) + time.monotonic() - started)


class Attempt:
    """What a job's thread holds. All times are of the monotonic clock."""

    __slots__ = (
        "_replies",
        "_send",
        "abandoned",
        "article",
        "claimed_at",
        "deadline",
        "ended_at",
        "job",
        "key",
        "lease_until",
        "over",
        "started_at",
        "timings",
        "usage",
        "usage_recorded",
    )

    def __init__(
        self,
        job: Job,
        send: Callable[[Any], None],
        *,
        claimed_at: float,
        lease_seconds: float,
    ) -> None:
        self.job = job
        self.key = (job.job_id, job.attempt)
        self.article: Article | None = None
        self.claimed_at = claimed_at
        self.lease_until = claimed_at + lease_seconds
        self.deadline: Deadline | None = None
        self.started_at: float | None = None
        self.ended_at: float | None = None
        self.over = False
        self.abandoned = False  # its thread was replaced and must end with it
        self.usage: Usage | None = None
        self.usage_recorded = False
        self.timings: Timings | None = None
        self._send = send
        self._replies: queue.SimpleQueue[bool] | None = None

    def begin(self, deadline_seconds: float) -> None:
        self.started_at = time.monotonic()
        self.deadline = Deadline(self.started_at + deadline_seconds)
        self.timings = Timings()

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Returns once the checkpoint is committed. Raises `AttemptOver` when the attempt is not ours
        any more, or was handed back because the worker stops or the next provider is paused."""
        if self.over:
            raise AttemptOver
        if self._replies is None:
            self._replies = queue.SimpleQueue()
        self._send(Message(self, checkpoint))
        if not self._replies.get():
            raise AttemptOver

    def reply(self, go_on: bool) -> None:
        """Called by the coordinator after its commit."""
        if self._replies is not None:
            self._replies.put(go_on)

    def require_lease(self) -> None:
        """Raises `AttemptOver` when the lease may have run out, e.g. after the process was frozen.

        Asked right before anything is sent that cannot be taken back.
        """
        if self.over or time.monotonic() >= self.lease_until:
            raise AttemptOver


class Message(NamedTuple):
    """From a job's thread to the coordinator: a checkpoint, or how the attempt ended."""

    attempt: Attempt
    body: Any
    record: str = ""
