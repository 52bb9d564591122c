"""The stand-in OpenAI, asked by the real client: answers, refusals and faults."""

from __future__ import annotations

import json
from typing import Any

import openai
import pydantic
import pytest
import requests
from running_sandbox import RunningSandbox

from runbook_lib.errors import UsageError

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "excerpt": {"type": "string"},
        "body_markdown": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["title", "excerpt", "body_markdown", "tags"],
    "additionalProperties": False,
}


class Written(pydantic.BaseModel):
    title: str
    excerpt: str
    body_markdown: str
    tags: list[str]


def _client(sandbox: RunningSandbox, **options: Any) -> openai.OpenAI:
    options = {"api_key": sandbox.api_key, "max_retries": 0, "timeout": 10, **options}
    return openai.OpenAI(base_url=f"{sandbox.url}/v1", **options)


def _write(sandbox: RunningSandbox, topic: str = "Night trains", **options: Any) -> Any:
    messages: Any = [{"role": "user", "content": f"Topic: {topic}"}]
    return _client(sandbox).chat.completions.create(
        model="gpt-4o-mini", messages=messages, **options
    )


def test_structured_output_fills_the_schema_that_the_client_sends(
    running_sandbox: RunningSandbox,
) -> None:
    brief = json.dumps(
        {"topic": "Night trains", "keywords": ["sleeper cars", "timetables"], "tone": "friendly"}
    )
    answer = _client(running_sandbox).chat.completions.parse(
        model="gpt-4o-mini",
        messages=[{"role": "system", "content": "Write."}, {"role": "user", "content": brief}],
        response_format=Written,
    )
    written = answer.choices[0].message.parsed
    assert written is not None
    assert "night trains" in written.title.lower()
    assert written.tags == ["sleeper cars", "timetables", "sandbox"]
    assert "sleeper cars" in written.body_markdown


def test_usage_is_about_four_characters_a_token_and_adds_up(
    running_sandbox: RunningSandbox,
) -> None:
    answer = _write(running_sandbox)
    usage, content = answer.usage, answer.choices[0].message.content
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens == pytest.approx(len(content) / 4, abs=1)


def test_headers_are_those_of_openai(running_sandbox: RunningSandbox) -> None:
    answer = running_sandbox.ask("Night trains")
    assert answer.headers["x-request-id"].startswith("req_")
    assert int(answer.headers["openai-processing-ms"]) > 0
    for what in ("requests", "tokens"):
        assert int(answer.headers[f"x-ratelimit-remaining-{what}"]) < int(
            answer.headers[f"x-ratelimit-limit-{what}"]
        )
        assert answer.headers[f"x-ratelimit-reset-{what}"].endswith("s")


def test_the_same_request_gets_the_same_article_and_another_seed_another(
    running_sandbox: RunningSandbox,
) -> None:
    first, again, other = (
        running_sandbox.ask("Night trains", seed=seed).json()["choices"][0]["message"]["content"]
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_fewer_tokens_than_the_article_needs_cut_it(running_sandbox: RunningSandbox) -> None:
    answer = _write(running_sandbox, max_tokens=50)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 50)


def test_the_responses_endpoint_says_the_same(running_sandbox: RunningSandbox) -> None:
    answer = _client(running_sandbox).responses.create(
        model="gpt-4o-mini",
        input="Topic: Night trains",
        text={
            "format": {"type": "json_schema", "name": "article", "schema": SCHEMA, "strict": True}
        },
    )
    assert answer.status == "completed"
    assert "night trains" in json.loads(answer.output_text)["title"].lower()


