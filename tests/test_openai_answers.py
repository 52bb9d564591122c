"""Each answer of OpenAI, and of servers that are nearly like it, is classed by what has to be done."""

from __future__ import annotations

import json
from typing import Any

import pytest
from requests.structures import CaseInsensitiveDict
from writing import completion

from runbook_lib.pipeline.failures import FAILURE_CLASSES, Failure
from runbook_lib.pipeline.openai_answers import (
    Completion,
    read_completion,
    refusal,
    refused_parameter,
)


def error(
    message: str = "Said.", type: str | None = None, code: Any = None, param: str | None = None
) -> bytes:
    return json.dumps(
        {"error": {"message": message, "type": type, "param": param, "code": code}}
    ).encode()


def classed(status: int, body: bytes, headers: dict[str, str] | None = None) -> Failure:
    failure = refusal(status, CaseInsensitiveDict(headers or {}), body)
    assert failure.error_class in FAILURE_CLASSES
    assert (failure.http_status, failure.provider, failure.stage) == (status, "openai", "write")
    return failure


PAGE = b"<!DOCTYPE html><html><body>Sign in to the network</body></html>"


@pytest.mark.parametrize(
    ("status", "body", "error_class", "provider_code"),
    [
        # OpenAI, as documented
        (401, error("Incorrect API key provided: sk-bad****.", "invalid_request_error", "invalid_api_key"), "openai_key_invalid", "invalid_api_key"),
        (403, error("Country, region, or territory not supported", "request_forbidden", "unsupported_country_region_territory"), "openai_permission_denied", "unsupported_country_region_territory"),
        (403, error("Project `x` does not have access to model `y`", "invalid_request_error", "model_not_found"), "openai_model_not_found", "model_not_found"),
        (404, error("The model `x` does not exist or you do not have access to it.", "invalid_request_error", "model_not_found"), "openai_model_not_found", "model_not_found"),
        (404, error("Invalid URL (POST /v9/chat/completions)", "invalid_request_error"), "openai_wrong_address", "invalid_request_error"),
        (400, error("This model's maximum context length is 128000 tokens.", "invalid_request_error", "context_length_exceeded", "messages"), "openai_context_too_long", "context_length_exceeded"),
        (400, error("Your request was rejected as a result of our safety system.", "invalid_request_error", "content_policy_violation"), "openai_content_filtered", "content_policy_violation"),
        (400, error("Invalid prompt: flagged.", "invalid_request_error", "invalid_prompt"), "openai_content_filtered", "invalid_prompt"),
        (400, error("Invalid type for 'messages'.", "invalid_request_error", "invalid_type", "messages"), "openai_request_refused", "invalid_type"),
        (400, error("max_tokens is too large: 8000.", "invalid_request_error", "invalid_value", "max_tokens"), "openai_settings_refused", "invalid_value"),
        (400, error("invalid model ID", "invalid_request_error", None, "model"), "openai_model_not_found", "invalid_request_error"),
        (400, error("Billing hard limit has been reached", "invalid_request_error", "billing_hard_limit_reached"), "openai_quota_exhausted", "billing_hard_limit_reached"),
        (409, error("Conflict"), "openai_overloaded", None),
        (422, error("Unprocessable", "invalid_request_error"), "openai_request_refused", "invalid_request_error"),
        (429, error("You exceeded your current quota", "insufficient_quota", "insufficient_quota"), "openai_quota_exhausted", "insufficient_quota"),
        (429, error("x", "insufficient_quota", "credit_balance_exhausted"), "openai_quota_exhausted", "credit_balance_exhausted"),
        (429, error("x", "insufficient_quota", "organization_spend_limit_exceeded"), "openai_quota_exhausted", "organization_spend_limit_exceeded"),
        (429, error("x", None, "project_spend_limit_exceeded"), "openai_quota_exhausted", "project_spend_limit_exceeded"),
        (429, error("x", None, "organization_usage_limit_exceeded"), "openai_quota_exhausted", "organization_usage_limit_exceeded"),
        (429, error("x", "insufficient_quota"), "openai_quota_exhausted", "insufficient_quota"),
        (429, error("x", "billing_not_active", "billing_not_active"), "openai_quota_exhausted", "billing_not_active"),
        (429, error("Rate limit reached", "requests", "rate_limit_exceeded"), "openai_rate_limited", "rate_limit_exceeded"),
        (429, error("Rate limit reached", "tokens", "rate_limit_exceeded"), "openai_rate_limited", "rate_limit_exceeded"),
        (429, error("Your request rate increased too quickly.", "rate_limit_error", "slow_down"), "openai_rate_limited", "slow_down"),
        (429, error("Request too large for gpt-4o on tokens per min (TPM): Limit 10000, Requested 12000.", "tokens", "rate_limit_exceeded"), "openai_settings_refused", "rate_limit_exceeded"),
        (500, error("The server had an error", "server_error"), "openai_overloaded", "server_error"),
        (503, error("Overloaded", "service_unavailable_error", "server_is_overloaded"), "openai_overloaded", "server_is_overloaded"),
        # gateways and other servers
        (402, error("Insufficient credits", None, 402), "openai_quota_exhausted", None),
        (404, b'{"object":"error","message":"The model `x` does not exist.","type":"NotFoundError","param":null,"code":404}', "openai_model_not_found", "NotFoundError"),
        (404, error('model "x" not found, try pulling it first', "api_error"), "openai_model_not_found", "api_error"),
        (404, error("The API deployment for this resource does not exist.", None, "DeploymentNotFound"), "openai_model_not_found", "DeploymentNotFound"),
        (429, error("litellm.RateLimitError: x", "throttling_error", "429"), "openai_rate_limited", "throttling_error"),
        (500, error("litellm.InternalServerError", "internal_server_error", "500"), "openai_overloaded", "internal_server_error"),
        (400, error("No connected db.", "no_db_connection", "400"), "openai_key_invalid", "no_db_connection"),
        (400, error("/chat/completions: Invalid model name passed in model=x", None, "400"), "openai_model_not_found", None),
        (400, error("Budget has been exceeded!", "budget_exceeded", "400"), "openai_quota_exhausted", "budget_exceeded"),
        (400, b'[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]', "openai_key_invalid", "INVALID_ARGUMENT"),
        (400, b'{"error":{"code":"content_filter","message":"The response was filtered","innererror":{"code":"ResponsibleAIPolicyViolation"}}}', "openai_content_filtered", "content_filter"),
        (400, b'{"error":"bad request","type":"odd"}', "openai_request_refused", "odd"),
        (422, b'{"detail":"unprocessable"}', "openai_request_refused", None),
        (413, PAGE, "openai_context_too_long", None),
        (408, b"", "openai_timeout", None),
        (499, b"", "openai_overloaded", None),
        (502, PAGE, "openai_overloaded", None),
        (504, b"", "openai_overloaded", None),
        # what is no such API
        (301, b"", "openai_wrong_address", None),
        (400, PAGE, "openai_wrong_address", None),
        (401, PAGE, "openai_key_invalid", None),
        (403, PAGE, "openai_wrong_address", None),
        (404, PAGE, "openai_wrong_address", None),
        (404, b'{"detail":"Not Found"}', "openai_wrong_address", None),
        (405, b'{"detail":"Method Not Allowed"}', "openai_wrong_address", None),
        (418, b"", "openai_wrong_address", None),
    ],
)  # fmt: skip
def test_each_refusal_has_its_class_and_code(
    status: int, body: bytes, error_class: str, provider_code: str | None
) -> None:
    failure = classed(status, body)
    assert (failure.error_class, failure.provider_code) == (error_class, provider_code)


