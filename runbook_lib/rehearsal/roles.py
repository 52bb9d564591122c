"""Ordinary roles of the database, as a worker of its own logs in with: made for a scene, gone after it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import psycopg2

from runbook_lib.database.statements import Statement, load
from runbook_lib.errors import DatabaseUnreachable
from runbook_lib.rehearsal.scene import Scene

_SQL = load("rehearsal_database")
_PASSWORD = "ordinary"
# As long as the name server, the network and the server take together, on a busy machine.
LOGIN_SECONDS = 3


@dataclass(frozen=True)
class Role:
    """A role that may log in, and the address with which it does."""

    name: str
    url: str


@contextmanager
def ordinary_role(scene: Scene) -> Iterator[Role]:
    """A role that may do all with our tables, and owns none of them."""
    name = f"lab_{os.getpid()}_{time.monotonic_ns() % 10**12}"
    scene.execute(_SQL["make_role"], role=name, password=_PASSWORD)
    parts = urlsplit(scene.database.url)
    address = parts._replace(netloc=f"{name}:{_PASSWORD}@{parts.hostname}:{parts.port}")
    try:
        yield Role(name, urlunsplit(address))
    finally:
        # A server of the scene's own may be gone, and takes the role with it.
        with suppress(psycopg2.Error, DatabaseUnreachable):
            scene.execute(_SQL["drop_role"], role=name)


def login_fails_with(url: str, words: str) -> bool:
    """Whether a new session is refused, and these words are in the answer."""
    try:
        psycopg2.connect(url, connect_timeout=LOGIN_SECONDS).close()
    except psycopg2.OperationalError as error:
        return words in str(error)
    return False


def is_refused(url: str, statement: Statement, why: str) -> bool:
    """Whether a new session is refused a statement with a code, or in these words; nothing of it stays."""
    try:
        connection = psycopg2.connect(url, connect_timeout=LOGIN_SECONDS)
    except psycopg2.OperationalError:
        return False
    try:
        connection.cursor().execute(str(statement))
    except psycopg2.Error as error:
        return error.pgcode == why or why in str(error)
    finally:
        connection.close()
    return False
