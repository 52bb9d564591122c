"""What answers of OpenAI, and of servers that are like it, mean.

The status decides first, then the type and code of the error, and only where a server has nothing better
its words. A 200 proves nothing: it may be a page of a proxy, an error in disguise, an answer without a
choice, a refusal, or half an article.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runbook_lib.credentials.masking import one_line
from runbook_lib.pipeline.failures import Failure
from runbook_lib.pipeline.retry_after import openai_wait_seconds

if TYPE_CHECKING:
    from runbook_lib.pipeline.transport import ExchangeFailed

LONGEST_MESSAGE_CHARACTERS = 240

QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "budget_exceeded",  # LiteLLM
    }
)
_FILTER_CODES = frozenset(
    {"content_filter", "content_policy_violation", "moderation_blocked", "invalid_prompt"}
)
_KEY_CODES = frozenset({"invalid_api_key", "no_db_connection", "account_deactivated"})
_MODEL_CODES = frozenset({"model_not_found", "invalid_model", "deploymentnotfound"})
_LENGTH_CODES = frozenset({"context_length_exceeded", "string_above_max_length"})
# What every request carries, whatever its job: refused once, it is refused for every job.
_OWN_PARAMETERS = re.compile(
    r"\b(response_format|json_schema|max_completion_tokens|max_tokens|messages\[0\]\.role)\b"
)
_CONTEXT_LENGTH = re.compile(
    r"maximum context length|context[ _](?:length|window)|too many tokens", re.I
)
_NO_SUCH_MODEL = re.compile(r"\bmodel\b.{0,200}?\b(not found|does not exist|no access)|invalid model name", re.I | re.S)  # fmt: skip
_BAD_KEY = re.compile(
    r"api key (?:not valid|is invalid|expired)|(?:invalid|incorrect) api key", re.I
)
_REQUEST_TOO_LARGE = re.compile(r"\brequest too large\b", re.I)
_REASON_CLASSES = {
    "timeout": "openai_timeout",
    "unreachable": "openai_unreachable",
    "broken": "openai_unreachable",
    "certificate": "openai_wrong_address",
    "address": "openai_wrong_address",
    "too_large": "openai_answer_unreadable",
}


@dataclass(frozen=True)
class ErrorBody:
    """The error that an answer holds. `known` is False where the body is no error of such an API."""

    known: bool
    type: str = ""
    code: str = ""
    parameter: str = ""
    message: str = ""

    @property
    def names(self) -> set[str]:
        return {self.type.lower(), self.code.lower()}

    @property
    def provider_code(self) -> str | None:
        """The code, or the type where the code says nothing: LiteLLM's is the status once more."""
        code = self.code if self.code and not self.code.isdigit() else self.type
        return one_line(code, 80) or None


@dataclass(frozen=True)
class Completion:
    """What a model said, and what it took; `prompt_tokens` None: the server does not say."""

    content: str | None
    refusal: str | None
    finish_reason: str | None
    model: str | None
    prompt_tokens: int | None
    cached_prompt_tokens: int
    completion_tokens: int | None
    request_id: str | None


def read_error(body: bytes) -> ErrorBody:
    """Finds the error in `{"error": {…}}`, `{"error": "…"}`, a list of one, or a flat object."""
    found = _read_json(body)
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, dict):
        return ErrorBody(known=False)
    error = found.get("error", found)
    if isinstance(error, str):
        return ErrorBody(known=True, type=_word(found.get("type")), message=error)
    if not isinstance(error, dict) or "message" not in error:
        return ErrorBody(known=False, message=_word(found.get("detail") or found.get("message")))
    return ErrorBody(
        known=True,
        type=_word(error.get("type") or error.get("status")),
        code=_word(error.get("code")),
        parameter=_word(error.get("param")),
        message=_word(error["message"]),
    )


def refusal(
    status: int, headers: Mapping[str, str], body: bytes, exception_class: str | None = None
) -> Failure:
    """Classes an answer whose status is not 200."""
    error = read_error(body)
    error_class = _class_of(status, error)
    return Failure(
        error_class,
        _sentence(status, error, error_class),
        stage="write",
        provider="openai",
        exception_class=exception_class,
        http_status=status,
        provider_code=error.provider_code,
        request_id=request_id_of(headers),
        retry_after_seconds=_wait_seconds(error_class, headers, error),
    )


def no_answer(error: ExchangeFailed) -> Failure:
    """Classes an exchange that brought no whole answer."""
    return Failure(
        _REASON_CLASSES[error.reason],
        one_line(f"OpenAI: {error}.", LONGEST_MESSAGE_CHARACTERS),
        stage="write",
        provider="openai",
        exception_class=error.exception_class,
    )


def read_completion(headers: Mapping[str, str], body: bytes) -> Completion | Failure:
    """Reads an answer with status 200; a `Failure` when it holds no choice of a model."""
    found = _read_json(body)
    if not isinstance(found, dict):
        return _unreadable(headers, body)
    if found.get("error"):
        return _error_under_200(headers, body)
    choices = found.get("choices")
    if choices == []:
        return _failure(headers, "content_empty", "The answer holds no choice.")
    if not isinstance(choices, list) or not isinstance(choices[0], dict):
        return _failure(headers, "openai_answer_unreadable", "The answer holds no choice.")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        return _failure(headers, "openai_answer_unreadable", "The answer holds no message.")
    usage = _object(found.get("usage"))
    details = _object(usage.get("prompt_tokens_details"))
    return Completion(
        content=_content(message.get("content")),
        refusal=_word(message.get("refusal")) or None,
        finish_reason=_word(choices[0].get("finish_reason")) or None,
        model=_word(found.get("model")) or None,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        cached_prompt_tokens=_count(details.get("cached_tokens")) or 0,
        completion_tokens=_count(usage.get("completion_tokens")),
        request_id=request_id_of(headers),
    )


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """The provider's id of a request, by which its support finds it."""
    for name in ("x-request-id", "apim-request-id", "cf-ray"):
        if headers.get(name):
            return one_line(headers[name], 100)
    return None


