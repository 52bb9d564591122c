"""What the functions take and answer, as the OpenAPI document tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from zoneinfo import available_timezones

from runbook_lib.errors import UsageError
from runbook_lib.functions import FUNCTIONS, Function

_ERROR = {
    "description": "What was wrong, in words.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {"error": {"type": "string"}, "curl": {"type": "string"}},
            }
        }
    },
}
_REFUSALS = {str(status): _ERROR for status in (400, 401, 403, 404, 405, 408, 409, 413, 421, 429)}
_ANSWERED = {
    "description": "The answer.",
    "content": {"application/json": {"schema": {"type": "object"}}},
}


# Which options belong to an action: an address cannot say it, so there it is only told which actions read.
_READING_ACTIONS = ("status", "test_credentials")
_OPTIONS_OF = {
    "status": ("job_id",),
    "test_credentials": (),
    "enqueue": ("topic", "category", "idempotency_key"),
}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "boolean": bool, "integer": int, "number": (int, float), "string": str, "null": type(None),
}  # fmt: skip


def components() -> dict[str, Any]:
    """What the routes' descriptions refer to."""
    names = (re.escape(name) for name in sorted(available_timezones()))
    return {
        "securitySchemes": {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "The read or the write token.",
            }
        },
        # A pattern, not 600 choices: what tries every choice would try nothing else.
        "schemas": {"TimeZone": {"type": "string", "pattern": f"^({'|'.join(names)})$"}},
    }


def described(function: Function, method: str) -> dict[str, Any]:
    """The OpenAPI of a function's route: what it takes, who may call it, what it answers."""
    anonymous: list[dict[str, Any]] = [{}] if function.name == "health" else []
    found: dict[str, Any] = {
        "security": [*anonymous, {"token": []}],
        "responses": {"200": _ANSWERED, **_REFUSALS, "503": _ANSWERED},
    }
    if method == "POST":
        found["requestBody"] = {"content": {"application/json": {"schema": _of_a_body(function)}}}
    else:
        found["parameters"] = [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in _of_an_address(function).items()
        ]
    return found


def _fields(function: Function) -> dict[str, dict[str, Any]]:
    properties = function.request.model_json_schema().get("properties", {})
    zone = {"$ref": "#/components/schemas/TimeZone"}
    return {name: zone if name == "time_zone" else each for name, each in properties.items()}


def _of_a_body(function: Function) -> dict[str, Any]:
    fields = _fields(function)
    whole = {"type": "object", "properties": fields, "additionalProperties": False}
    if "action" not in fields:
        return whole
    choices = []
    for action, names in _OPTIONS_OF.items():
        own = {name: fields[name] for name in names}
        required = [] if action == "status" else ["action"]
        if action == "enqueue":
            own["topic"] = {
                "type": "string",
                "minLength": 1,
                "maxLength": 4000,
                # More than blanks, and no NUL.
                "pattern": r"^[^\x00]*[^\s\x00][^\x00]*$",
            }
            required.append("topic")
        own["action"] = {"const": action}
        choices.append({**whole, "properties": own, "required": required, "title": action})
    return {"oneOf": choices}


def _of_an_address(function: Function) -> dict[str, dict[str, Any]]:
    """What can be asked by GET: nothing that would change or cost something."""
    fields = _fields(function)
    if "action" in fields:
        return {"action": {"type": "string", "enum": list(_READING_ACTIONS)}}
    return {
        name: {key: value for key, value in schema.items() if key != "default"}
        for name, schema in fields.items()
        if name not in ("write", "reason")
    }


def require_types(name: str, given: Mapping[str, Any]) -> None:
    """JSON has types, so a body is held to them; the words of an address are read. Raises `UsageError`."""
    if name not in FUNCTIONS:
        return
    properties = FUNCTIONS[name].request.model_json_schema().get("properties", {})
    for field, value in given.items():
        schema = properties.get(field, {})
        kinds = [each.get("type") for each in schema.get("anyOf", [schema]) if each.get("type")]
        if kinds and not any(_is_a(value, kind) for kind in kinds):
            raise UsageError(f"{field} must be {' or '.join(kinds)} in JSON.")


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, float) and kind == "integer":
        return value.is_integer()
    return isinstance(value, _TYPES.get(kind, object))