@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"{}", b'{"error":{}}', b'{"error":[1]}', b'{"error":{"message":{"a":1},"code":[2],"type":{}}}', b"\xff\xfe", b"[" * 100_000])  # fmt: skip
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_a_body_of_any_shape_is_classed_by_its_status(status: int, body: bytes) -> None:
    assert classed(status, body).error_class.startswith("openai_")


def test_a_rate_limit_carries_the_wait_and_an_empty_account_does_not() -> None:
    headers = {"Retry-After": "7", "X-Request-Id": "req_1"}
    limited = classed(429, error("x", "requests", "rate_limit_exceeded"), headers)
    empty = classed(429, error("x", "insufficient_quota"), headers)
    assert (limited.retry_after_seconds, limited.request_id) == (7, "req_1")
    assert (empty.retry_after_seconds, empty.request_id) == (None, "req_1")


def test_a_message_is_one_short_masked_line_and_nothing_is_repeated_about_a_wrong_key() -> None:
    said = classed(400, error("No.\n\x1b[31m" + "sk-proj-abcdefgh12345678 " + "x" * 5_000)).message
    assert "\n" not in said
    assert "\x1b" not in said
    assert "abcdefgh" not in said
    assert len(said) <= 240
    assert "own-key" not in classed(401, error("Incorrect API key provided: own-key.")).message