def refused_parameter(status: int, body: bytes) -> str | None:
    """The part of our own request that a server does not take, e.g. `response_format`."""
    if status not in (400, 422):
        return None
    error = read_error(body)
    text = (
        f"{error.parameter} {error.message}"
        if error.known
        else body[:4_000].decode("utf-8", "replace")
    )
    named = _OWN_PARAMETERS.search(text)
    if named is None:
        return None
    return "response_format" if named[1] == "json_schema" else named[1]


def _class_of(status: int, error: ErrorBody) -> str:
    if status == 401:
        return "openai_key_invalid"
    if status == 402 or error.names & QUOTA_CODES:
        return "openai_quota_exhausted"
    if error.names & _MODEL_CODES:
        return "openai_model_not_found"
    if status == 403:
        return "openai_permission_denied" if error.known else "openai_wrong_address"
    if status == 404:
        known = error.known and _NO_SUCH_MODEL.search(error.message)
        return "openai_model_not_found" if known else "openai_wrong_address"
    if status == 429:
        # It counts what may be written as well; waiting does not make the request smaller.
        too_large = _REQUEST_TOO_LARGE.search(error.message)
        return "openai_settings_refused" if too_large else "openai_rate_limited"
    if status == 408:
        return "openai_timeout"
    if status >= 500 or status in (409, 425, 499):
        return "openai_overloaded"
    if status in (400, 413, 422):
        return _class_of_bad_request(status, error)
    return "openai_wrong_address"


def _class_of_bad_request(status: int, error: ErrorBody) -> str:
    if error.names & _FILTER_CODES:
        return "openai_content_filtered"
    if error.names & _KEY_CODES or _BAD_KEY.search(error.message):
        return "openai_key_invalid"
    if error.parameter == "model" or _NO_SUCH_MODEL.search(error.message):
        return "openai_model_not_found"
    if status == 413 or error.names & _LENGTH_CODES or _CONTEXT_LENGTH.search(error.message):
        return "openai_context_too_long"
    if _OWN_PARAMETERS.search(f"{error.parameter} {error.message}"):
        return "openai_settings_refused"
    return "openai_request_refused" if error.known or error.message else "openai_wrong_address"


def _wait_seconds(error_class: str, headers: Mapping[str, str], error: ErrorBody) -> float | None:
    # Servers send Retry-After with an empty account as well, where it means nothing.
    if error_class not in ("openai_rate_limited", "openai_overloaded"):
        return None
    return openai_wait_seconds(headers, error.message)


def _sentence(status: int, error: ErrorBody, error_class: str) -> str:
    named = f" ({error.provider_code})" if error.provider_code else ""
    # What is said about a wrong key shows a part of it.
    said = "" if error_class == "openai_key_invalid" else error.message
    if not error.known and not said:
        named = " with something that is no error of such an API"
    text = f"OpenAI answered {status}{named}{': ' if said else '.'}{said}"
    return one_line(text, LONGEST_MESSAGE_CHARACTERS)


def _error_under_200(headers: Mapping[str, str], body: bytes) -> Failure:
    """Gateways that have begun to answer put the error of the server behind them under their own 200."""
    error = read_error(body)
    status = int(error.code) if error.code.isdigit() and 400 <= int(error.code) < 600 else None
    if status is None:
        status = 429 if error.names & QUOTA_CODES or "rate_limit_exceeded" in error.names else 500
    error_class = _class_of(status, error) if error.known else "openai_answer_unreadable"
    failure = _failure(
        headers, error_class, f"Under a 200: {_sentence(status, error, error_class)}"
    )
    wait = _wait_seconds(error_class, headers, error)
    return Failure(
        **{**vars(failure), "provider_code": error.provider_code, "retry_after_seconds": wait}
    )


def _unreadable(headers: Mapping[str, str], body: bytes) -> Failure:
    text = body[:1_000].decode("utf-8", "replace").lstrip("\ufeff \r\n\t")
    if text.startswith("<") or "text/html" in headers.get("content-type", "").lower():
        return _failure(
            headers, "openai_wrong_address", "A page of HTML came instead of an answer of the API."
        )
    return _failure(headers, "openai_answer_unreadable", "The answer is not a JSON object.")


def _failure(headers: Mapping[str, str], error_class: str, message: str) -> Failure:
    return Failure(
        error_class,
        one_line(message, LONGEST_MESSAGE_CHARACTERS),
        stage="write",
        provider="openai",
        http_status=200,
        request_id=request_id_of(headers),
    )


def _read_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _content(value: object) -> str | None:
    if isinstance(value, list):
        parts = [each.get("text") for each in value if isinstance(each, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return value if isinstance(value, str) else None


def _word(value: object) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _count(value: object) -> int | None:
    usable = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    return value if usable else None  # type: ignore[return-value]
