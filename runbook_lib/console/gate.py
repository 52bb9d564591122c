"""The gate: what comes in is read within limits, let in or refused, answered with guarded headers, and logged."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runbook_lib.console.access_log import AccessLog, Entry
from runbook_lib.console.admission import FUNCTIONS, STATIC, Admission, Caller, Incoming, Refused
from runbook_lib.credentials.masking import one_line

LONGEST_BODY_BYTES = 256 * 1024
LONGEST_QUERY_BYTES = 8 * 1024
BODY_SECONDS = 10.0
REQUEST_SECONDS = 60.0
# A page that is kept open asks every few seconds: one row a minute tells that.
LIVE_HEADER, LIVE_LOG_SECONDS = "x-runbook-live", 60.0

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-src 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": PAGE_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: browsers then send `Origin: null` with a form, which is refused.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}

# What a refused or failed request is answered: (scope, status, message, curl line).
Answer = Callable[[Scope, Refused], Response]


@dataclass
class _Visit:
    """One request while it is under way."""

    scope: Scope
    client: str
    headers: Headers
    began: float = field(default_factory=time.monotonic)
    status: int = 0
    caller: Caller | None = None
    quiet: bool = False
    answered: bool = False


class Gate:
    """ASGI middleware around the whole application."""

    def __init__(
        self, app: ASGIApp, *, admission: Admission, log: AccessLog, answer: Answer, secure: bool
    ) -> None:
        self._app = app
        self._admission = admission
        self._log = log
        self._answer = answer
        self._headers = dict(HEADERS)
        if secure:
            self._headers["strict-transport-security"] = "max-age=31536000"
        self._live: dict[tuple[str, str], float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._visit(dict(scope), receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _visit(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope["client"][0] if scope.get("client") else "-"
        visit = _Visit(scope, client, Headers(scope=scope))

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                visit.status, visit.answered = message["status"], True
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._serve(visit, receive, guarded)
        except Refused as refused:
            visit.quiet = refused.quiet
            await self._refuse(visit, refused, receive, guarded)
        except TimeoutError:
            late = Refused(503, f"This took longer than {REQUEST_SECONDS:g} s and was given up.")
            await self._refuse(visit, late, receive, guarded)
        except Exception as error:
            print(f"runbook console: {one_line(traceback.format_exc(limit=-4), 2000)}", flush=True)
            broken = Refused(
                500, f"This page has a fault: {type(error).__name__}. Please report it."
            )
            await self._refuse(visit, broken, receive, guarded)
        finally:
            self._record(visit)

    async def _serve(self, visit: _Visit, receive: Receive, send: Send) -> None:
        scope = visit.scope
        body = await _read_body(visit.headers, receive)
        request = _incoming(scope, visit, body)
        visit.caller = self._admission.admit(request)
        fields = request.fields()
        _refuse_unreadable(request, fields)
        scope.setdefault("state", {}).update(caller=visit.caller, fields=dict(fields), body=body)
        if scope["method"] == "HEAD":
            scope["method"] = "GET"  # the server leaves the body out
        await self._app(scope, _replay(body, receive), send)

    async def _refuse(self, visit: _Visit, refused: Refused, receive: Receive, send: Send) -> None:
        if visit.answered:
            return  # the beginning of another answer is out; the connection breaks
        visit.scope.setdefault("state", {}).setdefault("caller", visit.caller)
        await self._answer(visit.scope, refused)(visit.scope, receive, send)

    def _record(self, visit: _Visit) -> None:
        scope, caller = visit.scope, visit.caller
        route = getattr(scope.get("route"), "path", None) or "(none)"
        outcome = "served" if visit.status < 400 else "refused" if visit.status < 500 else "failed"
        if route == "(none)" and scope["path"].startswith((FUNCTIONS, STATIC)):
            route = f"{scope['path'].rsplit('/', 1)[0]}/(none)"
        if visit.quiet or (outcome == "served" and route.startswith(STATIC)):
            return
        token = caller.token if caller else "none"
        if outcome == "served" and LIVE_HEADER in visit.headers and self._seen(token, route):
            return
        self._log.add(
            Entry(
                datetime.now(UTC), visit.client[:100], token, caller.actor if caller else None,
                scope["method"][:16], route[:200], visit.status, outcome,
                round(1000 * (time.monotonic() - visit.began), 1),
            )
        )  # fmt: skip

    def _seen(self, token: str, route: str) -> bool:
        now, key = time.monotonic(), (token, route)
        if now - self._live.get(key, -LIVE_LOG_SECONDS) < LIVE_LOG_SECONDS:
            return True
        self._live[key] = now
        return False


async def _read_body(headers: Headers, receive: Receive) -> bytes:
    """The whole body, within size and time. Raises `Refused`."""
    too_long = Refused(
        413, f"More than {LONGEST_BODY_BYTES // 1024} kB were sent; nothing here takes so much."
    )
    announced = headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > LONGEST_BODY_BYTES:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "The request broke off.")
                body += message.get("body", b"")
                if len(body) > LONGEST_BODY_BYTES:
                    raise too_long
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise Refused(408, f"The request did not arrive within {BODY_SECONDS:g} s.") from None


def _incoming(scope: Scope, visit: _Visit, body: bytes) -> Incoming:
    query = scope["query_string"]
    if len(query) > LONGEST_QUERY_BYTES:
        raise Refused(400, "The address is too long.")
    return Incoming(
        scope["method"], scope["path"], query.decode("latin-1"), visit.headers, body, visit.client,
        scope.get("scheme", "http"),
    )  # fmt: skip


def _refuse_unreadable(request: Incoming, fields: list[tuple[str, str]]) -> None:
    # PostgreSQL takes no NUL character, and no file name does.
    texts: list[Any] = [request.path, *(value for _, value in fields)]
    if any("\x00" in text for text in texts) or "%00" in request.query:
        raise Refused(400, "A NUL character was sent; no name or text here holds one.")


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def next_message() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_message
