"""Rotation: staged, tested, activated, in use, retired; no value is shown, and no job suffers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest
from conftest import Server

from runbook_lib.credentials.handles import handle_of
from runbook_lib.database import Database, own_tables
from runbook_lib.env_file import EnvFile
from runbook_lib.pipeline.attempt import Attempt, Completed
from runbook_lib.pipeline.options import WorkerOptions
from runbook_lib.pipeline.reporting import Reporter
from runbook_lib.pipeline.worker import Worker
from runbook_lib.settings import read_settings

FIRST, SECOND = "the-first-password", "the-second-password"


@pytest.fixture
def bot(server: Server, database: Database) -> Iterator[Callable[[str], str]]:
    """A role of its own for the test's database; called with a password it gives the address."""
    name = f"bot_{urlsplit(database.url).path[6:]}"
    server.execute(f"CREATE ROLE {{}} LOGIN SUPERUSER PASSWORD '{FIRST}'", name)
    parts = urlsplit(database.url)
    yield (
        lambda password: f"postgresql://{name}:{password}@{parts.hostname}:{parts.port}{parts.path}"
    )
    server.execute("DROP OWNED BY {}", name)
    server.execute("DROP ROLE {}", name)


@pytest.fixture
def env_file(tmp_path: Path) -> EnvFile:
    return EnvFile(tmp_path / ".env")


@contextmanager
def running_worker(database: Database, handler: Callable[[Attempt], Completed]) -> Iterator[Worker]:
    options = WorkerOptions(concurrency=2, idle_poll_seconds=0.05, sweep_interval_seconds=0.2)
    worker = Worker(database, handler, options, Reporter())
    thread = threading.Thread(target=lambda: worker.run(install_signals=False))
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(30)


def test_open_sessions_stay_and_new_connections_use_the_new_password(
    server: Server, bot: Callable[[str], str], env_file: EnvFile
) -> None:
    env_file.replace("DATABASE_URL", bot(FIRST))
    database = own_tables(read_settings(env_file.path))
    with database.connect() as before:
        server.execute(f"ALTER ROLE {{}} PASSWORD '{SECOND}'", str(urlsplit(bot(FIRST)).username))
        env_file.replace("DATABASE_URL", bot(SECOND))
        with database.connect() as after, before.transaction() as transaction:
            assert after.opened_with == bot(SECOND)
            assert transaction.value("SELECT 1") == 1
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(bot(FIRST))


def test_another_database_is_not_followed(
    bot: Callable[[str], str], env_file: EnvFile, database: Database
) -> None:
    env_file.replace("DATABASE_URL", bot(FIRST))
    opened = own_tables(read_settings(env_file.path))
    env_file.replace("DATABASE_URL", database.beside("postgres").url)
    assert opened.url == bot(FIRST)
    env_file.path.write_text("DATABASE_URL=nonsense\n")
    assert opened.url == bot(FIRST)


def test_a_worker_changes_over_between_two_turns_and_says_so_by_handle(
    server: Server, bot: Callable[[str], str], env_file: EnvFile, database: Database
) -> None:
    """The job that runs meanwhile is finished, by the same worker, in its first attempt."""
    env_file.replace("DATABASE_URL", bot(FIRST))
    begun, finish = threading.Event(), threading.Event()

    def handle(_: Attempt) -> Completed:
        begun.set()
        assert finish.wait(30)
        return Completed()

    with database.transaction() as transaction:
        transaction.run("INSERT INTO content_jobs (topic) VALUES ('Gardens')")
    with running_worker(own_tables(read_settings(env_file.path)), handle) as worker:
        assert begun.wait(30)
        assert _handle(database, worker) == handle_of("DATABASE_URL", bot(FIRST))
        server.execute(f"ALTER ROLE {{}} PASSWORD '{SECOND}'", str(urlsplit(bot(FIRST)).username))
        env_file.replace("DATABASE_URL", bot(SECOND))
        expected = handle_of("DATABASE_URL", bot(SECOND))
        _until(lambda: _handle(database, worker) == expected)
        finish.set()
        _until(lambda: _statuses(database) == ["completed"])
    with database.transaction() as transaction:
        assert transaction.value("SELECT max(attempt) FROM content_jobs") == 1
        assert transaction.value("SELECT count(*) FROM credential_handles") == 2
        everything = str(transaction.rows("SELECT * FROM workers"))
    assert SECOND not in everything


def _handle(database: Database, worker: Worker) -> str | None:
    with database.transaction() as transaction:
        row = transaction.row("SELECT credentials FROM workers WHERE worker = %(name)s", name=worker.name)  # fmt: skip
    return row.credentials.get("DATABASE_URL", {}).get("handle") if row else None


def _statuses(database: Database) -> list[str]:
    with database.transaction() as transaction:
        return [row.status for row in transaction.rows("SELECT status FROM content_jobs")]


def _until(condition: Callable[[], bool], seconds: float = 30) -> None:
    waited = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        waited.wait(0.05)
    pytest.fail(f"it did not happen within {seconds:g} s")
