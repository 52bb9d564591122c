"""Writes the article of a job with OpenAI, or with a server that is like it."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runbook_lib.deadlines import Deadline
from runbook_lib.pipeline import content, prompts
from runbook_lib.pipeline.content import ContentLimits
from runbook_lib.pipeline.failures import Failure, JobFailed
from runbook_lib.pipeline.likeness import likeness_sketch, words_of
from runbook_lib.pipeline.model import Article, Job, Usage
from runbook_lib.pipeline.openai_answers import Completion, read_completion, refused_parameter
from runbook_lib.pipeline.prices import PriceList
from runbook_lib.pipeline.rendering import visible_text

if TYPE_CHECKING:
    from runbook_lib.pipeline.article_text import ArticleText
    from runbook_lib.pipeline.openai_client import OpenAIClient, Reply
    from runbook_lib.pipeline.providers import OpenAIProvider
    from runbook_lib.settings import Settings

CHARACTERS_A_TOKEN = 4
LONGEST_REFUSAL_WORDS = 80
_REFUSED_IN_WORDS = re.compile(
    r"\W*(?:(?:i(?:'m|’m| am) )?(?:very |so )?sorry\b|i apologi[sz]e\b|unfortunately,? i\b)?.{0,40}?"
    r"\bi(?: am|'m|’m)? (?:can(?:no|')t|can’t|cannot|unable to|won(?:'|’)t|will not) (?:be able to )?"
    r"(?:help|assist|write|create|provide|comply|fulfil|generate|discuss|engage|continue)",
    re.IGNORECASE | re.DOTALL,
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _RequestShape:
    """Which optional parts a request carries; servers that refuse one get requests without it."""

    structured: bool = True
    limit_name: str | None = "max_completion_tokens"

    def without(self, parameter: str | None) -> _RequestShape | None:
        """The next simpler shape, or None when the refused parameter is none that can be left out."""
        if parameter == "response_format" and self.structured:
            return replace(self, structured=False)
        # Older servers know only the older name; one that finds the number too large has its own limit.
        if parameter is not None and "tokens" in parameter and self.limit_name is not None:
            older = "max_tokens" if self.limit_name == "max_completion_tokens" else None
            return replace(self, limit_name=older)
        return None


class ArticleWriter:
    """Writes and checks articles; threads may share it.

    `api_key` is asked for each request. `deadline_seconds` bounds each article besides the attempt's own
    deadline. `connections` is how many calls run at a time.
    """

    def __init__(
        self,
        base_url: str,
        api_key: Callable[[], str],
        model: str,
        *,
        limits: ContentLimits,
        prices: PriceList,
        deadline_seconds: float = 300,
        maximum_output_tokens: int = 8_000,
        connections: int = 10,
    ) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._model = model
        self._limits = limits
        self._prices = prices
        self._deadline_seconds = deadline_seconds
        self._maximum_output_tokens = maximum_output_tokens
        self._connections = connections
        self._shape = _RequestShape()
        self._client: OpenAIClient | None = None
        self._lock = threading.Lock()

    @classmethod
    def of(
        cls, provider: OpenAIProvider, settings: Settings, *, connections: int | None = None
    ) -> ArticleWriter:
        """The writer that the settings name; `connections` is the worker's concurrency by default."""
        return cls(
            provider.base_url,
            provider.api_key,
            provider.model,
            limits=ContentLimits.of(settings),
            prices=PriceList(settings.runbook_model_prices),
            deadline_seconds=settings.runbook_openai_deadline_seconds,
            maximum_output_tokens=settings.runbook_maximum_output_tokens,
            connections=connections or settings.runbook_concurrency,
        )

    def warm_up(self) -> None:
        """Imports and makes what the first article needs: about a second, in whatever thread."""
        self._ready_client()
        visible_text("")

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def check_topic(self, job: Job) -> None:
        """Raises `JobFailed` for a topic that is not worth paying for."""
        content.check_topic(job, self._limits)

    def write(self, job: Job, deadline: Deadline) -> Article:
        """Writes the article of a job. Raises `JobFailed`, with the usage where it was paid for."""
        client = self._ready_client()
        within = deadline.within(self._deadline_seconds)
        messages = prompts.messages(job, self._limits)
        # Raised here and not where it was found: nothing of the client's exceptions hangs on it then.
        found = self._ask(client, messages, within)
        if isinstance(found, Failure):
            raise JobFailed(found)
        usage = self._usage(found, messages)
        read = _read(found, job)
        if isinstance(read, Failure):
            raise JobFailed(replace(read, request_id=found.request_id)).with_usage(usage)
        return Article(
            title=read.title,
            excerpt=read.excerpt,
            body_markdown=read.body_markdown,
            tags=read.tags,
            finish_reason=found.finish_reason,
            usage=usage,
            word_count=len(words_of(visible_text(read.body_markdown))),
            likeness_sketch=likeness_sketch(read.body_markdown),
        )

    def check_article(self, article: Article, job: Job, recent: Iterable[tuple[int, ...]]) -> None:
        """Raises `JobFailed` for an article that must not be published."""
        content.check(article, job, self._limits, recent)

    def _ask(
        self, client: OpenAIClient, messages: list[dict[str, str]], deadline: Deadline
    ) -> Completion | Failure:
        while True:
            shape = self._shape
            reply = client.complete(self._parameters(messages, shape), deadline)
            if isinstance(reply, Failure):
                return reply
            if reply.status == 200:
                return read_completion(reply.headers, reply.body)
            simpler = self._simpler(shape, reply)
            if simpler is None:
                return reply.refusal()
            self._shape = simpler

    def _simpler(self, shape: _RequestShape, reply: Reply) -> _RequestShape | None:
        parameter = refused_parameter(reply.status, reply.body)
        simpler = shape.without(parameter)
        if simpler is not None and shape == self._shape:
            _log.warning("%s does not take %s; it is left out from now on.", self._model, parameter)
        return simpler

    def _parameters(
        self, messages: list[dict[str, str]], shape: _RequestShape
    ) -> Mapping[str, Any]:
        parameters: dict[str, Any] = {"model": self._model, "messages": messages}
        if shape.structured:
            parameters["response_format"] = prompts.RESPONSE_SCHEMA
        if shape.limit_name is not None:
            parameters[shape.limit_name] = self._maximum_output_tokens
        return parameters

    def _usage(self, completion: Completion, messages: list[dict[str, str]]) -> Usage:
        """What was used; estimated where the server does not say, so that caps are not blind."""
        prompt_tokens = completion.prompt_tokens
        if prompt_tokens is None:
            prompt_tokens = len(json.dumps(messages, ensure_ascii=False)) // CHARACTERS_A_TOKEN
        completion_tokens = completion.completion_tokens
        if completion_tokens is None:
            completion_tokens = len(completion.content or "") // CHARACTERS_A_TOKEN
        model = completion.model or self._model
        return Usage(
            model=model,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost_usd=self._prices.cost_usd(
                model,
                self._model,
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                cached_prompt_tokens=completion.cached_prompt_tokens,
            ),
            request_id=completion.request_id,
        )

    def _ready_client(self) -> OpenAIClient:
        with self._lock:
            if self._client is None:
                from runbook_lib.pipeline.openai_client import OpenAIClient

                self._client = OpenAIClient(
                    self._base_url, self._api_key, connections=self._connections
                )
            return self._client


