"""WordPress's refusals: the exception that carries one, and the checks of parameters that raise it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from runbook_lib.sandbox.messages import Response

POST_STATUSES = ("publish", "future", "draft", "pending", "private")
MOST_ITEMS_A_PAGE = 100
JSON_TYPE = "application/json; charset=UTF-8"


class Refused(Exception):
    """WordPress says no: a `WP_Error` with its code, message and status."""

    def __init__(self, status: int, code: str, message: str, data: Any = ..., **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "code": code,
            "message": message,
            "data": {"status": status} if data is ... else data,
            **more,
        }

    def response(self) -> Response:
        return Response.of_json(self.status, self.body, {"Content-Type": JSON_TYPE})


def not_allowed(logged_in: bool, code: str, message: str) -> Refused:
    """The same code says 401 to nobody and 403 to somebody."""
    return Refused(403 if logged_in else 401, code, message)


def died(
    status: int,
    message: str,
    *,
    as_json: bool,
    retry_after: int | None = None,
    code: str = "wp_die",
) -> Response:
    """How WordPress dies early: JSON only for a request that asked for it, a page otherwise."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if as_json:
        body = {
            "code": code,
            "message": message,
            "data": {"status": status},
            "additional_errors": [],
        }
        return Response.of_json(status, body, {"Content-Type": JSON_TYPE, **headers})
    page = f'<!DOCTYPE html>\n<html lang="en-US">\n<head><meta charset="utf-8"><title>WordPress &rsaquo; Error</title></head>\n<body id="error-page">\n\t<div class="wp-die-message">{message}</div></body>\n</html>\n'
    return Response.of_html(status, page, headers)


class Problems:
    """Collects what is wrong with parameters, since WordPress names all of them in one refusal."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, str, Any]] = {}

    def add(self, name: str, code: str, message: str, data: Any = None) -> None:
        self._found.setdefault(name, (code, message, data))

    def raise_if_any(self) -> None:
        if not self._found:
            return
        details = {
            name: {"code": code, "message": message, "data": data}
            for name, (code, message, data) in self._found.items()
        }
        data = {
            "status": 400,
            "params": {name: message for name, (_, message, _) in self._found.items()},
            "details": details,
        }
        raise Refused(
            400, "rest_invalid_param", f"Invalid parameter(s): {', '.join(self._found)}", data
        )

    def choice(self, name: str, value: Any, choices: tuple[str, ...]) -> None:
        if value not in choices:
            listed = f"{', '.join(choices[:-1])}, and {choices[-1]}"
            self.add(name, "rest_not_in_enum", f"{name} is not one of {listed}.")

    def ids(self, name: str, value: Any) -> list[int]:
        """A list of ids, also as a text with commas."""
        values = re.split(r"[\s,]+", value.strip(", ")) if isinstance(value, str) else value
        if not isinstance(values, list):
            values = [values]
        found = []
        for number, each in enumerate(values):
            if each == "" and len(values) == 1:
                continue
            if isinstance(each, bool) or not re.fullmatch(r"-?\d+(\.0+)?", str(each)):
                item = f"{name}[{number}]"
                self.add(
                    name, "rest_invalid_type", f"{item} is not of type integer.", {"param": item}
                )
                return []
            found.append(int(float(each)))
        return found

    def number(self, name: str, value: Any, least: int, most: int | None) -> int:
        """A whole number within bounds."""
        if not re.fullmatch(r"-?\d+", str(value)):
            self.add(name, "rest_invalid_type", f"{name} is not of type integer.", {"param": name})
            return least
        number = int(value)
        if most is not None and not least <= number <= most:
            message = f"{name} must be between {least} (inclusive) and {most} (inclusive)"
            self.add(name, "rest_out_of_bounds", message)
        elif number < least:
            self.add(name, "rest_out_of_bounds", f"{name} must be greater than or equal to {least}")
        return number

    def moment(self, name: str, value: Any) -> int | None:
        """Seconds since 1970 of an RFC 3339 date; the site's time zone is UTC."""
        if value is None:
            return None
        try:
            found = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
        except ValueError:
            self.add(name, "rest_invalid_date", "Invalid date.")
            return None
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


def page_of(query: Mapping[str, str], problems: Problems) -> tuple[int, int]:
    """`page` and `per_page`."""
    page = problems.number("page", query.get("page", "1"), 1, None)
    return page, problems.number("per_page", query.get("per_page", "10"), 1, MOST_ITEMS_A_PAGE)


def is_true(value: Any) -> bool:
    return value in (True, 1, "1", "true", "TRUE")
