"""A server to throw away: the embedded PostgreSQL under a home of its own, gone at the end.

For scenes, benchmarks and trials.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit, urlunsplit

import psycopg2

from runbook_lib.database import embedded
from runbook_lib.database.connection import Database
from runbook_lib.database.schema import migrate

_NUMBERS = count(1)
# For whoever measures nothing on it: it does not wait for the disk.
NOTHING_SURVIVES = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


class DisposableServer:
    """A running server with databases that nobody will miss."""

    def __init__(self, url: str, home: Path) -> None:
        self.url = url
        self.home = home

    def new_database(self, *, migrated: bool = True) -> Database:
        """An empty database; with the pipeline's schema unless told otherwise."""
        name = f"scratch_{os.getpid()}_{next(_NUMBERS)}"
        self.run(f"CREATE DATABASE {name}")
        database = self.database(name)
        if migrated:
            migrate(database)
        return database

    def copy(self, template: Database, name: str) -> Database:
        """A database that is like another one, which nobody may use meanwhile."""
        self.run(f"CREATE DATABASE {name} TEMPLATE {urlsplit(template.url).path[1:]}")
        return self.database(name)

    def drop(self, name: str) -> None:
        """Removes a database; whoever still uses it is thrown out."""
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def database(self, name: str) -> Database:
        return Database(urlunsplit(urlsplit(self.url)._replace(path=f"/{name}")))

    def run(self, statement: str) -> None:
        """One statement outside a transaction, on the server's first database."""
        connection = psycopg2.connect(self.url)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()


@contextmanager
def disposable_server(
    server_settings: Mapping[str, str] | None = None, home: Path | None = None
) -> Iterator[DisposableServer]:
    """Starts a server and stops it at the end; nothing of the caller's is touched.

    Whoever names a `home` removes it, too.
    """
    with ExitStack() as stack:
        if home is None:
            home = Path(stack.enter_context(TemporaryDirectory(prefix="runbook-disposable-")))
        url, hold = embedded.acquire(home, server_settings=server_settings)
        try:
            yield DisposableServer(url, home)
        finally:
            hold.release()