def _read(completion: Completion, job: Job) -> ArticleText | Failure:
    from runbook_lib.pipeline.article_text import UnreadableArticle, read_article

    if completion.refusal:
        return _unwritten("openai_refused", "The model refused to write about this topic.")
    if completion.finish_reason == "content_filter":
        return _unwritten("openai_content_filtered", "The content filter stopped the answer.")
    if completion.finish_reason == "length":
        return _unwritten(
            "content_truncated",
            "The article stops where its tokens ended (finish_reason length); "
            "if it stays, raise RUNBOOK_MAXIMUM_OUTPUT_TOKENS.",
        )
    if not completion.content or not completion.content.strip():
        return _unwritten(
            "content_empty",
            f"The answer holds no text (finish_reason {str(completion.finish_reason)[:40]}).",
        )
    if _is_refusal(completion.content):
        return _unwritten("openai_refused", "The model refused in words instead of an article.")
    try:
        return read_article(completion.content, job.topic, job.keywords)
    except UnreadableArticle as error:
        return _unwritten("openai_answer_unreadable", f"No article can be read: {error}.")


def _is_refusal(text: str) -> bool:
    short = len(text) < 2_000 and len(words_of(text)) <= LONGEST_REFUSAL_WORDS
    return short and _REFUSED_IN_WORDS.match(text) is not None


def _unwritten(error_class: str, message: str) -> Failure:
    return Failure(error_class, message, stage="write", provider="openai", http_status=200)
