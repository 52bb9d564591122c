"""A request as it came, and the response with the way in which it goes back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

JSON_TYPE = "application/json"


@dataclass
class Request:
    """One HTTP request. Header names are lower-case; `path` is decoded."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""
    client_address: str = "127.0.0.1"

    @cached_property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @cached_property
    def query(self) -> dict[str, str]:
        """The parameters of the address; of one given several times the last, `name[]` joined by commas."""
        found = parse_qs(urlsplit(self.target).query, keep_blank_values=True)
        return {
            name.removesuffix("[]"): ",".join(values) if name.endswith("[]") else values[-1]
            for name, values in found.items()
        }

    @cached_property
    def text(self) -> str:
        """The body as text, with JSON's escapes resolved, for looking something up in it."""
        try:
            return json.dumps(self.json(), ensure_ascii=False)
        except ValueError:
            return self.body.decode("utf-8", errors="replace")

    def json(self) -> Any:
        """The body read as JSON. Raises `ValueError`."""
        try:
            return json.loads(self.body)
        except (UnicodeDecodeError, RecursionError) as error:
            raise ValueError(str(error)) from error

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").split(";")[0].strip().lower()

    def wants_json(self) -> bool:
        """Whether WordPress answers JSON when it dies early (its `wp_is_json_request`)."""
        return JSON_TYPE in self.headers.get("accept", "") or self.content_type == JSON_TYPE


@dataclass(frozen=True)
class Delivery:
    """How a response goes over the wire.

    `way`: `whole`; `drip` (a byte each `interval_seconds`); `cut` (half of the body, then the end);
    `reset` (no byte, the connection reset); `silence` (no byte, the connection open for
    `silence_seconds`).
    """

    way: str = "whole"
    interval_seconds: float = 0.2
    silence_seconds: float = 3600


@dataclass(frozen=True)
class Response:
    """One HTTP response."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delivery: Delivery = Delivery()

    @classmethod
    def of_json(cls, status: int, value: Any, headers: Mapping[str, str] | None = None) -> Response:
        body = json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()
        return cls(status, body, {"Content-Type": JSON_TYPE, **(headers or {})})

    @classmethod
    def of_html(cls, status: int, page: str, headers: Mapping[str, str] | None = None) -> Response:
        return cls(
            status, page.encode(), {"Content-Type": "text/html; charset=UTF-8", **(headers or {})}
        )

    def delivered(self, delivery: Delivery) -> Response:
        return replace(self, delivery=delivery)

    def json(self) -> Any:
        return json.loads(self.body)
