"""Who may come in to the console: the read and the write token, and login links that work once.

The tokens are settings, or are made once under `RUNBOOK_HOME/tokens`. A login link holds a token of its
own, which a browser exchanges for a cookie; it is used up by that, whatever process printed it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from runbook_lib import known_secrets
from runbook_lib.errors import ConfigurationError, CouldNotBeDone
from runbook_lib.settings import Settings

Scope = Literal["read", "write"]
SCOPES: tuple[Scope, ...] = ("read", "write")
# Nobody guesses so many characters, however many guesses they are let.
SHORTEST_CHARACTERS = 20
LINK_SECONDS = 3600
_LONGEST_GIVEN = 512


@dataclass(frozen=True, repr=False)
class Tokens:
    """The two tokens of this workbench. The write token opens everything, the read token reads."""

    read: str
    write: str

    def scope_of(self, given: str) -> Scope | None:
        """What a given token opens. Takes as long for a wrong one as for a right one."""
        scope: Scope | None = None
        for name in SCOPES:
            if _same(given, getattr(self, name)):
                scope = name
        return scope

    @property
    def signing_key(self) -> bytes:
        """What cookies are signed with: replacing a token ends every session."""
        return hmac.digest(self.write.encode(), b"console " + self.read.encode(), "sha256")


@dataclass(frozen=True)
class Login:
    """Whom a login link lets in, and how far."""

    actor: str
    scope: Scope


def load_tokens(settings: Settings) -> Tokens:
    """The tokens that the settings name, else those under `RUNBOOK_HOME`, made when there are none.

    Raises `ConfigurationError` for a token that could be guessed.
    """
    tokens = Tokens(*(_configured(settings, name) or _kept(settings, name) for name in SCOPES))
    if tokens.read == tokens.write:
        raise ConfigurationError(
            "RUNBOOK_READ_TOKEN and RUNBOOK_WRITE_TOKEN are the same: whoever may read could then "
            "change everything. Set two."
        )
    for name in SCOPES:
        known_secrets.register(getattr(tokens, name), f"the {name} token")
    return tokens


def issue_login(settings: Settings, actor: str, scope: Scope = "write") -> str:
    """A new token for a login link: it works once, and for an hour."""
    token = secrets.token_urlsafe(24)
    known_secrets.register(token, "a login link")
    directory = _logins(settings)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    _forget_expired(directory)
    login = {"actor": actor, "scope": scope, "expires_at": time.time() + LINK_SECONDS}
    _write_new(directory / _digest(token), json.dumps(login))
    return token


def redeem_login(settings: Settings, token: str) -> Login | None:
    """Uses a login link's token up; None when it is unknown, used or too old."""
    path = _logins(settings) / _digest(token)
    try:
        found = json.loads(path.read_text("utf-8"))
        # Whoever removes it has it: two who come at the same time are not both let in.
        path.unlink()
    except (OSError, ValueError):
        return None
    if time.time() > found["expires_at"]:
        return None
    return Login(found["actor"], found["scope"])


def token_file(settings: Settings, scope: Scope) -> Path:
    """Where a token that was made stands."""
    return settings.runbook_home / "tokens" / scope


def console_address(settings: Settings) -> str:
    """Where browsers find the console: `RUNBOOK_PUBLIC_URL`, else the address that it listens on."""
    return (settings.runbook_public_url or f"http://{settings.runbook_console_address}").rstrip("/")


def login_link(settings: Settings, actor: str, scope: Scope = "write", to: str = "/") -> str:
    """A link that signs somebody in once.

    The token stands behind `#`: browsers send that to nobody, so no log and no history of requests has it.
    """
    way = f"?to={quote(to)}" if to != "/" else ""
    return f"{console_address(settings)}/login{way}#{issue_login(settings, actor, scope)}"


def keep_console_address(settings: Settings) -> None:
    """Notes where the console listens, for whoever asks for a link from another terminal."""
    path = _address_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(settings.runbook_console_address, "ascii")
    os.replace(draft, path)


def kept_console_address(settings: Settings) -> str | None:
    """Where a console of this `RUNBOOK_HOME` listened last."""
    try:
        return _address_file(settings).read_text("ascii")
    except OSError:
        return None


def _configured(settings: Settings, scope: Scope) -> str | None:
    secret = settings.runbook_read_token if scope == "read" else settings.runbook_write_token
    value = secret.get_secret_value().strip() if secret is not None else ""
    if not value:
        return None
    if len(value) < SHORTEST_CHARACTERS or not value.isascii() or not value.isprintable():
        raise ConfigurationError(
            f"RUNBOOK_{scope.upper()}_TOKEN must be at least {SHORTEST_CHARACTERS} printable ASCII "
            "characters, so that nobody guesses it. Unset it, and one is made under RUNBOOK_HOME."
        )
    return value


def _kept(settings: Settings, scope: Scope) -> str:
    path = token_file(settings, scope)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        _write_new(path, secrets.token_urlsafe(32))
    except FileExistsError:
        pass
    value = path.read_text("ascii").strip()
    if len(value) < SHORTEST_CHARACTERS:
        raise CouldNotBeDone(f"{path} holds no token. Remove it, and a new one is made.")
    return value


def _write_new(path: Path, text: str) -> None:
    """Writes a file whole, for its owner only. Raises `FileExistsError`."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.link(draft, path)
    finally:
        draft.unlink()


def _forget_expired(directory: Path) -> None:
    for path in directory.iterdir():
        try:
            if path.stat().st_mtime < time.time() - 2 * LINK_SECONDS:
                path.unlink()
        except OSError:
            pass  # somebody used it up just now


def _same(given: str, expected: str) -> bool:
    # Digests have one length, so that a comparison tells nothing about the token's.
    return hmac.compare_digest(_digest(given), _digest(expected))


def _digest(token: str) -> str:
    return hashlib.sha256(token[:_LONGEST_GIVEN].encode("utf-8", "surrogateescape")).hexdigest()


def _address_file(settings: Settings) -> Path:
    return settings.runbook_home / "tokens" / "console.address"


def _logins(settings: Settings) -> Path:
    return settings.runbook_home / "tokens" / "logins"
