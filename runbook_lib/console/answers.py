"""How what went wrong is answered: a page for people, JSON for programs; in words, with what to do."""

from __future__ import annotations

from typing import Any

import psycopg2
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from runbook_lib.console.admission import FUNCTIONS, Refused
from runbook_lib.console.pages import Pages
from runbook_lib.credentials.masking import one_line
from runbook_lib.errors import (
    ConfigurationError,
    DatabaseNotMigrated,
    DatabaseUnreachable,
    DeadlineExceeded,
    NotFoundError,
    RunbookError,
    UsageError,
)

TITLES = {
    400: "That cannot be done so",
    401: "Sign in",
    403: "Not allowed",
    404: "Not here",
    405: "Not in this way",
    409: "Not done",
    413: "Too much",
    421: "Another host was asked for",
    429: "Too many wrong tokens",
    500: "A fault of this page",
    503: "The database does not answer",
}


class Answers:
    """Makes the answer to a refused or failed request."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def refusal(self, scope: Scope, refused: Refused) -> Response:
        """An answer outside of any route, as the gate needs it."""
        response = self._make(Request(scope), refused.status, refused.message, refused.curl)
        if refused.status == 401:
            response.headers["www-authenticate"] = 'Bearer realm="runbook"'
        if refused.retry_after:
            response.headers["retry-after"] = str(refused.retry_after)
        return response

    def error(self, request: Request, error: Exception) -> Response:
        """An answer to an error that a route raised."""
        return self._make(request, status_of(error), _message(error))

    def http_error(self, request: Request, status: int) -> Response:
        """What the router itself refuses: an address that is none, a method that it does not take."""
        text = {404: "There is no such page.", 405: f"{request.method} is not taken here."}
        return self._make(request, status, text.get(status, "The request does not fit."))

    def _make(
        self, request: Request, status: int, message: str, curl: str | None = None
    ) -> Response:
        message = one_line(message, 1000)
        if not for_people(request.scope):
            content: dict[str, Any] = {"error": message, **({"curl": curl} if curl else {})}
            return JSONResponse(content, status)
        if status == 401:
            return self._pages.show(
                request, "login.html.j2", status=401, title="Sign in",
                to=_same_page(request), problem="" if "authorization" not in request.headers else message,
                again=Headers(scope=request.scope).get("sec-fetch-site") == "cross-site",
            )  # fmt: skip
        title = TITLES.get(status, "That did not work")
        return self._pages.show(
            request, "problem.html.j2", status=status, title=title, message=message
        )


def for_people(scope: Scope) -> bool:
    """Whether somebody looks at the answer: a browser asks for HTML, and not for a function."""
    accepted = Headers(scope=scope).get("accept", "")
    return "text/html" in accepted and not scope["path"].startswith((FUNCTIONS, "/metrics"))


def status_of(error: Exception) -> int:
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, UsageError | ConfigurationError | ValueError):
        return 400
    if isinstance(error, DatabaseUnreachable | DatabaseNotMigrated | DeadlineExceeded):
        return 503
    if isinstance(error, psycopg2.DataError):
        return 400
    if isinstance(error, psycopg2.Error):
        return 503
    return 409 if isinstance(error, RunbookError) else 500


def _message(error: Exception) -> str:
    if isinstance(error, psycopg2.errors.InsufficientPrivilege):
        return f"The database role of the console may not do this: {error}"
    return str(error) or type(error).__name__


def _same_page(request: Request) -> str:
    if request.method not in ("GET", "HEAD"):
        return "/"
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{request.url.path}{query}"
