"""A PgBouncer in transaction mode, for scenes and tests, where it is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from runbook_lib.database import Database
from runbook_lib.errors import CouldNotBeDone, DatabaseUnreachable

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")


@contextmanager
def pooler(
    direct_url: str, directory: Path, *, pool_size: int = 2, wait_seconds: float = 120
) -> Iterator[str]:
    """The address of a PgBouncer that logs in at the server as `direct_url` says.

    A client waits at most `wait_seconds` for a connection to the server. Raises `CouldNotBeDone` where there is
    no PgBouncer, or it does not answer.
    """
    if PGBOUNCER is None:
        raise CouldNotBeDone(
            "PgBouncer is not installed (Debian and Ubuntu: the package pgbouncer)."
        )
    parts = urlsplit(direct_url)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    configuration = directory / "pgbouncer.ini"
    configuration.touch(mode=0o600)
    configuration.write_text(
        f"[databases]\n"
        f"* = host=127.0.0.1 port={parts.port} user={parts.username} password={parts.password}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = transaction\ndefault_pool_size = {pool_size}\nreserve_pool_size = 0\n"
        f"query_wait_timeout = {wait_seconds:g}\nstats_users = {parts.username}\n"
    )
    as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
    with (directory / "pgbouncer.log").open("w") as log:
        process = subprocess.Popen(
            [PGBOUNCER, *as_nobody, str(configuration)], stdout=log, stderr=log
        )
    url = f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}"
    try:
        _wait_for_answer(Database(url), process)
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait_for_answer(database: Database, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < until:
        try:
            database.connect().close()
            return
        except DatabaseUnreachable:
            time.sleep(0.05)
    raise CouldNotBeDone(f"PgBouncer does not answer; it ended with {process.poll()}.")
