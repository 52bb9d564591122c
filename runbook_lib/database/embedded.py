"""The embedded PostgreSQL: started when somebody needs it, stopped when the last one lets go.

For trying out, tests and a single machine. Everything of it is under `home/postgres`: the data, the
password (a file that only its owner may read), the port, the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from runbook_lib.database.binaries import find_binaries
from runbook_lib.processes import Hold, SharedProcess, State

USER = "runbook"
DATABASE = "runbook"


def acquire(
    home: Path, *, server_settings: Mapping[str, str] | None = None, timeout_seconds: float = 60
) -> tuple[str, Hold]:
    """The address of the embedded server, with its password, and what keeps it up.

    `server_settings` are PostgreSQL's, and count only for whoever starts the server. Raises
    `ServiceNotStarted`.
    """
    hold = _startable(home, server_settings or {}).acquire(timeout_seconds)
    return address(home, hold.state), hold


def keep(home: Path, *, timeout_seconds: float = 60) -> str:
    """Starts the server and keeps it until `server(home).let_go()`, or until the machine stops."""
    return address(home, _startable(home, {}).keep(timeout_seconds))


def server(home: Path) -> SharedProcess:
    """The process behind the server: its status, and letting it go. Starts nothing."""
    return SharedProcess(home / "postgres", "runbook_lib.database.server")


def address(home: Path, state: State) -> str:
    """Where the running server is, with its password: never log or print it."""
    password = password_file(home / "postgres").read_text("ascii").strip()
    return f"postgresql://{USER}:{password}@127.0.0.1:{state['port']}/{DATABASE}"


def data_directory(directory: Path) -> Path:
    return directory / "data"


def password_file(directory: Path) -> Path:
    return directory / "password"


def _startable(home: Path, server_settings: Mapping[str, str]) -> SharedProcess:
    binaries = find_binaries(data_directory(home / "postgres"))
    settings = [f"{name}={value}" for name, value in server_settings.items()]
    arguments = [str(binaries.directory), *settings]
    return SharedProcess(home / "postgres", "runbook_lib.database.server", arguments)
