"""Parquet files of exported runs: written from what COPY sends, read again to be compared.

DuckDB does both, in memory that is bounded whatever the file's size. It reads the rows from a named pipe,
so that nothing stands on the disk but the file itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook_lib.database import Transaction
from runbook_lib.database.statements import load
from runbook_lib.durable_files import flush_to_disk
from runbook_lib.errors import CouldNotBeDone

if TYPE_CHECKING:
    import duckdb

_SQL = load("parquet")
MEMORY_LIMIT = "256MB"
# What goes through the pipe at a time.
_PIPE_BYTES = 1 << 20
_UTC = "SET TimeZone = 'UTC'"


@dataclass(frozen=True)
class Column:
    """A column of job_runs, its type in the file, and whether it has a sum."""

    name: str
    file_type: str
    summed: bool


@dataclass(frozen=True)
class Totals:
    """What a table and the file of its rows are compared by. Sums are by column."""

    rows: int
    checksum: Decimal
    sums: Mapping[str, Decimal | None]


@dataclass(frozen=True)
class FileTotals:
    """What a file holds."""

    totals: Totals
    oldest: str | None
    newest: str | None


def open_parquet() -> duckdb.DuckDBPyConnection:
    """A DuckDB of this process alone, in memory, that reaches for nothing in the network.

    One thread: what comes through a pipe is read by one, and the server has the other core.
    """
    import duckdb

    connection = duckdb.connect(
        config={"memory_limit": MEMORY_LIMIT, "threads": 1, "autoinstall_known_extensions": False}
    )
    connection.execute(_UTC)
    return connection


def write(
    parquet: duckdb.DuckDBPyConnection, transaction: Transaction, copy_out: str,
    columns: Sequence[Column], file: Path,
) -> None:  # fmt: skip
    """Runs a COPY and makes one Parquet file of what it sends; on return the file is on the disk.

    Raises what the database raises, and `CouldNotBeDone` when the file cannot be written.
    """
    pipe = file.with_suffix(".pipe")
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe, 0o600)
    try:
        _write_through(pipe, parquet, transaction, copy_out, columns, file)
    finally:
        pipe.unlink(missing_ok=True)
    _flush(file)


def _write_through(
    pipe: Path, parquet: duckdb.DuckDBPyConnection, transaction: Transaction, copy_out: str,
    columns: Sequence[Column], file: Path,
) -> None:  # fmt: skip
    import duckdb

    statement = _filled("write", pipe=_text(str(pipe)), file=_text(str(file)), columns=_types(columns))  # fmt: skip
    failures: list[duckdb.Error] = []
    opened = threading.Event()

    def read() -> None:
        try:
            parquet.execute(statement)
        except duckdb.Error as error:
            failures.append(error)
            # Who waits to open the pipe gets a reader, who then is gone: it must not wait for ever.
            descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
            opened.wait()
            os.close(descriptor)

    reader = threading.Thread(target=read, name="parquet", daemon=True)
    reader.start()
    try:
        _send(pipe, transaction, copy_out, opened)
    except BrokenPipeError:
        pass  # the reader says why
    finally:
        opened.set()
        reader.join()
    if failures:
        reason = str(failures[0]).strip().splitlines()[0]
        raise CouldNotBeDone(f"The runs could not be written to {file}: {reason}")


def _send(pipe: Path, transaction: Transaction, copy_out: str, opened: threading.Event) -> None:
    with open(pipe, "wb", buffering=_PIPE_BYTES) as sender:
        opened.set()
        _widen(sender.fileno())
        with transaction.raw.cursor() as cursor:
            cursor.copy_expert(copy_out, sender, size=_PIPE_BYTES)


def _widen(pipe: int) -> None:
    """Lets a pipe hold more, so that both ends work on instead of waking each other; where that is allowed."""
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except (AttributeError, OSError):
        pass  # not on Linux, or more than this user may have


def totals(parquet: duckdb.DuckDBPyConnection, columns: Sequence[Column], file: Path) -> FileTotals:
    """Reads a whole file again and makes every row's checksum anew."""
    summed = [column.name for column in columns if column.summed]
    statement = _filled(
        "totals",
        file=_text(str(file)),
        checksum=_checksum(columns),
        sums=", ".join(f"sum({_name(name)})::VARCHAR" for name in summed) or "NULL",
    )
    row = parquet.execute(statement).fetchone()
    assert row is not None
    rows, checksum, oldest, newest, *sums = row
    return FileTotals(
        Totals(rows, Decimal(checksum), dict(zip(summed, map(_decimal, sums), strict=True))), oldest, newest
    )  # fmt: skip


def holds(
    parquet: duckdb.DuckDBPyConnection, columns: Sequence[Column], file: Path, expected: Totals
) -> bool:
    """Whether a file can be read and holds exactly this."""
    import duckdb

    try:
        return totals(parquet, columns, file).totals == expected
    except duckdb.Error:
        return False


def keys(
    parquet: duckdb.DuckDBPyConnection, columns: Sequence[Column], file: Path, batch_rows: int
) -> Iterator[list[tuple[Any, ...]]]:
    """Job, attempt, time and checksum of the file's rows, a batch at a time."""
    reading = parquet.cursor()
    try:
        reading.execute(_UTC)
        reading.execute(_filled("keys", file=_text(str(file)), checksum=_checksum(columns)))
        while batch := reading.fetchmany(batch_rows):
            yield batch
    finally:
        reading.close()


def sha256_of(file: Path) -> str:
    """The digest of a file's bytes."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _checksum(columns: Sequence[Column]) -> str:
    return _filled("checksum", texts=", ".join(_checked_text(column) for column in columns))


def _checked_text(column: Column) -> str:
    """The text that a column gives to its row's checksum, as the server makes it too."""
    name = _name(column.name)
    if column.file_type == "DOUBLE":
        return (
            f"CASE WHEN {name} IS NULL THEN chr(30) WHEN {name} > -1e12 AND {name} < 1e12 "
            f"THEN floor({name} * 1000000)::BIGINT::VARCHAR ELSE 'far' END"
        )
    return f"coalesce({name}::VARCHAR, chr(30))"


def _types(columns: Sequence[Column]) -> str:
    named = {column.name: column.file_type for column in columns}
    return "{" + ", ".join(f"{_text(name)}: {_text(each)}" for name, each in named.items()) + "}"


def _filled(statement: str, **words: str) -> str:
    text = str(_SQL[statement])
    for name, word in words.items():
        text = text.replace("{" + name + "}", word)
    return text


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _name(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def _decimal(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def _flush(file: Path) -> None:
    flush_to_disk(file)
    flush_to_disk(file.parent)