def test_a_stream_brings_the_whole_text(running_sandbox: RunningSandbox) -> None:
    chunks = list(_write(running_sandbox, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == _write(running_sandbox).choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_models_are_listed(running_sandbox: RunningSandbox) -> None:
    assert "gpt-4o-mini" in {model.id for model in _client(running_sandbox).models.list()}


# what a request may get wrong


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "parameter"),
    [
        ("/chat/completions", {"messages": []}, 400, None, None),
        ("/chat/completions", {"model": "gpt-4o"}, 400, "missing_required_parameter", "messages"),
        ("/chat/completions", {"model": "gpt-4o", "messages": "x"}, 400, "invalid_type", "messages"),
        ("/chat/completions", {"model": "gpt-4o", "messages": []}, 400, "empty_array", "messages"),
        ("/chat/completions", {"model": "llama", "messages": [{"role": "user"}]}, 404, "model_not_found", None),
        ("/chat/completions", {"model": "gpt-4o", "messages": [{"role": "user", "content": "x" * 600_000}]}, 400, "context_length_exceeded", "messages"),
        ("/chat/completions", {"model": "gpt-4o", "messages": [{"role": "user"}], "response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": {"type": "object", "properties": {}}}}}, 400, None, "response_format"),
        ("/responses", {"model": "gpt-4o"}, 400, "missing_required_parameter", "input"),
        ("/nothing", {}, 404, None, None),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_as_openai_refuses_it(
    running_sandbox: RunningSandbox,
    path: str,
    body: Any,
    status: int,
    code: str | None,
    parameter: str | None,
) -> None:
    answer = running_sandbox.openai(path, body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"], error["param"]) == (status, "invalid_request_error", code, parameter)  # fmt: skip


def test_a_body_that_is_no_json_is_refused(running_sandbox: RunningSandbox) -> None:
    headers = {"Authorization": f"Bearer {running_sandbox.api_key}"}
    answer = requests.post(
        f"{running_sandbox.url}/v1/chat/completions", b"{bad", headers=headers, timeout=10
    )
    assert (answer.status_code, answer.json()["error"]["message"][:24]) == (
        400,
        "We could not parse the J",
    )


def test_a_wrong_key_and_a_removed_one_are_refused(running_sandbox: RunningSandbox) -> None:
    key = running_sandbox.control.make_api_key()
    assert _client(running_sandbox, api_key=key).models.retrieve("gpt-4o").id == "gpt-4o"
    running_sandbox.control.remove_api_key(key)
    with pytest.raises(openai.AuthenticationError) as caught:
        _client(running_sandbox, api_key=key).models.retrieve("gpt-4o")
    assert caught.value.code == "invalid_api_key"
    assert key not in str(caught.value)
    nobody = requests.post(f"{running_sandbox.url}/v1/chat/completions", json={}, timeout=10)
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (401, None)


# faults


@pytest.mark.parametrize(
    ("kind", "options", "error", "code"),
    [
        ("quota", {}, openai.RateLimitError, "insufficient_quota"),
        (
            "quota",
            {"code": "credit_balance_exhausted"},
            openai.RateLimitError,
            "credit_balance_exhausted",
        ),
        ("rate_limit", {}, openai.RateLimitError, "rate_limit_exceeded"),
        ("rate_limit", {"code": "slow_down"}, openai.RateLimitError, "slow_down"),
        ("invalid_key", {}, openai.AuthenticationError, "invalid_api_key"),
        (
            "permission_denied",
            {},
            openai.PermissionDeniedError,
            "unsupported_country_region_territory",
        ),
        ("model_not_found", {}, openai.NotFoundError, "model_not_found"),
        ("context_length", {}, openai.BadRequestError, "context_length_exceeded"),
        ("content_filter", {}, openai.BadRequestError, "content_filter"),
        ("server_error", {}, openai.InternalServerError, None),
        ("service_unavailable", {}, openai.InternalServerError, None),
        ("overloaded", {}, openai.InternalServerError, "server_is_overloaded"),
        ("status", {"status": 502}, openai.InternalServerError, None),
        ("reset", {}, openai.APIConnectionError, None),
        ("garbled_json", {}, json.JSONDecodeError, None),
    ],
)
def test_a_fault_reaches_the_client_as_the_real_one_would(
    running_sandbox: RunningSandbox,
    kind: str,
    options: dict[str, Any],
    error: type[Exception],
    code: str | None,
) -> None:
    running_sandbox.control.set_fault("openai", kind, **options)
    with pytest.raises(error) as caught:
        _write(running_sandbox)
    assert getattr(caught.value, "code", None) == code
    assert running_sandbox.control.journal()[-1]["fault"] == kind


def test_a_rate_limit_says_how_long_and_a_quota_what_type(running_sandbox: RunningSandbox) -> None:
    running_sandbox.control.set_fault("openai", "rate_limit", retry_after=7, count=1)
    running_sandbox.control.set_fault("openai", "quota")
    limited, quota = running_sandbox.ask("x"), running_sandbox.ask("x")
    assert (limited.headers["Retry-After"], limited.json()["error"]["type"]) == ("7", "requests")
    assert (quota.headers.get("Retry-After"), quota.json()["error"]["type"]) == (
        None,
        "insufficient_quota",
    )


def test_faults_that_are_successes_by_their_status(running_sandbox: RunningSandbox) -> None:
    """Truncated, filtered, empty, null and refused answers come with status 200."""

    def choice(kind: str, **options: Any) -> Any:
        running_sandbox.control.clear_faults()
        running_sandbox.control.set_fault("openai", kind, **options)
        answer = running_sandbox.ask("Night trains")
        assert answer.status_code == 200
        return answer.json()["choices"][0] if answer.json()["choices"] else None

    assert choice("truncated")["finish_reason"] == "length"
    assert choice("filtered")["finish_reason"] == "content_filter"
    assert choice("empty_choices") is None
    assert choice("null_content")["message"]["content"] is None
    assert choice("refusal")["message"]["refusal"].startswith("I'm sorry")
    assert choice("content", content="As an AI …")["message"]["content"] == "As an AI …"
    assert choice("article", fields={"title": "Mine"})["message"]["content"].startswith("# Mine\n")


def test_a_page_or_an_error_under_200(running_sandbox: RunningSandbox) -> None:
    running_sandbox.control.set_fault("openai", "html", count=1)
    running_sandbox.control.set_fault("openai", "error_in_200", count=1)
    page, error = running_sandbox.ask("x"), running_sandbox.ask("x")
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=UTF-8")
    assert (error.status_code, list(error.json())) == (200, ["error"])


@pytest.mark.parametrize("kind", ["black_hole", "latency", "drip"])
def test_an_answer_that_does_not_come_in_time(running_sandbox: RunningSandbox, kind: str) -> None:
    running_sandbox.control.set_fault("openai", kind)
    with pytest.raises(openai.APITimeoutError if kind != "drip" else openai.APIError):
        _client(running_sandbox, timeout=0.15).chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "x"}]
        )


