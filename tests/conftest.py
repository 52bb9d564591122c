"""A real PostgreSQL for the tests, a database of its own for each, and nothing of the caller's."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import psycopg2.sql
import pytest

from runbook_lib import known_secrets
from runbook_lib.database import Database, embedded, schema
from runbook_lib.settings import CALLER_PREFIXES, Settings, load_settings

pytest_plugins = ["wordpress_site", "running_sandbox", "running_console", "roles"]

TEMPLATE = "migrated"
# Its log is written within milliseconds; a busy machine gets more.
LOG_SECONDS = 30
IN_MEMORY, IN_MEMORY_PREFIX, ROOM_BYTES = Path("/dev/shm"), "runbook-tests-", 4_000_000_000
# Nothing here has to survive a crash of the machine.
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_checkpoints": "off",
}


@pytest.fixture(scope="session", autouse=True)
def _nothing_of_the_callers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees the caller's database, keys, site or `.env`. PG_BINDIR names the server to test.

    One fork server serves the runs of all tests, whatever their RUNBOOK_HOME.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(CALLER_PREFIXES) and name != "PG_BINDIR":
                patch.delenv(name)
        patch.setenv("RUNBOOK_ENV_FILE", "")
        patch.setenv("RUNBOOK_FORK_SERVER", str(shared / "fork_server"))
        yield


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A RUNBOOK_HOME of the test's own."""
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def _fresh_settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test reads its settings anew, and its RUNBOOK_HOME is not the checkout's."""
    monkeypatch.setenv("RUNBOOK_HOME", str(home))
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


@pytest.fixture(autouse=True)
def _own_known_secrets() -> Iterator[None]:
    """What a test made known is forgotten after it: a later one would find it in files of its own."""
    forms, longest_first = dict(known_secrets._forms), known_secrets._longest_first
    yield
    with known_secrets._lock:
        known_secrets._forms, known_secrets._longest_first = forms, longest_first


@dataclass(frozen=True)
class Server:
    """The test run's PostgreSQL; all processes of the run share it."""

    url: str
    directory: Path

    def address(self, database: str) -> str:
        """Where a database of this server is, with its password."""
        return self.url.removesuffix(embedded.DATABASE) + database

    def execute(self, statement: str, *names: str) -> None:
        """Runs a statement outside a transaction; `{}` in it are filled with quoted names."""
        raw = psycopg2.connect(self.address("postgres"))
        raw.autocommit = True
        try:
            with raw.cursor() as cursor:
                identifiers = [psycopg2.sql.Identifier(name) for name in names]
                cursor.execute(psycopg2.sql.SQL(statement).format(*identifiers))
        finally:
            raw.close()

    def log(self) -> str:
        """All that the server logged so far. A process of its own writes the log, so it may be behind the
        statements: a line that is asked for now has to stand in it before the log counts as read."""
        mark = uuid.uuid4().hex
        self.execute(f"DO $$ BEGIN RAISE LOG 'written up to {mark}'; END $$")
        end = time.monotonic() + LOG_SECONDS
        while mark not in (log := self._log_files()):
            assert time.monotonic() < end, "the server's log stays behind its statements"
            time.sleep(0.02)
        return log

    def _log_files(self) -> str:
        files = self.directory.rglob("postgresql-*.log")
        return "".join(file.read_text("utf-8", "replace") for file in files)

    def exists(self, database: str) -> bool:
        raw = psycopg2.connect(self.address("postgres"))
        try:
            with raw.cursor() as cursor:
                cursor.execute("SELECT FROM pg_database WHERE datname = %s", (database,))
                return cursor.fetchone() is not None
        finally:
            raw.close()

    @contextmanager
    def new_database(self, template: str = "template0") -> Iterator[str]:
        """The name of a database that is dropped at the end."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        # Copying the files of a small template takes a third of the time of writing it to the log.
        self.execute("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, template)
        try:
            yield name
        finally:
            self.execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)


def place_for_databases(base: Path) -> Path:
    """In memory where there is room: file systems that delete and make a thousand databases' files take a
    quarter of the whole run for it. Nothing that has to last is there; what a killed run left is removed."""
    if not os.access(IN_MEMORY, os.W_OK) or shutil.disk_usage(IN_MEMORY).free < ROOM_BYTES:
        return base / "server"
    for left in IN_MEMORY.glob(f"{IN_MEMORY_PREFIX}*"):
        if not embedded.server(left).status().running and time.time() - left.stat().st_mtime > 3600:
            shutil.rmtree(left, ignore_errors=True)
    name = hashlib.sha256(str(base).encode()).hexdigest()[:16]
    return IN_MEMORY / f"{IN_MEMORY_PREFIX}{name}"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server, shared with the other processes of a run under pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    shared = place_for_databases(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)
    url, hold = embedded.acquire(shared, server_settings=FAST)
    yield Server(url, shared)
    hold.release()
    process = embedded.server(shared)
    if not process.status().held and process.wait_until_stopped(30):
        shutil.rmtree(shared, ignore_errors=True)


@pytest.fixture(scope="session")
def _template(server: Server) -> str:
    """A database that was migrated once, to be copied for each test."""
    with (server.directory / "template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not server.exists(TEMPLATE):
            server.execute("CREATE DATABASE {}", "being_migrated")
            schema.migrate(Database(server.address("being_migrated")))
            server.execute("ALTER DATABASE {} RENAME TO {}", "being_migrated", TEMPLATE)
    return TEMPLATE


@pytest.fixture
def new_database(server: Server, _template: str) -> Iterator[Callable[..., Database]]:
    """Makes databases for one test: `new_database()` migrated, `new_database(migrated=False)` empty."""
    with ExitStack() as stack:

        def make(*, migrated: bool = True) -> Database:
            name = stack.enter_context(server.new_database(_template if migrated else "template0"))
            return Database(server.address(name))

        yield make


@pytest.fixture
def database(new_database: Callable[..., Database]) -> Database:
    """A migrated database of the test's own."""
    return new_database()


@pytest.fixture
def settings(database: Database, home: Path) -> Settings:
    """Settings for the test's database and home; both providers are the sandbox's."""
    return Settings(database_url=database.url, runbook_home=home)
