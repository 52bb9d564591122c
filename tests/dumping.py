"""pg_dump of a test's database, with the password where no process list shows it."""

from __future__ import annotations

import os
import subprocess

from psycopg2.extensions import parse_dsn

from runbook_lib.database import Database, binaries
from runbook_lib.maintenance.trial_restore import without_password


def dumped(database: Database, *options: str) -> str:
    """What `pg_dump` writes with these options."""
    program = binaries.find_binaries().program("pg_dump")
    return subprocess.run(
        [program, *options, f"--dbname={without_password(database.url)}"],
        env={**os.environ, "PGPASSWORD": parse_dsn(database.url)["password"]}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
