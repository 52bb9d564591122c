"""The embedded server's supervisor: `python -m runbook_lib.database.server DIRECTORY BINARIES [name=value …]`.

PostgreSQL is its child and dies with it. TCP on the loopback address only, no socket in the file
system, password by SCRAM; the password is generated and stands in no argument list.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from runbook_lib.database.binaries import Binaries, look_at
from runbook_lib.database.connection import Database
from runbook_lib.database.embedded import DATABASE, USER, address, data_directory, password_file
from runbook_lib.database.ordinary_user import ordinary_user
from runbook_lib.database.statements import load
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import ServiceNotStarted
from runbook_lib.processes import State, serve

START_SECONDS = 60
STOP_SECONDS = 30
LOOK_SECONDS = 0.02
# Below the range from which systems give out ports for outgoing connections: the port stays ours
# between two runs, and while PostgreSQL restarts.
PORTS = range(20_000, 32_000)
PRELOADED = ("pg_stat_statements", "auto_explain")

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
    "track_io_timing": "on",
    # One file a weekday, written over after a week.
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgresql-%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_size": "0",
    "log_line_prefix": "%m [%p] %q%a ",
    "log_lock_waits": "on",
    # Values in statements are topics and articles: they have no place in a log.
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}
EXPLAINED: Mapping[str, str] = {"auto_explain.log_min_duration": "1s"}

# Reads until the supervisor is gone, then stops PostgreSQL: for systems that cannot tie a child's
# life to its parent's.
_GUARD = "import os, signal, sys; sys.stdin.read(); os.kill(int(sys.argv[1]), signal.SIGINT)"


class Server:
    """One PostgreSQL under this process; `environment` is what it gets beside this process's own."""

    def __init__(
        self, directory: Path, binaries: Binaries, settings: Mapping[str, str],
        environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._environment = environment or {}
        self._directory = directory
        self._data = data_directory(directory)
        self._binaries = binaries
        self._settings = settings
        self._user = ordinary_user(self._data)
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def start(self) -> State:
        """Starts PostgreSQL, with a new data folder the first time; returns once it can be used.

        Raises `ServiceNotStarted`.
        """
        self._make_reachable()
        self._end_orphan()
        if not self._data.exists():
            self._make_data()
        self._write_settings()
        port = self._start_on_a_port(Deadline.after(START_SECONDS))
        self._make_database(port)
        assert self._process is not None
        return {
            "port": port,
            "version": self._binaries.version,
            "binaries": str(self._binaries.directory),
            "postmaster_pid": self._process.pid,
        }

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Ends all sessions and stops PostgreSQL, roughly if it does not stop in time."""
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
        if self._process is None:
            return
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if self.alive():
                self._process.send_signal(number)
            try:
                self._process.wait(STOP_SECONDS)
                return
            except subprocess.TimeoutExpired:
                continue

    def _make_reachable(self) -> None:
        if self._user.account is None:
            return
        self._directory.chmod(0o711)
        self._user.must_reach(self._directory)
        self._user.must_reach(self._binaries.directory)
        if self._data.exists() and self._data.stat().st_uid != self._user.account.pw_uid:
            self._user.give(self._data)

    def _end_orphan(self) -> None:
        """Stops a server on our data that lost its supervisor before its life was tied to it."""
        pid = self._postmaster_file()[0]
        if not pid.isdigit():
            return
        import psutil

        deadline = Deadline.after(STOP_SECONDS)
        try:
            process = psutil.Process(int(pid))
            if not process.name().startswith("postgres"):
                return
            if Path(process.cwd()) != self._data.resolve():
                return
            process.send_signal(signal.SIGINT)
            while process.status() != psutil.STATUS_ZOMBIE and not deadline.passed():
                time.sleep(LOOK_SECONDS)
        except psutil.Error:
            return

    def _make_data(self) -> None:
        """Initialises beside its place and moves it there when it is whole."""
        new = self._data.with_name("data.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        password = _new_password(self._directory)
        given = new.with_name("password.new")
        try:
            _write_secret(given, password)
            self._user.give(given)
            self._user.give(new)
            if not any(self._initialise(new, given, locale) for locale in self._locales()):
                raise ServiceNotStarted("initdb failed; what it printed stands above.")
        finally:
            given.unlink(missing_ok=True)
        new.rename(self._data)

    def _locales(self) -> list[list[str]]:
        if self._binaries.major >= 17:
            return [["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]]
        return [["--locale=C.UTF-8"], ["--locale=C"]]

    def _initialise(self, new: Path, password: Path, locale: list[str]) -> bool:
        command = [
            *self._user.prefix,
            self._binaries.program("initdb"),
            f"--pgdata={new}",
            f"--username={USER}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--data-checksums",
            *locale,
            *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
        ]
        return subprocess.run(command, check=False, **self._user.options()).returncode == 0  # type: ignore[call-overload]

    def _write_settings(self) -> None:
        libraries = [name for name in PRELOADED if self._binaries.has_library(name)]
        settings = {
            **SETTINGS,
            "shared_preload_libraries": ",".join(libraries),
            **(EXPLAINED if "auto_explain" in libraries else {}),
            **self._settings,
        }
        ours = self._data / "runbook.conf"
        lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
        ours.write_text(
            "# Written anew at each start; ALTER SYSTEM stands over it.\n" + "".join(lines)
        )
        main = self._data / "postgresql.conf"
        if "include 'runbook.conf'" not in main.read_text():
            with main.open("a") as file:
                file.write("\ninclude 'runbook.conf'\n")
        self._user.give(self._data)

    def _start_on_a_port(self, deadline: Deadline) -> int:
        """Starts PostgreSQL on the port of the last run, or on another if that is taken.

        After PostgreSQL was killed its sessions take a moment to notice, and until then a new one
        refuses the shared memory: so that is tried again.
        """
        restarted = self._process is not None
        while True:
            port = self._port()
            self._launch(port)
            if self._becomes_ready(deadline):
                _write_secret(self._directory / "port", str(port))
                return port
            if deadline.passed() or not (restarted or not _port_is_free(port)):
                raise ServiceNotStarted(f"PostgreSQL did not start.\n{self._last_log_lines()}")
            time.sleep(0.2)

    def _port(self) -> int:
        saved = self._directory / "port"
        if saved.exists() and _port_is_free(int(saved.read_text())):
            return int(saved.read_text())
        free = (port for port in random.sample(PORTS, 200) if _port_is_free(port))
        found = next(free, None)
        if found is None:
            raise ServiceNotStarted(
                f"No port between {PORTS[0]} and {PORTS[-1]} is free on 127.0.0.1."
            )
        return found

    def _launch(self, port: int) -> None:
        tied = ("setpriv", "--pdeathsig", "INT")
        can_be_tied = _works((*tied, "true"))
        command = [
            *self._user.prefix,
            *(tied if can_be_tied else ()),
            self._binaries.program("postgres"),
            "-D",
            str(self._data),
            "-p",
            str(port),
        ]
        environment = {**os.environ, **self._environment}
        self._process = subprocess.Popen(command, env=environment, **self._user.options())  # type: ignore[call-overload]
        if not can_be_tied:
            self._watch(self._process.pid)

    def _watch(self, pid: int) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
        command = [sys.executable, "-I", "-c", _GUARD, str(pid)]
        self._guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def _becomes_ready(self, deadline: Deadline) -> bool:
        assert self._process is not None
        while self.alive() and not deadline.passed():
            lines = self._postmaster_file()
            if lines[0] == str(self._process.pid) and lines[-1] == "ready":
                return True
            time.sleep(LOOK_SECONDS)
        return False

    def _postmaster_file(self) -> list[str]:
        """Lines of postmaster.pid, without white space: the first is its pid, the eighth its status."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return [""]
        return [line.strip() for line in lines[:8]] or [""]

    def _make_database(self, port: int) -> None:
        url = address(self._directory.parent, {"port": port})
        statements = load("server")
        with Database(url.removesuffix(DATABASE) + "postgres").connect() as connection:
            with connection.transaction() as transaction:
                exists = transaction.value(statements["database_exists"], name=DATABASE)
            if not exists:
                with connection.raw.cursor() as cursor:
                    cursor.execute(str(statements["create_database"]))
        if self._binaries.has_library("pg_stat_statements"):
            with Database(url).transaction() as transaction:
                # Asked first: a server that takes no write can be started as well.
                if not transaction.value(statements["statement_statistics_exist"]):
                    transaction.run(statements["create_statement_statistics"])

    def _last_log_lines(self) -> str:
        logs = sorted((self._data / "log").glob("*.log"), key=lambda path: path.stat().st_mtime)
        return "\n".join(logs[-1].read_text("utf-8", "replace").splitlines()[-8:]) if logs else ""


def _new_password(directory: Path) -> str:
    password = secrets.token_urlsafe(24)
    _write_secret(password_file(directory), password)
    return password


def _write_secret(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _works(command: tuple[str, ...]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def main() -> int:
    directory, binaries, *settings = sys.argv[1:]
    found = look_at(Path(binaries))
    if found is None:
        raise ServiceNotStarted(f"{binaries} holds no PostgreSQL.")
    chosen = dict(setting.split("=", 1) for setting in settings)
    server = Server(Path(directory), found, chosen)
    try:
        return serve(Path(directory), server.start, server.stop, server.alive)
    except ServiceNotStarted as error:
        print(error, file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
