"""OpenAI, or what speaks its language: reached, logged in, the model there. Asks for the list of models
only, which uses no tokens."""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from runbook_lib.deadlines import Deadline
from runbook_lib.health.checks import Check
from runbook_lib.health.probes import Probe
from runbook_lib.health.probes.network import reach_web, response_time
from runbook_lib.pipeline.transport import Answer, ExchangeFailed, Transport
from runbook_lib.pipeline.wordpress_answers import plain, short

ANSWER_SECONDS = 10.0
OPENAI_HOST = "api.openai.com"
_SOURCE = "GET models"

# The five codes that mean money, and the older type for the same (error-codes guide).
_QUOTA_CODES = (
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
)


def probe_openai(
    base_url: str,
    api_key: Callable[[], str],
    model: str,
    *,
    patience_seconds: float = ANSWER_SECONDS,
    slow_seconds: float | None = None,
) -> Probe:
    """Name, connection, certificate, key and model of an OpenAI-compatible address."""
    if not (
        yield from reach_web("openai", base_url, "OPENAI_BASE_URL", min(5.0, patience_seconds))
    ):
        return
    transport = Transport(connections=1)
    started = time.monotonic()
    headers = {
        "Authorization": f"Bearer {api_key()}",
        "Accept": "application/json",
        "User-Agent": "runbook-workbench",
    }
    try:
        answer = transport.exchange(
            "GET",
            f"{base_url.rstrip('/')}/models",
            deadline=Deadline.after(patience_seconds),
            headers=headers,
        )
    except ExchangeFailed as error:
        yield Check(
            "openai.api",
            "critical",
            f"{base_url} was reached, but {error}.",
            source=_SOURCE,
            next="If it stays, look at the provider's status page, or at the proxy in between.",
            details={"reason": "no_answer"},
        )
        return
    finally:
        transport.close()
    yield response_time("openai", time.monotonic() - started, slow_seconds, _SOURCE)
    yield from _judge(answer, base_url, model)


def _judge(answer: Answer, base_url: str, model: str) -> Probe:
    found = _json(answer)
    listed = found.get("data") if isinstance(found, dict) else None
    if answer.status == 200 and isinstance(listed, list):
        yield Check(
            "openai.key",
            "ok",
            "The key is accepted.",
            source=_SOURCE,
            does_not_prove="that the account has credit: only a paid request shows that",
        )
        yield _model(
            [str(each.get("id")) for each in listed if isinstance(each, dict)], base_url, model
        )
        return
    error = found.get("error") if isinstance(found, dict) else None
    if isinstance(error, dict):
        told = {
            "http_status": answer.status,
            "provider_code": error.get("code") or error.get("type"),
        }
        yield replace(_refused(answer.status, error, base_url), details=told)
        return
    told = {"http_status": answer.status, "provider_code": None}
    yield replace(_no_api(answer, base_url), details=told)


def _model(names: list[str], base_url: str, model: str) -> Check:
    if model in names:
        return Check(
            "openai.model",
            "ok",
            f"The model {model} is there, one of {len(names)}.",
            model,
            source=_SOURCE,
        )
    own = urlsplit(base_url).hostname == OPENAI_HOST
    nearest = difflib.get_close_matches(model, names, n=5, cutoff=0.4) or sorted(names)[:5]
    return Check(
        "openai.model",
        "critical" if own else "warning",
        f"The model {model} is not among the {len(names)} that this key may use.",
        model,
        source=_SOURCE,
        does_not_prove=None
        if own
        else "that writing fails: a gateway may know models that it does not list",
        next=f"Set OPENAI_MODEL to one of them, e.g. {', '.join(nearest)}."
        if nearest
        else "Check OPENAI_MODEL.",
    )


def _refused(status: int, error: dict[str, Any], base_url: str) -> Check:
    code, kind = str(error.get("code") or ""), str(error.get("type") or "")
    said = f"It said: {status}{f' {code}' if code else ''} {short(plain(str(error.get('message', ''))))}"
    # LiteLLM and its like repeat the status as code, and answer 400 for a key they cannot look up.
    gateway = code == str(status) or code == "no_db_connection" or "litellm" in str(error).lower()
    by = "The gateway in between" if gateway else urlsplit(base_url).netloc
    if status == 401 or code == "no_db_connection":
        words, advice = (
            f"{by} does not accept the key.",
            "Put a valid key into OPENAI_API_KEY; a running worker reads it from .env by itself.",
        )
        if gateway:
            advice = "Use a key that the gateway issued, not OpenAI's own. " + advice
        return Check("openai.key", "critical", f"{words} {said}", source=_SOURCE, next=advice)
    if status == 403 and "scope" in said.lower():
        return Check(
            "openai.key",
            "warning",
            f"The key is restricted and may not list models. {said}",
            source=_SOURCE,
            does_not_prove="that it may not write: restricted keys often may",
            next="Give the key the right to read models, or try one job.",
        )
    if status == 403:
        return Check(
            "openai.key",
            "critical",
            f"The key is known, but this is not allowed (project, permission or country). {said}",
            source=_SOURCE,
            next="Check the key's project and permissions, and from which country this machine calls.",
        )
    if status == 429 and (code in _QUOTA_CODES or kind in _QUOTA_CODES):
        return Check(
            "openai.quota",
            "critical",
            f"The key is accepted, but the account has no credit or met a spending limit. {said}",
            source=_SOURCE,
            next="Add credit or raise the limit in the billing settings.",
        )
    if status == 429:
        return Check(
            "openai.rate",
            "warning",
            f"Too many requests at the moment. {said}",
            source=_SOURCE,
            next="Wait a minute and ask again. If it stays, lower `runbook limits set openai --requests-per-minute`.",
        )
    if status >= 500:
        return Check(
            "openai.api",
            "critical",
            f"{by} has trouble of its own. {said}",
            source=_SOURCE,
            next="Wait; see the provider's status page.",
        )
    return Check(
        "openai.api",
        "critical",
        f"{by} refuses the list of models. {said}",
        source=_SOURCE,
        next=_right_address(base_url),
    )


def _no_api(answer: Answer, base_url: str) -> Check:
    words = f"What answers at {base_url} is not an OpenAI-compatible API: status {answer.status}, {_kind(answer)}."
    advice = "Check OPENAI_BASE_URL, and any proxy or log-in page in between."
    location = answer.headers.get("Location", "")
    if 300 <= answer.status < 400 and location:
        words = (
            f"{base_url} sends requests on to {location.split('?')[0]}; keys are not sent after it."
        )
        advice = f"Set OPENAI_BASE_URL={location.split('?')[0].removesuffix('/models')}"
    elif not urlsplit(base_url).path.strip("/"):
        advice = f"{_right_address(base_url)} {advice}"
    elif answer.status >= 500:
        words = f"{base_url} is down: status {answer.status}, {_kind(answer)}."
        advice = "Wait; if it stays, look at the server or proxy there."
    return Check("openai.api", "critical", words, answer.status, source=_SOURCE, next=advice)


def _right_address(base_url: str) -> str:
    if urlsplit(base_url).path.strip("/"):
        return "Check OPENAI_BASE_URL against what the provider names."
    return f"OPENAI_BASE_URL usually ends in /v1: try OPENAI_BASE_URL={base_url.rstrip('/')}/v1."


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None


def _kind(answer: Answer) -> str:
    kind = answer.headers.get("Content-Type", "").split(";")[0].strip() or "no content type"
    return f"{len(answer.body)} bytes of {short(kind)}"
