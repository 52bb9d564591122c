"""What WordPress's answers mean: JSON found behind printed warnings, and refusals classed.

WordPress says the same with different words and different things with the same words: a wrong password
is a 401 under any of six codes, a printed PHP warning stands before valid JSON under status 200, and a
redirect turns a write into a list of old posts. So the status decides first, then the code.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any, TypeGuard

from runbook_lib.credentials.masking import one_line
from runbook_lib.pipeline.failures import Failure
from runbook_lib.pipeline.retry_after import retry_after_seconds
from runbook_lib.pipeline.transport import Answer, ExchangeFailed

LONGEST_MESSAGE_CHARACTERS = 240
JSON_CANDIDATES = 500

# 403 under these codes: logged in, but the role does not reach. Other 403s restrict the REST API itself.
_PERMISSION_CODES = re.compile(
    r"^rest_(cannot_|forbidden_(context|status)|user_cannot|not_allowed|invalid_param)"
)
_REASON_CLASSES = {
    "timeout": "wordpress_timeout",
    "unreachable": "wordpress_unreachable",
    "broken": "wordpress_unreachable",
    "certificate": "wordpress_certificate_invalid",
    "address": "wordpress_rest_off",
    "too_large": "wordpress_answer_unreadable",
}


def read_json(answer: Answer) -> Any:
    """The JSON of an answer, also when PHP printed warnings before or after it.

    Raises `ValueError` when there is none. Of several readable pieces the longest is the answer: a
    warning may hold things like `[0]` itself.
    """
    text = answer.body.decode("utf-8", errors="replace").lstrip("\ufeff").strip()
    try:
        return json.loads(text)
    except ValueError:
        pass
    decoder, best, best_length, skip_to = json.JSONDecoder(), None, 0, 0
    for number, opening in enumerate(re.finditer(r"[{\[]", text)):
        if number >= JSON_CANDIDATES or best_length > len(text) - opening.start():
            break
        if opening.start() < skip_to:
            continue
        try:
            value, end = decoder.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            continue
        skip_to = end
        if end - opening.start() > best_length:
            best, best_length = value, end - opening.start()
    if best is None:
        raise ValueError("no JSON")
    return best


def read_object(answer: Answer) -> dict[str, Any] | None:
    """The JSON object of an answer, or None when it is something else."""
    try:
        value = read_json(answer)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_items(answer: Answer) -> list[dict[str, Any]] | None:
    """The items of a list answer, each with an integer `id`; None when it is something else."""
    try:
        found = read_json(answer)
    except (ValueError, RecursionError):
        return None
    if answer.status != 200 or not isinstance(found, list):
        return None
    return (
        found if all(isinstance(each, dict) and is_id(each.get("id")) for each in found) else None
    )


def is_id(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def header_number(answer: Answer, name: str) -> int:
    """A count in a header, e.g. `X-WP-Total`; 0 when it is absent or no number."""
    text = answer.headers.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0


def code_of(answer: Answer) -> str | None:
    """WordPress's own error code, e.g. `rest_cannot_create`; None for an answer that is not its JSON."""
    found = read_object(answer)
    code = found.get("code") if found is not None else None
    return code if isinstance(code, str) else None


def refusal(answer: Answer, request: str) -> Failure:
    """Classes an answer that is not what was asked for; `request` names it, e.g. `POST posts`."""
    found = read_object(answer) or {}
    code = found.get("code") if isinstance(found.get("code"), str) else None
    waits = retry_after_seconds(answer.headers)
    return Failure(
        _class_of(_real_status(answer, found), code, waits),
        _sentence(answer, request, found, code),
        stage="publish",
        provider="wordpress",
        http_status=answer.status,
        provider_code=code,
        request_id=answer.headers.get("X-Request-Id") or answer.headers.get("CF-Ray"),
        retry_after_seconds=waits,
    )


