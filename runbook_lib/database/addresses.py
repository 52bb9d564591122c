"""The database's address while a process runs: its user and password may change, the database may not."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

from pydantic import SecretStr

from runbook_lib.database.connection import normalise_url
from runbook_lib.env_file import EnvFile
from runbook_lib.errors import ConfigurationError
from runbook_lib.settings import Settings, read_settings

log = logging.getLogger(__name__)


def followed_address(
    settings: Settings,
    wanted: Callable[[Settings], SecretStr | None] = Settings.own_tables_url,
) -> Callable[[], str] | None:
    """Answers with the address as `.env` has it now; None where it cannot change while a process runs.

    That is so for settings without a file, and for an address that stands in the process environment.
    """
    address = wanted(settings)
    if address is None or settings.env_file is None:
        return None
    named = "RUNBOOK_DATABASE_URL" if address is settings.runbook_database_url else "DATABASE_URL"
    if os.environ.get(named):
        return None
    return _FollowedAddress(settings, address, wanted)


class _FollowedAddress:
    """Looks at the file's mark, which costs a few microseconds; reads it only after it was written."""

    def __init__(
        self,
        settings: Settings,
        address: SecretStr,
        wanted: Callable[[Settings], SecretStr | None],
    ) -> None:
        assert settings.env_file is not None
        self._file = EnvFile(settings.env_file)
        self._wanted = wanted
        self._url = normalise_url(address.get_secret_value())
        # None: read at the first question, since the file may have changed after the settings were read.
        self._mark: object = None
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            mark = self._file.mark()
            if mark is not None and mark != self._mark:
                self._mark = mark
                self._read()
            return self._url

    def _read(self) -> None:
        try:
            address = self._wanted(read_settings(self._file.path))
            if address is None:
                return
            url = normalise_url(address.get_secret_value())
        except ConfigurationError as error:
            log.warning(
                "The database's address was not read again, the earlier one stays: %s", error
            )
            return
        if url == self._url:
            return
        if not same_database(url, self._url):
            log.warning(
                "The address in %s names another database now. This process stays with its own; "
                "restart it to change.", self._file.path,
            )  # fmt: skip
            return
        self._url = url
        log.info("The database's user or password changed; new connections use it.")


def same_database(one: str, other: str) -> bool:
    """Whether two normalised addresses differ in user and password only."""
    return _place(one) == _place(other)


def _place(url: str) -> tuple[object, ...]:
    parts = urlsplit(url)
    options = sorted(each for each in parse_qsl(parts.query) if each[0] not in ("user", "password"))
    return parts.hostname, parts.port or 5432, parts.path, tuple(options)
