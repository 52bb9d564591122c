"""`openai-failure-test` and `wordpress-test`: whether the providers can be used.

By default nothing is paid for and nothing written; `{"write": true}` asks OpenAI for a few words, and
makes a draft at WordPress that goes to the trash at once.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from runbook_lib.changes import admin_action
from runbook_lib.deadlines import Deadline
from runbook_lib.functions.calling import Call
from runbook_lib.functions.requests import OpenAITest, WordPressTest
from runbook_lib.health.checks import Check, worst_verdict
from runbook_lib.health.provider_checks import OPENAI_ERRORS, WORDPRESS_ERRORS
from runbook_lib.health.survey import survey
from runbook_lib.pipeline.failures import FAILURE_CLASSES, Failure, JobFailed
from runbook_lib.pipeline.openai_answers import Completion, read_completion
from runbook_lib.pipeline.permits import add_usage
from runbook_lib.pipeline.prices import PriceList
from runbook_lib.pipeline.providers import OpenAIProvider, WordPressProvider, resolve_providers
from runbook_lib.pipeline.wordpress import WordPressClient

if TYPE_CHECKING:
    from runbook_lib.pipeline.openai_client import Reply

ANSWER_SECONDS = 60.0
MOST_TOKENS = 16


def openai_failure_test(call: Call) -> dict[str, Any]:
    """Name, connection, certificate, key, model; with `write` also a few words, which cost next to nothing."""
    request = call.request
    assert isinstance(request, OpenAITest)
    with resolve_providers(call.context.settings) as providers:
        checks = list(survey(call.context, only=["openai"]).checks)
        if request.write:
            checks.append(_ask_for_words(call, providers.openai))
        return _told(checks, providers.openai.sandboxed)


def wordpress_test(call: Call) -> dict[str, Any]:
    """Name, connection, certificate, REST API, login, rights, categories; with `write` also a draft."""
    request = call.request
    assert isinstance(request, WordPressTest)
    with resolve_providers(call.context.settings) as providers:
        checks = list(survey(call.context, only=["wordpress"]).checks)
        if request.write:
            checks.append(_make_a_draft(call, providers.wordpress))
        return _told(checks, providers.wordpress.sandboxed)


def _told(checks: list[Check], sandboxed: bool) -> dict[str, Any]:
    return {
        "verdict": worst_verdict(checks),
        "sandbox": sandboxed,
        "checks": [check.masked() for check in checks],
    }


def _ask_for_words(call: Call, provider: OpenAIProvider) -> Check:
    from runbook_lib.pipeline.openai_client import OpenAIClient

    name, source = "openai.completion", "POST chat/completions"
    bookkeeping = call.context.sources.bookkeeping
    client = OpenAIClient(provider.base_url, provider.api_key, connections=1)
    started = time.monotonic()
    try:
        with admin_action(bookkeeping, actor=call.actor, action="test.openai", target=provider.model) as action:  # fmt: skip
            asked = {
                "model": provider.model,
                "messages": [{"role": "user", "content": "Answer with the one word: ready"}],
                "max_completion_tokens": MOST_TOKENS,
            }
            reply = client.complete(asked, Deadline.after(ANSWER_SECONDS))
            found = _read(reply)
            if isinstance(found, Failure):
                action.after = {"failed": found.error_class}
                return _failed(name, source, found, OPENAI_ERRORS)
            prompt, said = found.prompt_tokens or 0, found.completion_tokens or 0
            cost = PriceList(call.context.settings.runbook_model_prices).cost_usd(
                provider.model, prompt_tokens=prompt, completion_tokens=said
            )
            with bookkeeping.transaction() as transaction:
                add_usage(
                    transaction, "openai", requests=1, prompt_tokens=prompt, completion_tokens=said, cost_usd=cost or 0
                )  # fmt: skip
                action.done(transaction, after={"tokens": prompt + said, "cost_usd": cost})
    finally:
        client.close()
    return Check(
        name,
        "ok",
        f"{provider.model} answered in {time.monotonic() - started:.1f} s with {prompt + said} tokens.",
        prompt + said,
        "tokens",
        source=source,
        does_not_prove="that articles are written well",
        details={"cost_usd": cost, "request_id": found.request_id},
    )


def _read(reply: Reply | Failure) -> Completion | Failure:
    if isinstance(reply, Failure):
        return reply
    return reply.refusal() if reply.status != 200 else read_completion(reply.headers, reply.body)


def _make_a_draft(call: Call, provider: WordPressProvider) -> Check:
    name, source = "wordpress.draft", "POST posts, DELETE posts/ID"
    client = WordPressClient(
        provider.url, provider.user, provider.app_password, deadline_seconds=ANSWER_SECONDS
    )
    deadline = Deadline.after(ANSWER_SECONDS)
    fields = {
        "title": "Test of the workbench, to be trashed",
        "content": "This draft was made by `runbook function wordpress-test` and may be deleted.",
        "slug": f"runbook-test-{uuid.uuid4().hex[:12]}",
        "status": "draft",
    }
    try:
        with admin_action(
            call.context.sources.bookkeeping, actor=call.actor, action="test.wordpress", target=provider.url
        ) as action:  # fmt: skip
            post = client.create_post(fields, deadline)
            action.after = {"post_id": post.post_id}
            client.trash_post(post.post_id, deadline)
    except JobFailed as error:
        return _failed(name, source, error.failure, WORDPRESS_ERRORS)
    finally:
        client.close()
    return Check(
        name,
        "ok",
        f"A draft was made (post {post.post_id}) and put into the trash.",
        post.post_id,
        source=source,
        does_not_prove="that it may be published: see wordpress.permission",
    )


def _failed(name: str, source: str, failure: Failure, procedure: str) -> Check:
    known = FAILURE_CLASSES[failure.error_class]
    return Check(
        name,
        "critical",
        f"{known.meaning} {failure.message}",
        failure.http_status,
        source=source,
        next=known.advice,
        procedure=procedure,
        details={"error_class": failure.error_class, "request_id": failure.request_id},
    )
