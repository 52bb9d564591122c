"""The stand-in OpenAI: chat completions, responses and models, with its headers, checks and refusals."""

from __future__ import annotations

import hmac
import json
import re
import secrets
import time
from dataclasses import dataclass
from typing import Any

from runbook_lib.sandbox import openai_errors, wire_faults
from runbook_lib.sandbox.articles import write_article
from runbook_lib.sandbox.briefs import Brief, read_brief
from runbook_lib.sandbox.faults import Struck
from runbook_lib.sandbox.journal import Entry
from runbook_lib.sandbox.messages import Request, Response
from runbook_lib.sandbox.openai_usage import ADMIN_KEY, Usage
from runbook_lib.sandbox.openai_usage import PATH as ORGANIZATION
from runbook_lib.sandbox.storage import Storage
from runbook_lib.sandbox.structured_output import SchemaRefused, check_schema, fill_schema

MODELS = ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-5", "gpt-5-mini", "gpt-5-nano", "o3", "o4-mini")  # fmt: skip
_MODEL_NAME = re.compile(r"(ft:)?(gpt-|chatgpt-|o\d)[\w.:-]*")
CHARACTERS_A_TOKEN = 4
TOKENS_A_MESSAGE = 4
REQUESTS_A_MINUTE, TOKENS_A_MINUTE = 10_000, 2_000_000


