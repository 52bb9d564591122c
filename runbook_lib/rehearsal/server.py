"""An embedded PostgreSQL that belongs to one scene: it may be stopped, killed, frozen, limited or filled.

It starts from a copy of a template that was set up once, so a scene has it within a second. The shared server
of the laboratory must never meet any of this.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg2

from runbook_lib.database import embedded
from runbook_lib.database.binaries import find_binaries
from runbook_lib.database.connection import Database
from runbook_lib.database.disposable import NOTHING_SURVIVES, DisposableServer
from runbook_lib.database.ordinary_user import ordinary_user
from runbook_lib.database.schema import migrate
from runbook_lib.database.server import Server
from runbook_lib.database.statements import Statement, load
from runbook_lib.errors import ServiceNotStarted

_SQL = load("rehearsal_database")
# Few connections, so that they can be used up; prepared transactions, so that one can be forgotten.
OWN_SETTINGS: Mapping[str, str] = {
    **NOTHING_SURVIVES, "max_connections": "40", "max_prepared_transactions": "4", "shared_buffers": "32MB",
}  # fmt: skip
_FOLDER = "postgres"
# Says which database has our schema, where it is not the server's first.
_DATABASE = "database"


class SceneServer:
    """One PostgreSQL under this process, in a folder of its own."""

    def __init__(self, home: Path, settings: Mapping[str, str] | None = None) -> None:
        self.home = home
        self._settings = {**OWN_SETTINGS, **(settings or {})}
        self._server = self._make(self._settings)
        self._port = 0
        self.pid = 0
        # What is to be given back once the server has been stopped for good.
        self.at_end = ExitStack()

    @property
    def url(self) -> str:
        """The address with its password; it stays the same when the server is started again."""
        named = self.home / _FOLDER / _DATABASE
        name = named.read_text() if named.exists() else embedded.DATABASE
        address = embedded.address(self.home, {"port": self._port})
        return urlunsplit(urlsplit(address)._replace(path=f"/{name}"))

    @property
    def data(self) -> Path:
        return embedded.data_directory(self.home / _FOLDER)

    def start(
        self, settings: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
    ) -> None:  # fmt: skip
        """Starts it, with these settings and this environment from now on. Raises `ServiceNotStarted`."""
        if settings or environment:
            self._settings = {**self._settings, **(settings or {})}
            self._server = self._make(self._settings, environment)
        state = self._server.start()
        self._port, self.pid = int(state["port"]), int(state["postmaster_pid"])

    def stop(self) -> None:
        """As an administrator does it: every session is ended, then the server."""
        self.thaw()
        self._server.stop()

    def restart(
        self, settings: Mapping[str, str] | None = None, environment: Mapping[str, str] | None = None
    ) -> None:  # fmt: skip
        self.stop()
        self.start(settings, environment)

    def kill(self) -> None:
        """As the system does it when memory is short: nobody is told."""
        os.kill(self.pid, signal.SIGKILL)
        self._server.stop()  # takes note that it is gone

    def freeze(self) -> None:
        """The postmaster stands still: sessions that are open go on, new ones wait for ever."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def crash(self) -> None:
        """Kills the process of a session: the server ends all others too, and recovers."""
        with suppress(psycopg2.Error):
            connection = psycopg2.connect(self.url, application_name="a program that is killed")
            try:
                os.kill(connection.info.backend_pid, signal.SIGKILL)
                connection.cursor().execute(str(_SQL["is_there"]))
            finally:
                connection.close()

    def become_standby(self) -> None:
        """Starts it again as a standby that follows nobody."""
        self.stop()
        self._standby_signal.touch()
        self.start()

    def become_primary(self) -> None:
        """Starts it again as what it was."""
        self.stop()
        self._standby_signal.unlink(missing_ok=True)
        self.start()

    @property
    def _standby_signal(self) -> Path:
        return self.data / "standby.signal"

    def outside_transactions(self, statement: Statement, **parameters: Any) -> None:
        """A statement that cannot run inside a transaction."""
        connection = psycopg2.connect(self.url)
        connection.autocommit = True
        try:
            connection.cursor().execute(str(statement), parameters)
        finally:
            connection.close()

    def give(self, path: Path) -> None:
        """Makes the server's account the owner of a folder."""
        ordinary_user(self.data).give(path)

    def logged(self, words: str) -> int:
        """How often these words stand in the server's log."""
        logs = (self.data / "log").glob("*.log")
        return sum(log.read_text("utf-8", "replace").count(words) for log in logs)

    def listens(self, timeout_seconds: float = 1) -> bool:
        """Whether somebody takes connections at its port: asked of the port, and of nothing else."""
        address = urlsplit(self.url)
        try:
            with socket.create_connection((address.hostname, address.port), timeout_seconds):
                return True
        except OSError:
            return False

    def _make(
        self, settings: Mapping[str, str], environment: Mapping[str, str] | None = None
    ) -> Server:
        directory = self.home / _FOLDER
        binaries = find_binaries(embedded.data_directory(directory))
        return Server(directory, binaries, settings, environment)


def make_template(home: Path) -> Path:
    """A folder with a server that has our schema and does not run: what scenes copy."""
    (home / _FOLDER).mkdir(parents=True)
    server = SceneServer(home)
    server.start()
    try:
        migrate(Database(server.url))
    finally:
        server.stop()
    return home


def template_of(running: DisposableServer, database: Database, home: Path) -> Path:
    """The same from a server that runs: its data as they are, which takes no set-up. `database` has our schema.

    Raises `ServiceNotStarted` when they cannot be copied.
    """
    directory = home / _FOLDER
    directory.mkdir(parents=True)
    binaries = find_binaries()
    address = urlsplit(running.url)
    copied = subprocess.run(
        [
            binaries.program("pg_basebackup"), "--pgdata", str(embedded.data_directory(directory)), "--no-sync",
            "--checkpoint=fast", "--wal-method=fetch", "--no-manifest",
            "--host", str(address.hostname), "--port", str(address.port), "--username", str(address.username),
        ],
        env={**os.environ, "PGPASSWORD": address.password or ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if copied.returncode:
        raise ServiceNotStarted(f"The server could not be copied: {copied.stderr.strip()}")
    shutil.copy(embedded.password_file(running.home / _FOLDER), embedded.password_file(directory))
    (directory / _DATABASE).write_text(urlsplit(database.url).path[1:])
    # Once, so that no copy has to recover what the backup left to do.
    server = SceneServer(home)
    server.start()
    server.stop()
    return home


@contextmanager
def own_server(home: Path, template: Path | None = None) -> Iterator[SceneServer]:
    """A server in an empty folder, as the template is, or set up anew; stopped and removed at the end."""
    if template is None:
        make_template(home)
    else:
        shutil.copytree(template / _FOLDER, home / _FOLDER, symlinks=True)
        (home / _FOLDER / "port").unlink(missing_ok=True)
    server = SceneServer(home)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        server.at_end.close()
        shutil.rmtree(home, ignore_errors=True)
