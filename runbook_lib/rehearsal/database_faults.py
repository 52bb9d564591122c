"""Faults of the database: unreachable, locked, limited, changed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg2
from pydantic import SecretStr

from runbook_lib.database.statements import Statement, load
from runbook_lib.rehearsal.faults import Fault, Stage, at_once, executed
from runbook_lib.rehearsal.scene import Scene
from runbook_lib.sandbox.proxy import NetworkProxy

_SQL = load("rehearsal_database")
_PASSWORD = "ordinary"


def _locked(statement: Statement, seconds: float) -> Stage:
    """A session that does this in a transaction and then sits there."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        scene.add(3)
        other = psycopg2.connect(scene.database.url, application_name="a forgotten console")
        try:
            with other.cursor() as cursor:
                cursor.execute(str(statement))
            time.sleep(seconds)
            yield
        finally:
            other.close()

    return stage


def _elsewhere(change: Callable[[str], str]) -> Stage:
    """The database's address as whoever looks has it."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        scene.looking = scene.looking.model_copy(
            update={"database_url": SecretStr(change(scene.database.url))}
        )
        yield

    return stage


def _proxied(fault: str) -> Stage:
    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        address = urlsplit(scene.database.url)
        with NetworkProxy(address.hostname or "", address.port or 0) as proxy:
            proxy.set_fault(fault)
            url = scene.database.url.replace(f":{address.port}/", f":{proxy.port}/")
            scene.looking = scene.looking.model_copy(update={"database_url": SecretStr(url)})
            yield

    return stage


def _as_role(then: Statement) -> Stage:
    """Whoever looks is an ordinary role, to which something then happens."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        name = f"lab_{os.getpid()}_{int(time.time() * 1000) % 10**9}"
        address = urlsplit(scene.database.url)
        url = f"postgresql://{name}:{_PASSWORD}@{address.hostname}:{address.port}{address.path}"
        scene.execute(_SQL["make_role"], role=name, password=_PASSWORD)
        scene.add(3)
        scene.looking = scene.looking.model_copy(update={"database_url": SecretStr(url)})
        held = [psycopg2.connect(url, application_name="runbook-worker") for _ in range(2)]
        try:
            scene.execute(then, role=name)
            yield
        finally:
            for each in held:
                each.close()
            scene.execute(_SQL["drop_role"], role=name)

    return stage


@contextmanager
def _slow_claims(scene: Scene) -> Iterator[None]:
    scene.add()
    scene.execute(_SQL["many_jobs"], count=20_000)
    scene.execute(_SQL["drop_claim_index"])
    scene.execute(_SQL["analyze_jobs"])
    yield


DATABASE_FAULTS: tuple[Fault, ...] = (
    Fault("db-down", ("database-down",), _elsewhere(lambda url: "postgresql://nobody:none@127.0.0.1:1/none"), at_once),
    Fault("db-hung", ("database-hung",), _proxied("stall"), at_once),
    Fault("db-black-hole", ("database-hung",), _proxied("black_hole"), at_once),
    Fault("db-password", ("database-password-wrong",), _as_role(_SQL["change_password"]), at_once, own_workers=True),
    Fault("db-role-limit", ("database-role-or-pooler-limit",), _as_role(_SQL["limit_role"]), at_once, own_workers=True),
    Fault("db-table-locked", ("database-table-locked",), _locked(_SQL["lock_jobs"], 2), at_once),
    Fault("db-idle-transaction", ("database-rows-locked-by-idle-transaction",), _locked(_SQL["lock_pending_rows"], 6), at_once, own_workers=True),
    Fault("db-grant", ("database-grant-revoked",), _as_role(_SQL["revoke_update"]), at_once, own_workers=True),
    Fault("db-read-only", ("database-read-only",), executed(_SQL["read_only_database"]), at_once, own_workers=True),
    Fault("db-column-renamed", ("database-schema-drift",), executed(_SQL["rename_column"]), at_once, own_workers=True),
    Fault("db-status-rule", ("database-schema-drift",), executed(_SQL["drop_status_rule"], _SQL["other_status_rule"]), at_once, own_workers=True),
    Fault("db-index", ("database-index-missing",), _slow_claims, at_once),
)  # fmt: skip