def test_a_dripped_body_comes_byte_by_byte(running_sandbox: RunningSandbox) -> None:
    running_sandbox.control.set_fault("openai", "drip", interval_seconds=0.001)
    with requests.get(f"{running_sandbox.url}/v1/nothing", stream=True, timeout=10) as answer:
        assert len(answer.raw.read1(65_536)) < int(answer.headers["Content-Length"])


# which requests a fault strikes


def test_a_fault_strikes_as_often_as_it_was_told(running_sandbox: RunningSandbox) -> None:
    running_sandbox.control.set_fault("openai", "server_error", count=2)
    assert [running_sandbox.ask("x").status_code for _ in range(3)] == [500, 500, 200]


def test_a_fault_strikes_what_matches(running_sandbox: RunningSandbox) -> None:
    running_sandbox.control.set_fault("openai", "server_error", topic="ÉCLAIR")
    running_sandbox.control.set_fault("openai", "quota", model="gpt-4o")
    assert running_sandbox.ask("How to bake an éclair").status_code == 500
    assert running_sandbox.ask("How to bake bread").status_code == 200
    assert running_sandbox.ask("How to bake bread", model="gpt-4o").status_code == 429
    assert running_sandbox.wordpress("GET", "/wp/v2/posts").status_code == 200


def test_a_fault_ends_by_itself_and_a_chance_of_nothing_never_strikes(
    running_sandbox: RunningSandbox,
) -> None:
    running_sandbox.control.set_fault("openai", "server_error", probability=0)
    running_sandbox.control.set_fault("openai", "server_error", duration_seconds=0.0001)
    assert running_sandbox.ask("x").status_code == 200


def test_one_fault_is_cleared_and_the_others_stay(running_sandbox: RunningSandbox) -> None:
    first = running_sandbox.control.set_fault("openai", "server_error")
    running_sandbox.control.set_fault("openai", "quota")
    running_sandbox.control.clear_faults(first)
    assert running_sandbox.ask("x").status_code == 429
    assert [fault["kind"] for fault in running_sandbox.control.faults()] == ["quota"]


@pytest.mark.parametrize(
    ("provider", "kind", "options", "words"),
    [
        ("openai", "explosion", {}, "There is no fault 'explosion'"),
        ("openai", "maintenance", {}, "There is no fault 'maintenance' of 'openai'"),
        ("openai", "quota", {"colour": "red"}, "quota does not take colour"),
        ("openai", "quota", {"count": 0}, "count is a whole number"),
        ("openai", "quota", {"probability": 2}, "probability is between 0 and 1"),
        ("wordpress", "answer_lost", {"how": "politely"}, "how is one of status, cut"),
        ("wordpress", "status", {"status": 999}, "status is between 200 and 599"),
        ("wordpress", "redirect", {"location": "x\r\nSet-Cookie: a"}, "cannot be printed"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_in_words(
    running_sandbox: RunningSandbox, provider: str, kind: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        running_sandbox.control.set_fault(provider, kind, **options)


# the switchboard and the journal


def test_the_journal_tells_what_a_request_was_about(running_sandbox: RunningSandbox) -> None:
    running_sandbox.openai("/chat/completions", {"model": "gpt-4o", "messages": [{"role": "user", "content": '{"topic": "Bees"}'}]}, **{"Idempotency-Key": "k1"})  # fmt: skip
    made = running_sandbox.wordpress(
        "POST", "/wp/v2/posts", json={"title": "Bees", "slug": "bees-1"}
    ).json()
    asked, posted = running_sandbox.control.journal()
    assert (asked["provider"], asked["model"], asked["topic"], asked["idempotency_key"]) == ("openai", "gpt-4o", "Bees", "k1")  # fmt: skip
    assert (posted["user"], posted["slug"], posted["post_id"], posted["status"]) == (running_sandbox.user, "bees-1", made["id"], 201)  # fmt: skip
    assert asked["started_at"] <= asked["ended_at"] <= posted["started_at"]


def test_a_browser_cannot_reach_the_switchboard(running_sandbox: RunningSandbox) -> None:
    """Neither under another host name, nor with a form, which needs no permission across origins."""
    address = f"{running_sandbox.url}/_sandbox/faults"
    rebound = requests.get(address, headers={"Host": "evil.test"}, timeout=10)
    form = requests.post(address, data={"provider": "openai", "kind": "quota"}, timeout=10)
    assert (rebound.status_code, form.status_code) == (403, 415)
    assert running_sandbox.control.faults() == []


def test_every_kind_of_fault_is_listed_with_its_meaning(running_sandbox: RunningSandbox) -> None:
    kinds = running_sandbox.control.kinds()
    assert {"openai", "wordpress"} == {kind["provider"] for kind in kinds}
    assert all(kind["meaning"].endswith(".") for kind in kinds)
