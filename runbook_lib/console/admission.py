"""Who is let in: the host and origin of a request, its token or cookie, and the token of its form."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import Headers

from runbook_lib.console.failed_logins import PER_PERSON, PER_PROGRAM, FailedLogins
from runbook_lib.console.sessions import Session, Sessions
from runbook_lib.credentials.console_tokens import Scope, Tokens
from runbook_lib.functions import FUNCTIONS as FUNCTION_NAMES
from runbook_lib.functions.addresses import curl_line
from runbook_lib.settings import Settings

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FUNCTIONS = "/functions/v1/"
HEALTH = "/functions/v1/health"
# Open to everybody: how one signs in, and what every page looks like.
LOGIN, LOGOUT, STATIC = "/login", "/logout", "/static/"
FORM_FIELD, FORM_HEADER = "form_token", "x-form-token"
FORM_TYPE = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Incoming:
    """A request as far as admission looks at it."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes
    client: str
    scheme: str

    @property
    def host(self) -> str:
        return self.headers.get("host", "")

    @property
    def safe(self) -> bool:
        return self.method in SAFE_METHODS

    @property
    def is_form(self) -> bool:
        return self.headers.get("content-type", "").split(";")[0].strip().lower() == FORM_TYPE

    def fields(self) -> list[tuple[str, str]]:
        """The fields of a form, in order. Raises `Refused` for more than a form of ours has."""
        if not self.is_form:
            return []
        try:
            return parse_qsl(
                self.body.decode("ascii"),
                keep_blank_values=True,
                max_num_fields=300,
                errors="strict",
            )
        except ValueError:
            raise Refused(400, "The form cannot be read. Load the page again.") from None


@dataclass(frozen=True)
class Caller:
    """Who was let in. `token` is the name of what let them in; `actor` goes into records."""

    actor: str
    scope: Scope
    token: str
    session: Session | None = None

    @property
    def may_write(self) -> bool:
        return self.scope == "write"


