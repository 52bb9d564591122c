"""The values that travel between the coordinator, a job's thread and the two providers' clients."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, NamedTuple

Stage = Literal["write", "publish"]
PROVIDER_OF_STAGE: dict[str, str] = {"write": "openai", "publish": "wordpress"}


class Job(NamedTuple):
    """One claimed job. `topic` is cut one character past the longest topic that is allowed.

    A named tuple with its id as text, not a dataclass with a UUID: tens of thousands of them are made
    in a second.
    """

    job_id: str
    attempt: int
    stage: Stage
    topic: str
    category: str | None
    keywords: list[str]
    audience: str | None
    tone: str | None
    requested_post_status: str | None
    priority: int
    retry_count: int
    max_retries: int
    lost_count: int
    draft_requested_at: datetime | None
    draft_age_seconds: float | None
    post_id: int | None
    claimed_at: datetime


@dataclass(frozen=True)
class Usage:
    """What one call to OpenAI used. `cost_usd` is None for a model whose price is not known."""

    model: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: Decimal | None
    request_id: str | None = None

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class Article:
    """An article as it was written, before it becomes HTML."""

    title: str
    excerpt: str
    body_markdown: str
    tags: tuple[str, ...]
    finish_reason: str | None
    usage: Usage
    word_count: int
    likeness_sketch: tuple[int, ...]


@dataclass(frozen=True)
class Post:
    """A post as WordPress says it is."""

    post_id: int
    status: str
    slug: str
    url: str
    author_id: int
    category_ids: tuple[int, ...]
    tag_ids: tuple[int, ...]
    title: str
    content: str