def no_answer(error: ExchangeFailed, request: str) -> Failure:
    """Classes an exchange that brought no whole answer."""
    return Failure(
        _REASON_CLASSES[error.reason],
        f"{request}: {error}.",
        stage="publish",
        provider="wordpress",
        exception_class=error.exception_class,
    )


def login_refused(answer: Answer) -> bool:
    """Whether the site took the request for nobody's, wherever it says so."""
    if answer.status not in (400, 401):
        return False
    return _real_status(answer, read_object(answer) or {}) == 401


def _real_status(answer: Answer, found: dict[str, Any]) -> int:
    """The status, or what a refused parameter hides below it: a list of drafts that is asked for with a
    wrong password is answered 400, and the 401 stands inside."""
    data = found.get("data")
    details = data.get("details") if isinstance(data, dict) else None
    for each in details.values() if answer.status == 400 and isinstance(details, dict) else ():
        inner = each.get("data") if isinstance(each, dict) else None
        status = inner.get("status") if isinstance(inner, dict) else None
        if status in (401, 403):
            return int(status)
    return answer.status


def _class_of(status: int, code: str | None, waits: float | None) -> str:
    if status == 401:
        return "wordpress_login_failed"
    if status == 403:
        return (
            "wordpress_permission_lost"
            if code and _PERMISSION_CODES.match(code)
            else "wordpress_rest_off"
        )
    if status == 404 and (code is None or code == "rest_no_route"):
        return "wordpress_rest_off"
    if status == 429 or (status == 503 and waits is not None):
        return "wordpress_rate_limited"
    if 300 <= status < 400:
        return "wordpress_redirected"
    if status in (408, 425, 499):
        return "wordpress_timeout"
    if 400 <= status < 500 or status == 501:
        return "wordpress_request_refused"
    return "wordpress_unavailable" if status >= 500 else "wordpress_answer_unreadable"


def _sentence(answer: Answer, request: str, found: dict[str, Any], code: str | None) -> str:
    if 300 <= answer.status < 400:
        location = without_query(answer.headers.get("Location", "nowhere"))
        return f"{request} was answered {answer.status} with a redirect to {short(location)}."
    if answer.status < 300:
        return f"{request} was answered {answer.status}, but not with what WordPress answers: {_kind(answer)}."
    said = found.get("message") if code else None
    text = f"{request} was answered {answer.status}{f' {code}' if code else ''}"
    if isinstance(said, str) and said:
        text += f": {short(plain(said))}"
    elif code is None:
        text += f" with {_kind(answer)}"
    if fields := _refused_fields(found):
        text += f" {fields}"
    return text if text.endswith(".") else f"{text}."


def _refused_fields(found: dict[str, Any]) -> str:
    data = found.get("data")
    parameters = data.get("params") if isinstance(data, dict) else None
    if isinstance(parameters, dict):
        return short(
            "; ".join(f"{name}: {plain(str(reason))}" for name, reason in parameters.items())
        )
    if isinstance(parameters, list):
        return "missing: " + short(", ".join(str(name) for name in parameters))
    return ""


def _kind(answer: Answer) -> str:
    kind = answer.headers.get("Content-Type", "").split(";")[0].strip() or "no content type"
    title = re.search(
        rb"<title[^>]*>(.{1,200}?)</title>", answer.body[:20_000], re.IGNORECASE | re.DOTALL
    )
    if title:
        return f"a page titled {short(plain(title[1].decode('utf-8', errors='replace')))!r}"
    return f"{len(answer.body)} bytes of {short(kind)}"


def plain(text: str) -> str:
    """Text for people: without tags, entities and line ends."""
    text = re.sub(r"</?(?:a|b|code|em|i|span|strong)\b[^>]*>", "", text)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def short(text: str) -> str:
    """One masked line that is not longer than a line should be."""
    return one_line(text, LONGEST_MESSAGE_CHARACTERS)


def without_query(address: str) -> str:
    """An address without its query: that may hold anything that the site was asked."""
    return address.split("?")[0]