@dataclass(frozen=True)
class Completion:
    """What the model said, before it takes the form of one endpoint."""

    content: str | None
    refusal: str | None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class OpenAI:
    """Answers requests below /v1."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._window_started = 0.0
        self._used_requests = self._used_tokens = 0
        self._usage = Usage(storage)

    def answer(self, request: Request, struck: Struck, entry: Entry) -> Response:
        started = time.perf_counter()
        response = self._answer(request, struck, entry)
        if response.delivery.way in ("reset", "silence"):
            return response
        milliseconds = round((time.perf_counter() - started) * 1000) + 1
        headers = {**response.headers, **self._headers(milliseconds, request, response)}
        return wire_faults.on_its_way(
            struck.fault, Response(response.status, response.body, headers)
        )

    def _answer(self, request: Request, struck: Struck, entry: Entry) -> Response:
        body = _read_object(request)
        model = body.get("model") if body and isinstance(body.get("model"), str) else None
        entry.model = model
        key = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if fault := struck.fault:
            said = wire_faults.answer(fault) or openai_errors.answer(
                fault, key=key, model=model or "gpt-4o-mini"
            )
            if said is not None:
                entry.topic = read_brief(body).topic if body and "messages" in body else None
                return said
        if refused := self._refused_key(key):
            return refused
        entry.user = f"…{key[-4:]}"
        if request.path.startswith(ORGANIZATION):
            return self._usage.answer(request, key)
        if key.startswith(ADMIN_KEY):
            # As the real one: an admin key manages the organization and writes nothing.
            return openai_errors.wrong_key(key)
        return self._route(request, body, struck, entry)

    def _refused_key(self, key: str) -> Response | None:
        if not key:
            return openai_errors.no_key()
        known = (row["api_key"] for row in self._storage.rows("list_api_keys"))
        if any(hmac.compare_digest(key.encode(), each.encode()) for each in known):
            return None
        return openai_errors.wrong_key(key)

    def _route(
        self, request: Request, body: dict[str, Any] | None, struck: Struck, entry: Entry
    ) -> Response:
        path = request.path.rstrip("/")
        if path == "/v1/models" and request.method == "GET":
            return Response.of_json(
                200, {"object": "list", "data": [_model(each) for each in MODELS]}
            )
        if path.startswith("/v1/models/") and request.method == "GET":
            name = path.removeprefix("/v1/models/")
            return (
                Response.of_json(200, _model(name))
                if _MODEL_NAME.fullmatch(name)
                else openai_errors.unknown_model(name)
            )
        if path not in ("/v1/chat/completions", "/v1/responses"):
            return openai_errors.refusal(404, f"Invalid URL ({request.method} {request.path})")
        if request.method != "POST":
            message = f"Not allowed to {request.method} on {request.path}. (HINT: Perhaps you meant to use a different HTTP method?)"
            return openai_errors.refusal(405, message, code="method_not_supported")
        if body is None:
            message = "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
            return openai_errors.refusal(400, message)
        return self._complete(body, struck, entry, chat=path.endswith("completions"))

    def _complete(
        self, body: dict[str, Any], struck: Struck, entry: Entry, *, chat: bool
    ) -> Response:
        if refused := _refused_body(body, chat):
            return refused
        messages = body["messages"] if chat else _input_messages(body)
        prompt_tokens = count_tokens(
            json.dumps(messages, ensure_ascii=False)
        ) + TOKENS_A_MESSAGE * len(messages)
        if prompt_tokens > openai_errors.CONTEXT_TOKENS:
            return openai_errors.too_long(prompt_tokens)
        try:
            schema = _wanted_schema(body, chat)
        except SchemaRefused as error:
            return openai_errors.refusal(
                400, str(error), parameter="response_format" if chat else "text.format.schema"
            )
        brief = read_brief({"messages": messages})
        entry.topic = brief.topic
        completion = _say(body, brief, schema, prompt_tokens, struck)
        self._usage.add(body["model"], prompt_tokens, completion.completion_tokens)
        if chat and body.get("stream"):
            return _stream(body, completion)
        if chat:
            return Response.of_json(200, _chat(body, completion, struck))
        return Response.of_json(200, _response(body, completion, struck))

    def _headers(self, milliseconds: int, request: Request, response: Response) -> dict[str, str]:
        if time.monotonic() - self._window_started > 60:
            self._window_started, self._used_requests, self._used_tokens = time.monotonic(), 0, 0
        self._used_requests += 1
        self._used_tokens += (len(request.body) + len(response.body)) // CHARACTERS_A_TOKEN
        headers = {
            "x-request-id": f"req_{secrets.token_hex(16)}",
            "openai-processing-ms": str(milliseconds),
            "openai-version": "2020-10-01",
            "openai-organization": "org-sandbox",
        }
        if response.status in (200, 429):
            requests, tokens = (
                REQUESTS_A_MINUTE - self._used_requests,
                TOKENS_A_MINUTE - self._used_tokens,
            )
            headers |= {
                "x-ratelimit-limit-requests": str(REQUESTS_A_MINUTE),
                "x-ratelimit-limit-tokens": str(TOKENS_A_MINUTE),
                "x-ratelimit-remaining-requests": str(max(0, requests)),
                "x-ratelimit-remaining-tokens": str(max(0, tokens)),
                "x-ratelimit-reset-requests": _duration(
                    self._used_requests * 60 / REQUESTS_A_MINUTE
                ),
                "x-ratelimit-reset-tokens": _duration(self._used_tokens * 60 / TOKENS_A_MINUTE),
            }
        return headers


def count_tokens(text: str) -> int:
    """About as many tokens as a real model would count in English."""
    return max(1, -(-len(text) // CHARACTERS_A_TOKEN))


def _read_object(request: Request) -> dict[str, Any] | None:
    if not request.body:
        return None
    try:
        found = request.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _refused_body(body: dict[str, Any], chat: bool) -> Response | None:
    if not isinstance(body.get("model"), str) or not body["model"]:
        return openai_errors.refusal(400, "you must provide a model parameter")
    if not _MODEL_NAME.fullmatch(body["model"]):
        return openai_errors.unknown_model(body["model"])
    name = "messages" if chat else "input"
    if name not in body:
        message = f"Missing required parameter: '{name}'."
        return openai_errors.refusal(
            400, message, parameter=name, code="missing_required_parameter"
        )
    value = body[name]
    if not (isinstance(value, list) or (not chat and isinstance(value, str))):
        message = f"Invalid type for '{name}': expected an array of objects, but got {_type_name(value)} instead."
        return openai_errors.refusal(400, message, parameter=name, code="invalid_type")
    if not value:
        message = f"Invalid '{name}': empty array. Expected an array with minimum length 1, but got an empty array instead."
        return openai_errors.refusal(400, message, parameter=name, code="empty_array")
    for number, each in enumerate(value if isinstance(value, list) else ()):
        if not isinstance(each, dict) or "role" not in each:
            message = f"Missing required parameter: '{name}[{number}].role'."
            parameter = f"{name}[{number}].role"
            return openai_errors.refusal(
                400, message, parameter=parameter, code="missing_required_parameter"
            )
    return None


def _type_name(value: Any) -> str:
    names = {
        str: "a string",
        bool: "a boolean",
        int: "an integer",
        float: "a decimal number",
        dict: "an object",
    }
    return names.get(type(value), "null")


def _input_messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    found = body["input"]
    messages = [{"role": "user", "content": found}] if isinstance(found, str) else list(found)
    if body.get("instructions"):
        messages.insert(0, {"role": "system", "content": body["instructions"]})
    return messages


def _wanted_schema(body: dict[str, Any], chat: bool) -> dict[str, Any] | None:
    """The JSON schema that was asked for. Raises `SchemaRefused`."""
    if chat:
        wanted = body.get("response_format") or {}
        described = wanted.get("json_schema") or {}
    else:
        wanted = described = (body.get("text") or {}).get("format") or {}
    if wanted.get("type") == "json_object":
        if "json" not in json.dumps(body).lower():
            raise SchemaRefused("'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.")  # fmt: skip
        return {}
    if wanted.get("type") != "json_schema":
        return None
    return check_schema(described)


def _say(
    body: dict[str, Any],
    brief: Brief,
    schema: dict[str, Any] | None,
    prompt_tokens: int,
    struck: Struck,
) -> Completion:
    """The model's words, cut to the tokens that were allowed, with what the faults make of them."""
    seed = body.get("seed")
    article = write_article(brief, seed if isinstance(seed, int) else 0)
    if replaced := struck.condition("article"):
        article = article.with_fields(replaced.option("fields"))
    content: str | None = (
        article.markdown()
        if schema is None
        else json.dumps(fill_schema(schema, article), ensure_ascii=False)
    )
    refusal, reason = None, "stop"
    assert content is not None
    limit = (
        body.get("max_completion_tokens") or body.get("max_tokens") or body.get("max_output_tokens")
    )
    if isinstance(limit, int) and count_tokens(content) > limit:
        content, reason = content[: limit * CHARACTERS_A_TOKEN], "length"
    if (fault := struck.condition("content")) is not None:
        content = fault.option("content")
    if struck.condition("truncated"):
        content, reason = (content or "")[: len(content or "") * 6 // 10], "length"
    if struck.condition("filtered"):
        content, reason = "", "content_filter"
    if struck.condition("null_content"):
        content = None
    if struck.condition("refusal"):
        content, refusal = None, "I'm sorry, I can't assist with that request."
    said = count_tokens(content or refusal or "")
    return Completion(content, refusal, reason, prompt_tokens, said)


def _chat(body: dict[str, Any], completion: Completion, struck: Struck) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": completion.content,
        "refusal": completion.refusal,
        "annotations": [],
    }
    count = body["n"] if isinstance(body.get("n"), int) and 0 < body["n"] <= 8 else 1
    choices = [
        {
            "index": index,
            "message": message,
            "logprobs": None,
            "finish_reason": completion.finish_reason,
        }
        for index in range(0 if struck.condition("empty_choices") else count)
    ]
    return {
        "id": f"chatcmpl-{secrets.token_hex(14)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": choices,
        "usage": _chat_usage(completion, max(1, count)),
        "service_tier": "default",
        "system_fingerprint": "fp_sandbox",
    }