# under a 200


def read(value: object, headers: dict[str, str] | None = None) -> Completion | Failure:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return read_completion(CaseInsensitiveDict(headers or {}), body)


def test_a_whole_answer_is_read() -> None:
    found = read(
        completion("Text", usage={"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3}}),
        {"X-Request-Id": "req_2"},
    )  # fmt: skip
    assert found == Completion("Text", None, "stop", "gpt-4o-mini-2024-07-18", 5, 3, 7, "req_2")


@pytest.mark.parametrize(
    ("body", "error_class"),
    [
        (PAGE, "openai_wrong_address"),
        (b"\n <html>", "openai_wrong_address"),
        (b"", "openai_answer_unreadable"),
        (b'{"choices": [', "openai_answer_unreadable"),
        (b"data: {}\n\n", "openai_answer_unreadable"),
        (b"[]", "openai_answer_unreadable"),
        (b"{}", "openai_answer_unreadable"),
        ({"choices": []}, "content_empty"),
        ({"choices": None}, "openai_answer_unreadable"),
        ({"choices": [{"text": "x"}]}, "openai_answer_unreadable"),
        ({"choices": ["x"]}, "openai_answer_unreadable"),
        ({"error": "boom"}, "openai_overloaded"),
        ({"error": {"odd": 1}}, "openai_answer_unreadable"),
        ({"error": {"message": "x", "type": "insufficient_quota"}}, "openai_quota_exhausted"),
        ({"error": {"message": "x", "code": "rate_limit_exceeded"}}, "openai_rate_limited"),
        ({"error": {"message": "Provider returned error", "code": 429}}, "openai_rate_limited"),
        ({"error": {"message": "x", "code": 502}}, "openai_overloaded"),
        ({"error": {"message": "x", "code": "401"}}, "openai_key_invalid"),
    ],
)
def test_a_200_without_an_answer_is_a_failure(body: object, error_class: str) -> None:
    failure = read(body)
    assert isinstance(failure, Failure)
    assert (failure.error_class, failure.http_status) == (error_class, 200)


def test_a_page_under_its_own_content_type_is_a_page_whatever_it_begins_with() -> None:
    failure = read(b"Please sign in", {"Content-Type": "text/html; charset=utf-8"})
    assert isinstance(failure, Failure)
    assert failure.error_class == "openai_wrong_address"


def test_a_rate_limit_under_a_200_carries_its_wait() -> None:
    failure = read({"error": {"message": "Try again in 30s.", "code": 429}})
    assert isinstance(failure, Failure)
    assert failure.retry_after_seconds == 30


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"usage": None}, "prompt_tokens", None),
        ({"usage": {"prompt_tokens": -1, "completion_tokens": "7"}}, "completion_tokens", None),
        ({"usage": {"prompt_tokens_details": 5}}, "cached_prompt_tokens", 0),
        ({"model": None}, "model", None),
        ({"finish_reason": None}, "finish_reason", None),
        ({"refusal": "No."}, "refusal", "No."),
    ],
)
def test_what_a_server_leaves_out_is_none(
    changes: dict[str, Any], field: str, value: object
) -> None:
    assert getattr(read(completion("Text", **changes)), field) == value


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, None),
        ("", ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, 3], "ab"),
        (7, None),
    ],
)
def test_content_may_come_in_parts_or_not_at_all(content: object, text: str | None) -> None:
    body = completion("x")
    body["choices"][0]["message"]["content"] = content
    assert getattr(read(body), "content", "missing") == text


@pytest.mark.parametrize(
    ("status", "body", "parameter"),
    [
        (400, error("Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.", "invalid_request_error", None, "response_format"), "response_format"),
        (422, b'{"detail":[{"loc":["body","response_format"],"msg":"extra fields not permitted"}]}', "response_format"),
        (400, error("json_schema is not supported"), "response_format"),
        (400, error("Unsupported parameter", None, "unsupported_parameter", "max_completion_tokens"), "max_completion_tokens"),
        (400, error("'max_tokens' or 'max_completion_tokens' is too large: 8000."), "max_tokens"),
        (400, error("Invalid type for 'messages'.", None, None, "messages"), None),
        (500, error("response_format", None, None, "response_format"), None),
    ],
)  # fmt: skip
def test_the_part_of_our_request_that_a_server_refuses_is_found(
    status: int, body: bytes, parameter: str | None
) -> None:
    assert refused_parameter(status, body) == parameter