class Refused(Exception):
    """A request that is not let in: what to answer, in words. `quiet` ones are not worth a row."""

    def __init__(
        self, status: int, message: str, *, curl: str | None = None, retry_after: int = 0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.curl = curl
        self.retry_after = retry_after
        self.quiet = status == 429


class Admission:
    """The rules by which a request is let in. Whatever is not opened here is closed."""

    def __init__(self, settings: Settings, tokens: Tokens, sessions: Sessions) -> None:
        self._settings = settings
        self._tokens = tokens
        self._sessions = sessions
        self._failures = FailedLogins(PER_PROGRAM)
        self._failures_at_login = FailedLogins(PER_PERSON)
        self._hosts = allowed_hosts(settings)
        self._public_url = (settings.runbook_public_url or "").rstrip("/")

    def admit(self, request: Incoming) -> Caller | None:
        """The caller; None where nobody needs to be known. Raises `Refused`."""
        self._require_host(request)
        if not request.safe:
            self._require_origin(request)
        caller = self._caller(request)
        if request.path == LOGIN or request.path.startswith(STATIC):
            return caller
        if caller is None:
            if request.path == HEALTH:
                return None
            raise Refused(401, _SIGN_IN, curl=self._curl(request))
        if not request.safe:
            self._require_form_token(request, caller)
            self._require_scope(request, caller)
        return caller

    def wrong_token_at_login(self, client: str) -> Refused:
        """What somebody is answered who typed a token that is none."""
        return self._wrong_token(self._failures_at_login.record(client))

    def _wrong_token(self, seconds: int) -> Refused:
        if seconds:
            return Refused(
                429, f"Too many wrong tokens. Come again in {seconds} s, with the right one.",
                retry_after=seconds,
            )  # fmt: skip
        return Refused(401, "That token is not known here, was used up or is too old.")

    def scope_of(self, token: str) -> Scope | None:
        return self._tokens.scope_of(token)

    def _caller(self, request: Incoming) -> Caller | None:
        given = request.headers.get("authorization")
        if given is not None:
            return self._by_token(request, given)
        cookie = _cookie(request.headers, self._sessions.cookie)
        session = self._sessions.read(cookie)
        if session is not None:
            return Caller(session.actor, session.scope, f"session ({session.scope})", session)
        return None

    def _by_token(self, request: Incoming, given: str) -> Caller:
        scheme, _, token = given.partition(" ")
        scope = self._tokens.scope_of(token.strip())
        if scheme.lower() != "bearer" or scope is None:
            refused = self._wrong_token(self._failures.record(request.client))
            refused.curl = self._curl(request)
            raise refused
        actor = request.headers.get("x-runbook-actor", "").strip()[:100]
        name = f"{scope} token"
        return Caller(f"{actor} ({name})" if actor else name, scope, name)

    def _require_host(self, request: Incoming) -> None:
        # A page that rebinds its own name to this address still sends its own name.
        if _host_name(request.host) not in self._hosts:
            raise Refused(
                421,
                "This console does not answer to that host name. Add it to RUNBOOK_ALLOWED_HOSTS.",
            )

    def _require_origin(self, request: Incoming) -> None:
        origin = request.headers.get("origin")
        fetched_from = request.headers.get("sec-fetch-site", "same-origin")
        if fetched_from not in ("same-origin", "none"):
            raise Refused(403, "This came from another site and was not done.")
        if origin is None:
            return
        ours = {f"http://{request.host}", f"https://{request.host}", self._public_url}
        if origin not in ours:
            raise Refused(403, "This came from another site and was not done.")

    def _require_form_token(self, request: Incoming, caller: Caller) -> None:
        if caller.session is None:
            return  # a bearer token is sent by nobody but who has it
        given = request.headers.get(FORM_HEADER) or dict(request.fields()).get(FORM_FIELD, "")
        if not self._sessions.is_form_token(caller.session, given):
            raise Refused(
                403, "The form is too old or not ours. Load the page again, then send it."
            )

    def _require_scope(self, request: Incoming, caller: Caller) -> None:
        # What a function needs, its route says.
        if request.path == LOGOUT or request.path.startswith(FUNCTIONS):
            return
        if not caller.may_write:
            raise Refused(403, "You may look here, and change nothing: that needs the write token.")

    def _curl(self, request: Incoming) -> str:
        """The line that would have been let in; its token stands by the name of its variable."""
        base = self._public_url or f"{request.scheme}://{request.host}"
        name = request.path.removeprefix(FUNCTIONS)
        if name in FUNCTION_NAMES and not request.query:
            addressed = self._settings.model_copy(update={"runbook_public_url": base})
            return curl_line(addressed, name, _object(request.body), request.method)
        query = f"?{request.query}" if request.query else ""
        scope, data = ("READ", []) if request.safe else ("WRITE", ["-X", request.method])
        words = " ".join(shlex.quote(word) for word in (*data, f"{base}{request.path}{query}"))
        return f'curl -sS -H "Authorization: Bearer $RUNBOOK_{scope}_TOKEN" {words}'


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


_SIGN_IN = (
    "A token is needed. In a browser, open the link that `runbook console --link` prints; elsewhere send "
    "the read or the write token as a bearer token, as this line does."
)


def allowed_hosts(settings: Settings) -> frozenset[str]:
    """The host names that the console answers to."""
    given = (settings.runbook_allowed_hosts or "").replace(",", " ").split()
    public = urlsplit(settings.runbook_public_url or "").hostname
    bound = _host_name(settings.runbook_console_address)
    return frozenset(
        name.lower()
        for name in (*LOOPBACK_NAMES, *(_host_name(each) for each in given), bound, public)
        if name and name not in ("0.0.0.0", "::")
    )


def _host_name(host: str) -> str:
    """The name without a port, in lower case; nothing for what is no host."""
    try:
        found = urlsplit(f"//{host}")
        _ = found.port
    except ValueError:
        return ""
    plain = found.path == found.query == found.fragment == "" and found.username is None
    return (found.hostname or "") if plain else ""


def _cookie(headers: Headers, name: str) -> str | None:
    pairs: Iterable[str] = headers.get("cookie", "").split(";")
    for pair in pairs:
        found, _, value = pair.strip().partition("=")
        if found == name:
            return value
    return None