def _chat_usage(completion: Completion, count: int = 1) -> dict[str, Any]:
    said = completion.completion_tokens * count
    return {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": said,
        "total_tokens": completion.prompt_tokens + said,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    }  # fmt: skip


def _stream(body: dict[str, Any], completion: Completion) -> Response:
    chunk = {"id": f"chatcmpl-{secrets.token_hex(14)}", "object": "chat.completion.chunk", "created": int(time.time()), "model": body["model"]}  # fmt: skip
    pieces = re.findall(r"(?s).{1,40}", completion.content or "")
    deltas = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces)]
    events = [
        {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    events.append(
        {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": completion.finish_reason}]}
    )
    if (body.get("stream_options") or {}).get("include_usage"):
        events.append({**chunk, "choices": [], "usage": _chat_usage(completion)})
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    return Response(
        200, "".join([*lines, "data: [DONE]\n\n"]).encode(), {"Content-Type": "text/event-stream"}
    )


def _response(body: dict[str, Any], completion: Completion, struck: Struck) -> dict[str, Any]:
    whole = completion.finish_reason == "stop"
    reason = {"length": "max_output_tokens"}.get(completion.finish_reason, completion.finish_reason)
    if completion.refusal is not None:
        part: dict[str, Any] = {"type": "refusal", "refusal": completion.refusal}
    else:
        part = {
            "type": "output_text",
            "text": completion.content or "",
            "annotations": [],
            "logprobs": [],
        }
    state = "completed" if whole else "incomplete"
    message = {"id": f"msg_{secrets.token_hex(20)}", "type": "message", "status": state, "role": "assistant", "content": [part]}  # fmt: skip
    return {
        "id": f"resp_{secrets.token_hex(20)}",
        "object": "response",
        "created_at": int(time.time()),
        "status": state,
        "error": None,
        "incomplete_details": None if whole else {"reason": reason},
        "model": body["model"],
        "output": [] if struck.condition("empty_choices") else [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": completion.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": completion.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": completion.prompt_tokens + completion.completion_tokens,
        },
    }


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1_721_172_741, "owned_by": "system"}


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{max(1, round(seconds * 1000))}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:.0f}s" if minutes else f"{rest:.3f}s"
