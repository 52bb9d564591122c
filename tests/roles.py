"""Ordinary database roles for the tests: made for one test, and dropped with all that they own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from runbook_lib.database import Database

MakeRole = Callable[..., Database]


@pytest.fixture
def make_role(database: Database) -> Iterator[MakeRole]:
    """Logs in to the test's database as a new role; `{role}` in the grants is its name."""
    made: list[str] = []

    def make(*grants: str, options: str = "LOGIN") -> Database:
        name = f"role_{uuid.uuid4().hex[:10]}"
        _run(database, f"CREATE ROLE {name} PASSWORD 'ordinary' {options}")
        made.append(name)
        _run(database, *(grant.format(role=name) for grant in grants))
        url = urlsplit(database.url)
        return Database(f"postgresql://{name}:ordinary@{url.hostname}:{url.port}{url.path}")

    yield make
    for name in made:
        _run(database, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def name_of(database: Database) -> str:
    """The role that an address logs in as."""
    return str(urlsplit(database.url).username)


def _run(database: Database, *statements: str) -> None:
    with database.transaction() as transaction:
        for statement in statements:
            transaction.run(statement.replace("%", "%%"))
