"""A dump that is restored and compared: the only proof that a backup can be used.

pg_dump reads the same moment as the figures that the copy is compared with, so a worker may go on meanwhile.
The source is only read; the copy lives in a server of its own and is always removed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2.extensions

from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Database, Transaction, schema
from runbook_lib.database.binaries import Binaries, client_binaries
from runbook_lib.database.statements import load
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import CouldNotBeDone, DeadlineExceeded
from runbook_lib.maintenance.scratch_server import Scratch, scratch_server

# So many rows of a table are compared as a whole; of a larger one, that many of all.
MOST_SAMPLED = 10_000
ROOM_FACTOR = 2.5
_SQL = load("backups")
_DUMP = "dump.custom"
_PLAIN = (".sql",)


@dataclass(frozen=True)
class Figures:
    """What a table holds: rows, sums of its numeric columns, rows in the sample, and their digest."""

    rows: int
    sums: str
    sampled: int
    digest: str


@dataclass(frozen=True)
class Compared:
    """One table on both sides."""

    table: str
    source: Figures | None
    copy: Figures | None
    everything: bool = True

    @property
    def equal(self) -> bool:
        """Counts, sums and sample; of an older dump only that nothing is missing as a whole."""
        if self.everything:
            return self.source == self.copy
        return self.copy is not None and (self.copy.rows > 0 or not self.source or not self.source.rows)  # fmt: skip

    def row(self) -> dict[str, Any]:
        return {
            "table": self.table, "rows": self.source.rows if self.source else None,
            "rows_restored": self.copy.rows if self.copy else None,
            "sums_equal": bool(self.source and self.copy and self.source.sums == self.copy.sums) if self.everything else None,
            "sampled": self.copy.sampled if self.copy else 0,
            "sample_equal": bool(self.source and self.copy and self.source.digest == self.copy.digest) if self.everything else None,
            "equal": self.equal,
        }  # fmt: skip


@dataclass(frozen=True)
class RestoreTest:
    """What restoring showed: each table, the time of each step, and what pg_restore complained of."""

    tables: Sequence[Compared]
    seconds: Mapping[str, float]
    dump_bytes: int
    version: str
    file: str | None = None
    complaints: Sequence[str] = field(default_factory=tuple)

    @property
    def restore_seconds(self) -> float:
        """From a dump to a database that can be used."""
        return self.seconds["restore"]

    @property
    def different(self) -> list[str]:
        return [each.table for each in self.tables if not each.equal]

    @property
    def rows(self) -> int:
        return sum(each.copy.rows for each in self.tables if each.copy)


@dataclass(frozen=True)
class _Measured:
    """The source's side: of how many rows one is compared, and its figures."""

    samples: Mapping[str, int]
    figures: Mapping[str, Figures]
    seconds: float


def try_restore(
    source: Database, home: Path, deadline_seconds: float, file: Path | None = None
) -> RestoreTest:
    """Dumps the schema with our tables, or takes `file`, restores it beside, and compares.

    Raises `ServiceNotStarted` without programs of the right version, `CouldNotBeDone` and
    `DeadlineExceeded` for what goes wrong, and what the database raises.
    """
    deadline = Deadline.after(deadline_seconds)
    with source.transaction(read_only=True, deadline_seconds=deadline_seconds) as transaction:
        transaction.run(_SQL["one_moment"])
        about = transaction.row(_SQL["about_the_source"])
        assert about is not None
        binaries = client_binaries(about.major)
        _require_room(home, about.bytes)
        # First, since a role that may not read all of it is told so at once.
        began = time.monotonic()
        samples = sample_sizes(transaction, source.schema)
        ours = figures(transaction, source.schema, samples)
        measured = _Measured(samples, ours, time.monotonic() - began)
        with scratch_server(home, binaries) as scratch:
            return _restore_and_compare(
                transaction, source, measured, scratch, binaries, file, deadline
            )


