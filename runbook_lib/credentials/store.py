"""Credentials: keys and passwords that may change while a process runs.

A `Source` knows the values; `Credentials` hands them out by name. The source now is the environment
and `.env`; a vault needs only the same two methods.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from runbook_lib import known_secrets
from runbook_lib.errors import ConfigurationError
from runbook_lib.settings import Settings, read_settings

log = logging.getLogger(__name__)

NAMES = (
    "DATABASE_URL",
    "OPENAI_API_KEY",
    "OPENAI_ADMIN_KEY",
    "WORDPRESS_APP_PASSWORD",
)


class Source(Protocol):
    """Where credentials come from."""

    def mark(self) -> object:
        """Something cheap that differs after a value may have changed: a file's time, a row's version."""
        ...

    def read(self) -> Mapping[str, SecretStr]:
        """All values by name, as they are now. Raises a `RunbookError` when they cannot be read."""
        ...


class EnvironmentSource:
    """The process environment, and `.env` where the environment says nothing.

    The environment of a running process cannot change from outside, `.env` can: its values are read
    again when the file was written.
    """

    def __init__(self, env_file: Path) -> None:
        self._env_file = env_file

    def mark(self) -> object:
        try:
            state = self._env_file.stat()
        except OSError:
            return None
        return state.st_mtime_ns, state.st_size, state.st_ino

    def read(self) -> Mapping[str, SecretStr]:
        return credentials_in(read_settings(self._env_file))


class Credentials:
    """The credentials of one process; threads may share it.

    Starts with the values of `settings`. Each value asked for looks at the source's mark first, which
    costs a few microseconds. A source that cannot be read, or holds a value that does not fit (a file
    that is half written), changes nothing: the earlier values stay until it can be read.
    """

    def __init__(self, settings: Settings, source: Source | None = None) -> None:
        if source is None and settings.env_file is not None:
            source = EnvironmentSource(settings.env_file)
        self._source = source
        self._user = settings.wordpress_user
        self._values = dict(credentials_in(settings))
        self._lock = threading.Lock()
        self._mark = source.mark() if source is not None else None
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

    def reader(self, name: str) -> Callable[[], str]:
        """What a client is given: asked for each request, it answers with the present value."""
        return lambda: self.credential(name).get_secret_value()

    def read_again(self) -> bool:
        """Reads the source now, whatever its mark says: after a refused login. True if a value changed."""
        with self._lock:
            return self._read()

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
        except ConfigurationError as error:
            log.warning("Credentials were not read again, the earlier ones stay: %s", error)
            return False
        finally:
            self._mark = mark
        # A credential that vanished is one that is being replaced; the earlier one stays in use.
        changed = {name: value for name, value in values.items() if self._values.get(name) != value}
        for name, value in changed.items():
            user = self._user if name == "WORDPRESS_APP_PASSWORD" else None
            known_secrets.register(value.get_secret_value(), name, user=user)
        self._values = {**self._values, **changed}
        if changed:
            log.info(
                "Credentials changed and are in use from now on: %s", ", ".join(sorted(changed))
            )
        return bool(changed)


def credentials_in(settings: Settings) -> dict[str, SecretStr]:
    """The credentials that these settings hold, by the names of their variables."""
    found = {name: getattr(settings, name.lower()) for name in NAMES}
    return {name: value for name, value in found.items() if value is not None}
