"""OpenAI's refusals, word for word where they are known; statuses, types and codes as documented."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runbook_lib.sandbox.faults import Fault
from runbook_lib.sandbox.messages import Response

_QUOTA = "You exceeded your current quota, please check your plan and billing details. For more information on this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
_QUOTA_MESSAGES = {
    "insufficient_quota": _QUOTA,
    "credit_balance_exhausted": "You have no prepaid credits remaining.",
    "organization_spend_limit_exceeded": "Organization spend limit reached.",
    "project_spend_limit_exceeded": "Project spend limit reached.",
    "organization_usage_limit_exceeded": "Organization usage limit reached.",
}
CONTEXT_TOKENS = 128_000


def refusal(
    status: int,
    message: str,
    *,
    type: str = "invalid_request_error",
    parameter: str | None = None,
    code: str | None = None,
    retry_after: Any = None,
) -> Response:
    """An error as OpenAI gives it."""
    error = {"message": message, "type": type, "param": parameter, "code": code}
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Response.of_json(status, {"error": error}, headers)


def no_key() -> Response:
    return refusal(
        401,
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer "
        "auth (i.e. Authorization: Bearer YOUR_KEY). You can obtain an API key from "
        "https://platform.openai.com/account/api-keys.",
    )


def wrong_key(key: str) -> Response:
    shown = (
        f"{key[:8]}{'*' * max(0, len(key) - 12)}{key[-4:]}" if len(key) > 12 else f"{key[:2]}****"
    )
    return refusal(
        401,
        f"Incorrect API key provided: {shown}. You can find your API key at "
        "https://platform.openai.com/account/api-keys.",
        code="invalid_api_key",
    )


def unknown_model(model: str) -> Response:
    return refusal(
        404,
        f"The model `{model}` does not exist or you do not have access to it.",
        code="model_not_found",
    )


def too_long(tokens: int) -> Response:
    return refusal(
        400,
        f"This model's maximum context length is {CONTEXT_TOKENS} tokens. However, your messages resulted in "
        f"{tokens} tokens. Please reduce the length of the messages.",
        parameter="messages",
        code="context_length_exceeded",
    )


def answer(fault: Fault, *, key: str, model: str) -> Response | None:
    """The answer that a fault of the group `answer` puts in the place of the work's; None for another."""
    found = _ANSWERS.get(fault.kind)
    return found(fault, key, model) if found else None


def _quota(fault: Fault, key: str, model: str) -> Response:
    code = str(fault.option("code"))
    return refusal(429, _QUOTA_MESSAGES.get(code, _QUOTA), type="insufficient_quota", code=code)


def _rate_limit(fault: Fault, key: str, model: str) -> Response:
    code, kind, wait = fault.option("code"), fault.option("type"), fault.option("retry_after")
    if code == "slow_down":
        return refusal(
            429,
            "Your request rate increased too quickly.",
            type="rate_limit_error",
            code=code,
            retry_after=wait,
        )
    unit = "tokens per min (TPM): Limit 200000, Used 199900" if kind == "tokens" else "requests per min (RPM): Limit 500, Used 500"  # fmt: skip
    message = f"Rate limit reached for {model} in organization org-sandbox on {unit}, Requested 1. Please try again in {wait or 1}s. Visit https://platform.openai.com/account/rate-limits to learn more."
    return refusal(429, message, type=kind, code=code, retry_after=wait)


def _permission_denied(fault: Fault, key: str, model: str) -> Response:
    message = "Country, region, or territory not supported"
    return refusal(403, message, type="request_forbidden", code=fault.option("code"))


def _content_filter(fault: Fault, key: str, model: str) -> Response:
    message = "Your request was rejected as a result of our safety system. Your prompt may contain text that is not allowed by our safety system."
    return refusal(400, message, parameter="prompt", code="content_filter")


def _server_error(fault: Fault, key: str, model: str) -> Response:
    message = "The server had an error while processing your request. Sorry about that!"
    return refusal(500, message, type="server_error")


def _service_unavailable(fault: Fault, key: str, model: str) -> Response:
    message = "The engine is currently overloaded, please try again later."
    return refusal(503, message, type="server_error", retry_after=fault.option("retry_after"))


def _overloaded(fault: Fault, key: str, model: str) -> Response:
    return refusal(
        503,
        "The server is overloaded or not ready yet.",
        type="service_unavailable_error",
        code="server_is_overloaded",
        retry_after=fault.option("retry_after"),
    )


def _error_in_200(fault: Fault, key: str, model: str) -> Response:
    error = {
        "message": "Upstream request failed.",
        "type": "server_error",
        "param": None,
        "code": None,
    }
    return Response.of_json(200, {"error": error})


_ANSWERS: dict[str, Callable[[Fault, str, str], Response]] = {
    "quota": _quota,
    "rate_limit": _rate_limit,
    "invalid_key": lambda fault, key, model: wrong_key(key),
    "permission_denied": _permission_denied,
    "model_not_found": lambda fault, key, model: unknown_model(model),
    "context_length": lambda fault, key, model: too_long(CONTEXT_TOKENS + 2011),
    "content_filter": _content_filter,
    "server_error": _server_error,
    "service_unavailable": _service_unavailable,
    "overloaded": _overloaded,
    "error_in_200": _error_in_200,
}
