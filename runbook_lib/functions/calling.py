"""Calling a function: its input read, its scope known, every outcome an answer with a status."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import psycopg2
import psycopg2.errors
from pydantic import ValidationError

from runbook_lib.credentials.masking import mask, one_line
from runbook_lib.errors import (
    ConfigurationError,
    NotFoundError,
    PlanRefused,
    RunbookError,
    UsageError,
)
from runbook_lib.functions.catalogue import FUNCTIONS, Function, Scope
from runbook_lib.functions.requests import Request
from runbook_lib.health.context import Context

OK, BAD_REQUEST, NOT_FOUND, NOT_ALLOWED, CONFLICT, UNAVAILABLE = 200, 400, 404, 405, 409, 503


@dataclass(frozen=True)
class Answer:
    """What a function answers: an HTTP status, and a body of plain JSON values."""

    status: int
    body: dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One call as a handler gets it."""

    request: Request
    method: str
    context: Context
    actor: str


class Answered(Exception):
    """Raised by a handler that answers with a status other than 200."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


def call(
    name: str,
    data: Mapping[str, Any] | None = None,
    *,
    method: str = "POST",
    context: Context,
    actor: str,
) -> Answer:
    """Calls a function by name. Whatever a caller can do wrong is answered, not raised.

    GET changes nothing whatever `data` holds. Whether the caller may is decided before, with
    `required_scope`.
    """
    try:
        function = _function(name)
        request = _read(function, data, method)
        body = function.load()(Call(request, method, context, actor))
        return Answer(OK, _plain(body))
    except Answered as answered:
        return Answer(answered.status, _plain(dict(answered.body)))
    except _Refused as refused:
        return Answer(refused.status, _plain(refused.body))
    except NotFoundError as error:
        return _error(NOT_FOUND, error)
    except (UsageError, ConfigurationError) as error:
        return _error(BAD_REQUEST, error)
    except PlanRefused as error:
        return _error(CONFLICT, error)
    except (RunbookError, psycopg2.Error) as error:
        return _error(UNAVAILABLE, error)


def required_scope(name: str, method: str, data: Mapping[str, Any] | None) -> Scope:
    """The scope that a token needs for this call: `write` for what changes or costs something.

    A call that will be refused anyway needs only `read`, so that the refusal can be told.
    """
    try:
        return "write" if _read(_function(name), data, method).changes else "read"
    except _Refused:
        return "read"


class _Refused(Exception):
    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": message, **more}


def _function(name: str) -> Function:
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    raise _Refused(
        NOT_FOUND,
        f"There is no function {one_line(name, 60)!r}.{_nearest(name, FUNCTIONS)}",
        functions=list(FUNCTIONS),
    )


def _read(function: Function, data: Mapping[str, Any] | None, method: str) -> Request:
    if method not in ("GET", "HEAD", "POST"):
        raise _Refused(
            NOT_ALLOWED, f"{function.name} takes GET and POST, not {one_line(method, 20)}."
        )
    given = dict(data or {})
    try:
        request = function.request.model_validate(given)
    except ValidationError as error:
        problems = [_problem(function, each) for each in error.errors(include_url=False)]
        message = f"{function.name} does not take this. " + " ".join(
            f"{each['field'] or 'It'}: {each['problem']}" for each in problems
        )
        raise _Refused(BAD_REQUEST, message, problems=problems) from None
    reading = request.for_reading() if method != "POST" else request
    if reading is None:
        raise _Refused(
            NOT_ALLOWED, f"This would change or cost something; {method} only reads. Use POST."
        )
    return reading


def _problem(function: Function, problem: Any) -> dict[str, str]:
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = list(function.request.model_fields)
        words = f"There is no such option.{_nearest(field, known)}"
        if not known:
            words = f"{function.name} takes no options."
        return {"field": one_line(field, 60), "problem": words}
    if problem["type"] == "literal_error":
        allowed = [
            each.strip("' ") for each in problem["ctx"]["expected"].replace(" or ", ",").split(",")
        ]
        return {
            "field": field,
            "problem": f"{one_line(str(problem['input']), 60)!r} is not known; there is {', '.join(allowed)}."
            f"{_nearest(str(problem['input']), allowed)}",
        }
    words = str(problem["msg"]).removeprefix("Value error, ")
    return {"field": field, "problem": f"{words}."}


def _nearest(given: str, known: Any) -> str:
    found = difflib.get_close_matches(given.lower(), list(known), n=1, cutoff=0.5)
    return f" Did you mean {found[0]}?" if found else ""


def _error(status: int, error: Exception) -> Answer:
    text = str(error).strip() if isinstance(error, RunbookError) else _in_words(error)
    return Answer(status, {"error": mask(text)})


def _in_words(error: Exception) -> str:
    # Only the first line: PostgreSQL's DETAIL prints whole rows, topics and bodies included.
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, psycopg2.errors.InsufficientPrivilege):
        return f"The database role of this process may not do that: {first}. `runbook db grants ROLE` prints what it needs."
    return f"The database refused: {first}"


def _plain(value: Any) -> Any:
    """Only what JSON knows, with secrets masked. What is not a number is null."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Sequence | set | frozenset):
        return [_plain(each) for each in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return _plain(float(value))
    return _plain(value.item()) if hasattr(value, "item") else mask(str(value))
