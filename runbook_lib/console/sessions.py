"""Sessions of browsers: a signed cookie that expires, and the token that every form carries."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

from runbook_lib.credentials.console_tokens import Scope

SESSION_SECONDS = 12 * 3600
NOTE_SECONDS = 60
_LONGEST_COOKIE = 3000


@dataclass(frozen=True)
class Session:
    """Who is signed in, how far they may go, and until when."""

    session_id: str
    actor: str
    scope: Scope
    expires_at: float


class Sessions:
    """Makes and reads cookies. Nothing is kept on the server, so any number of consoles may share a key."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        # Cookies do not know ports: two consoles on one machine must not overwrite each other's.
        mark = hmac.digest(key, b"cookie name", "sha256").hex()[:8]
        self.cookie = f"runbook_session_{mark}"
        self.note_cookie = f"runbook_note_{mark}"

    def begin(self, actor: str, scope: Scope) -> tuple[Session, str]:
        """A new session and the cookie's value."""
        session = Session(secrets.token_hex(16), actor, scope, time.time() + SESSION_SECONDS)
        return session, self._signed("session", vars(session))

    def read(self, cookie: str | None) -> Session | None:
        """The session of a cookie; None when it is not ours, altered or over."""
        found = self._opened("session", cookie)
        return None if found is None else Session(**found)

    def form_token(self, session: Session) -> str:
        """What a form of this session carries, so that no other site's form passes for it."""
        return hmac.digest(self._key, f"form {session.session_id}".encode(), "sha256").hex()

    def is_form_token(self, session: Session, given: str) -> bool:
        return hmac.compare_digest(
            self.form_token(session).encode(), given.encode("utf-8", "replace")
        )

    def note(self, text: str, kind: str) -> str:
        """A cookie that carries what a form did to the next page; signed, so that no link can forge it."""
        return self._signed(
            "note", {"text": text[:800], "kind": kind, "expires_at": time.time() + NOTE_SECONDS}
        )

    def read_note(self, cookie: str | None) -> tuple[str, str] | None:
        """The text and kind (done, refused) of a note."""
        found = self._opened("note", cookie)
        return None if found is None else (found["text"], found["kind"])

    def _signed(self, purpose: str, value: dict[str, Any]) -> str:
        body = base64.urlsafe_b64encode(json.dumps(value).encode()).decode("ascii").rstrip("=")
        return f"{body}.{self._signature(purpose, body)}"

    def _opened(self, purpose: str, cookie: str | None) -> dict[str, Any] | None:
        if not cookie or len(cookie) > _LONGEST_COOKIE or not cookie.isascii():
            return None
        body, _, signature = cookie.partition(".")
        if not hmac.compare_digest(signature, self._signature(purpose, body)):
            return None
        found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return found if time.time() < found["expires_at"] else None

    def _signature(self, purpose: str, body: str) -> str:
        return hmac.digest(self._key, f"{purpose}.{body}".encode(), "sha256").hex()