def _restore_and_compare(
    transaction: Transaction,
    source: Database,
    measured: _Measured,
    scratch: Scratch,
    binaries: Binaries,
    file: Path | None,
    deadline: Deadline,
) -> RestoreTest:
    seconds: dict[str, float] = {}
    dump = file or scratch.folder / _DUMP
    if file is None:
        snapshot = transaction.value(_SQL["export_snapshot"])
        seconds["dump"] = _run(_dump_command(binaries, source, snapshot, dump), source.url, deadline)[0]  # fmt: skip
    seconds["restore"], complaints = _run(_restore_command(binaries, scratch, dump), scratch.url, deadline, may_complain=True)  # fmt: skip
    began = time.monotonic()
    with scratch.database(source.schema, deadline.remaining_seconds()).transaction(read_only=True) as copied:  # fmt: skip
        theirs = figures(copied, source.schema, measured.samples)
    seconds["compare"] = measured.seconds + time.monotonic() - began
    ours = measured.figures
    tables = [Compared(name, ours.get(name), theirs.get(name), file is None) for name in sorted({*ours, *theirs})]  # fmt: skip
    size = dump.stat().st_size if dump.is_file() else sum(each.stat().st_size for each in dump.rglob("*") if each.is_file())  # fmt: skip
    return RestoreTest(
        tables,
        {name: round(each, 2) for name, each in seconds.items()},
        size,
        binaries.version,
        str(file) if file else None,
        complaints,
    )


def sample_sizes(
    transaction: Transaction, schema_name: str, most_sampled: int = MOST_SAMPLED
) -> dict[str, int]:
    """Table → of how many rows one is compared as a whole; the same on both sides."""
    rows = transaction.rows(
        _SQL["sample_sizes"], schema=schema_name, tables=list(schema.tables()), most_sampled=most_sampled
    )  # fmt: skip
    return {row.table_name: row.every for row in rows}


def figures(
    transaction: Transaction, schema_name: str, samples: Mapping[str, int]
) -> dict[str, Figures]:
    """What each of our tables holds, by the figures that are compared."""
    transaction.run(_SQL["same_output"])
    made = transaction.rows(
        _SQL["statements_of_figures"],
        schema=schema_name, tables=list(samples), every=list(samples.values()),
    )  # fmt: skip
    return {each.table_name: _figures(transaction.row(each.statement)) for each in made}


def _figures(row: Any) -> Figures:
    return Figures(row.rows, row.sums, row.sampled, row.digest)


def _dump_command(binaries: Binaries, source: Database, snapshot: str, dump: Path) -> list[str]:
    return [
        binaries.program("pg_dump"), "--format=custom", "--compress=1", "--no-owner", "--no-privileges", "--no-sync",
        f"--schema={source.schema}", f"--snapshot={snapshot}", "--lock-wait-timeout=5000",
        f"--file={dump}", f"--dbname={without_password(source.url)}",
    ]  # fmt: skip


def _restore_command(binaries: Binaries, scratch: Scratch, dump: Path) -> list[str]:
    place = f"--dbname={without_password(scratch.url)}"
    if dump.suffix in _PLAIN:
        return [binaries.program("psql"), "--no-psqlrc", "--quiet", "--output=/dev/null", f"--file={dump}", place]  # fmt: skip
    return [binaries.program("pg_restore"), "--no-owner", "--no-privileges", place, str(dump)]  # fmt: skip


def without_password(url: str) -> str:
    """The address for an argument list, which every user of a machine can read."""
    parts = psycopg2.extensions.parse_dsn(url)
    return psycopg2.extensions.make_dsn(**{name: value for name, value in parts.items() if name != "password"})  # fmt: skip


def _run(
    command: list[str], url: str, deadline: Deadline, *, may_complain: bool = False
) -> tuple[float, tuple[str, ...]]:
    """Runs one of PostgreSQL's programs; how long it took, and what it complained of."""
    password = psycopg2.extensions.parse_dsn(url).get("password", "")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    began = time.monotonic()
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command, env={**kept, "PGPASSWORD": password, "PGCONNECT_TIMEOUT": "10"}, capture_output=True, text=True,
            errors="replace", check=False, timeout=max(1.0, deadline.remaining_seconds()), stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise DeadlineExceeded(f"{name} did not end in time. Give it longer.") from None
    lines = tuple(one_line(line, 200) for line in done.stderr.splitlines() if _is_complaint(line))
    if done.returncode != 0 and not (may_complain and done.returncode == 1):
        last = one_line((done.stderr.strip().splitlines() or ["it said nothing"])[-1], 300)
        raise CouldNotBeDone(f"{name} ended with {done.returncode}: {last}")
    return time.monotonic() - began, lines[:20]


def _is_complaint(line: str) -> bool:
    # The empty database has its schema `public` already.
    return "ERROR" in line and not ('schema "' in line and "already exists" in line)


def _require_room(home: Path, source_bytes: int) -> None:
    home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home).free
    needed = int(source_bytes * ROOM_FACTOR)
    if free < needed:
        raise CouldNotBeDone(
            f"A copy needs about {needed / 1e9:.1f} GB in {home}, and {free / 1e9:.1f} GB are free. "
            "Point RUNBOOK_HOME at a larger disk, or restore on another machine."
        )
