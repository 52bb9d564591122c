"""Credentials: keys and passwords that may change while a process runs.

A `Source` knows the values; `Credentials` hands them out by name. Sources are the environment with
`.env`, and Supabase Vault (`vault.py`); `RUNBOOK_SECRET_STORE` says which.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import SecretStr

from runbook_lib import known_secrets
from runbook_lib.credentials.handles import handle_of
from runbook_lib.credentials.names import NAMES
from runbook_lib.env_file import EnvFile
from runbook_lib.errors import ConfigurationError, RunbookError
from runbook_lib.settings import Settings, read_settings

log = logging.getLogger(__name__)

# The address of the embedded server is made by itself, and is nobody's credential.
EMBEDDED = "embedded"
ADDRESS_FROM = "RUNBOOK_DATABASE_URL_FROM"
_NEVER_READ = object()
ENVIRONMENT, ENV_FILE, VAULT = "environment", ".env", "vault"


class Source(Protocol):
    """Where credentials come from."""

    def mark(self) -> object:
        """Something cheap that differs after a value may have changed: a file's time, a row's version."""
        ...

    def read(self) -> Mapping[str, SecretStr]:
        """All values by name, as they are now. Raises a `RunbookError` when they cannot be read."""
        ...

    def origin(self, name: str) -> str:
        """Where this source has the value from. What comes from the environment cannot change."""
        ...


class EnvironmentSource:
    """The process environment, and `.env` where the environment says nothing.

    The environment of a running process cannot change from outside, `.env` can: its values are read
    again when the file was written.
    """

    def __init__(self, env_file: Path) -> None:
        self._file = EnvFile(env_file)

    def mark(self) -> object:
        return self._file.mark()

    def read(self) -> Mapping[str, SecretStr]:
        return credentials_in(read_settings(self._file.path))

    def origin(self, name: str) -> str:
        return origin_of(name)


@dataclass(frozen=True)
class InUse:
    """A credential as a process uses it. `used_at`: when it was last handed to a request (Unix time)."""

    handle: str
    origin: str
    used_at: float | None = None

    def as_dictionary(self) -> dict[str, Any]:
        return {"handle": self.handle, "origin": self.origin, "used_at": self.used_at}


class Credentials:
    """The credentials of one process; threads may share it.

    Starts with the values of `settings`. Each value asked for looks at the source's mark first, which
    costs a few microseconds. A source that cannot be read, or holds a value that does not fit (a file
    that is half written), changes nothing: the earlier values stay until it can be read.
    """

    def __init__(self, settings: Settings, source: Source | None = None) -> None:
        self._source = source if source is not None else source_of(settings)
        self._user = settings.wordpress_user
        self._values = dict(credentials_in(settings))
        self._used_at: dict[str, float] = {}
        self._lock = threading.Lock()
        # Differs from every mark: the source may have changed after the settings were read.
        self._mark: object = _NEVER_READ
        settings.make_secrets_known()

    def credential(self, name: str) -> SecretStr:
        """The present value. Raises `ConfigurationError` when it is not set, `ValueError` for an unknown name."""
        if name not in NAMES:
            raise ValueError(f"{name} is not a credential; there are {', '.join(NAMES)}.")
        self._follow()
        value = self._values.get(name)
        if value is None:
            raise ConfigurationError(f"{name} is not set. Set it in the environment or in .env.")
        return value

    def reader(self, name: str) -> CredentialReader:
        """What a client is given: asked for each request, it answers with the present value."""
        return CredentialReader(self, name)

    def read_again(self) -> bool:
        """Reads the source now, whatever its mark says: after a refused login. True if a value changed."""
        with self._lock:
            return self._read()

    def handed_out(self, name: str) -> None:
        """Notes that a request is made with the present value."""
        self._used_at[name] = time.time()

    def in_use(self, *names: str) -> dict[str, InUse]:
        """Of these names (all, if none is given) those that are set: handle, origin and last use."""
        self._follow()
        return {
            name: InUse(
                handle_of(name, value.get_secret_value()), self._origin(name), self._used_at.get(name)
            )
            for name, value in self._values.items()
            if (not names or name in names) and self._origin(name) != EMBEDDED
        }  # fmt: skip

    def _origin(self, name: str) -> str:
        return self._source.origin(name) if self._source is not None else ENVIRONMENT

    def _follow(self) -> None:
        if self._source is None or self._source.mark() == self._mark:
            return
        with self._lock:
            if self._source.mark() != self._mark:
                self._read()

    def _read(self) -> bool:
        if self._source is None:
            return False
        # The mark is taken before the values: a write in between is then seen the next time.
        mark = self._source.mark()
        try:
            values = dict(self._source.read())
        except RunbookError as error:
            log.warning("Credentials were not read again, the earlier ones stay: %s", error)
            return False
        finally:
            self._mark = mark
        # A credential that vanished is one that is being replaced; the earlier one stays in use.
        changed = {name: value for name, value in values.items() if self._values.get(name) != value}
        for name, value in changed.items():
            user = self._user if name == "WORDPRESS_APP_PASSWORD" else None
            known_secrets.register(value.get_secret_value(), name, user=user)
        for name in changed:
            self._used_at.pop(name, None)
        self._values = {**self._values, **changed}
        if changed:
            log.info(
                "Credentials changed and are in use from now on: %s", ", ".join(sorted(changed))
            )
        return bool(changed)


class CredentialReader:
    """Answers with one credential's present value each time it is called."""

    def __init__(self, credentials: Credentials, name: str) -> None:
        self._credentials = credentials
        self._name = name

    def __call__(self) -> str:
        value = self._credentials.credential(self._name).get_secret_value()
        self._credentials.handed_out(self._name)
        return value

    def after_refusal(self) -> str:
        """The value after the store was read again, since the one before was refused."""
        self._credentials.read_again()
        return self()


def after_refusal(reader: Callable[[], str]) -> str:
    """What a client asks when a login was refused: a store may have changed without its mark telling yet."""
    return reader.after_refusal() if isinstance(reader, CredentialReader) else reader()


def source_of(settings: Settings) -> Source | None:
    """The source that the settings name; None for settings that were made by hand."""
    if settings.runbook_secret_store == "vault":
        from runbook_lib.credentials.vault import VaultSource

        return VaultSource(settings)
    return EnvironmentSource(settings.env_file) if settings.env_file is not None else None


def origin_of(name: str) -> str:
    """Where a process has a credential from that is not in a vault: its environment wins over `.env`.

    A kernel is given the database's address by its runner, which says where that had it from.
    """
    if name == "DATABASE_URL" and (told := os.environ.get(ADDRESS_FROM)):
        return told
    return ENVIRONMENT if os.environ.get(name) else ENV_FILE


def credentials_in(settings: Settings) -> dict[str, SecretStr]:
    """The credentials that these settings hold, by the names of their variables."""
    found = {name: getattr(settings, name.lower()) for name in NAMES}
    return {name: value for name, value in found.items() if value is not None}
