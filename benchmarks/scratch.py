"""A scratch PostgreSQL for a benchmark: the embedded server under a home of its own, databases made from the schema."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2

from runbook_lib.database.connection import Database

_NUMBERS = count(1)


class Server:
    """The server of one benchmark run; every figure of the run is measured on it."""

    def __init__(self, url: str, home: Path) -> None:
        self.url = url
        self.home = home

    def new_database(self, *, migrated: bool = True) -> Database:
        """An empty database; with the pipeline's schema unless told otherwise."""
        name = f"scratch_{next(_NUMBERS)}"
        self.run(f"CREATE DATABASE {name}")
        database = Database(urlunsplit(urlsplit(self.url)._replace(path=f"/{name}")))
        if migrated:
            from runbook_lib.database import schema

            schema.migrate(database)
        return database

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
def server() -> Iterator[Server]:
    """Starts the embedded server and stops it at the end; nothing of the caller's is touched."""
    from runbook_lib.database import embedded

    with tempfile.TemporaryDirectory(prefix="runbook-benchmark-") as directory:
        home = Path(directory)
        url, hold = embedded.acquire(home)
        try:
            yield Server(url, home)
        finally:
            hold.release()


def add_topics(database: Database, count: int) -> None:
    """`count` pending jobs."""
    with database.transaction(deadline_seconds=600) as transaction:
        transaction.run(
            "INSERT INTO content_jobs (topic) SELECT 'Topic ' || number FROM generate_series(1, %(count)s) AS number",
            count=count,
        )
