"""Old runs leave job_runs: written to a file, read again and compared, and only then removed.

What is in the database when it is removed is what is in the file: of each row the server and the reader of
the file make the same checksum. A partition is compared as a whole (count, sums, checksums), under a lock
that keeps writers of that week out, and dropped in the same transaction. From other tables only rows are
deleted that still are what the file says. A crash at any moment leaves either the rows, or the file and the
note of it, and mostly both.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2.errors

from runbook_lib.database import Transaction
from runbook_lib.database.connection import Connection
from runbook_lib.database.statements import load
from runbook_lib.durable_files import flush_to_disk
from runbook_lib.errors import CouldNotBeDone
from runbook_lib.maintenance import parquet_files
from runbook_lib.maintenance.parquet_files import Column, Totals

if TYPE_CHECKING:
    import duckdb

_SQL = load("run_exports")
EXPORT_DEADLINE_SECONDS = 1800.0
# Rows that are locked at a time, and for how long at the most somebody may wait behind a lock of ours.
BATCH_ROWS = 5_000
BATCH_DEADLINE_SECONDS = 30.0
LOCK_TIMEOUT_SECONDS = 0.5
DROP_ATTEMPTS = 20
PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class OldRuns:
    """A table of job_runs and what of it is old: `drop` takes all of it, `delete` the rows before the border."""

    relation: str
    relation_oid: int
    action: str
    border: datetime


@dataclass(frozen=True)
class Removed:
    """What was removed, and the file that holds it."""

    file: str
    rows: int
    bytes_returned: int
    rows_kept: int = 0


@dataclass(frozen=True)
class _Export:
    """A file that was compared and noted."""

    export_id: str
    file: Path
    totals: Totals
    rows_removed: int


@dataclass(frozen=True)
class RunExports:
    """Exports and removes runs of one database into one folder."""

    connection: Connection
    parquet: duckdb.DuckDBPyConnection
    folder: Path
    actor: str

    def remove(self, old: OldRuns) -> Removed:
        """Exports what is old of a table, compares, removes it; goes on where a crash ended it.

        Raises `CouldNotBeDone` when the file does not hold what the table holds, or the table is in
        use; nothing was removed then that is not in a file.
        """
        done = self._done_before(old)
        if done is not None:
            return done
        export = self._compared_before(old) or self._export(old)
        return self._drop(old, export) if old.action == "drop" else self._delete(old, export)

    def _done_before(self, old: OldRuns) -> Removed | None:
        with self.connection.transaction(read_only=True) as transaction:
            noted = self._noted(transaction, old)
            there = transaction.value(_SQL["relation_exists"], relation_oid=old.relation_oid)
        if (
            noted is not None
            and noted.removed_at is not None
            and (not there or old.action == "delete")
        ):
            return Removed(noted.file, noted.rows_removed, noted.bytes_returned)
        if not there:
            raise CouldNotBeDone(
                f"{old.relation} is not a part of job_runs any more, and no export of it is noted. Plan again."
            )
        return None

    def _compared_before(self, old: OldRuns) -> _Export | None:
        """An export that was noted before a crash, if its file is still what was noted."""
        with self.connection.transaction(read_only=True) as transaction:
            noted = self._noted(transaction, old)
        file = None if noted is None else Path(noted.file)
        if noted is None or file is None or not file.is_file():
            return None
        if parquet_files.sha256_of(file) != noted.sha256:
            return None
        sums = {name: None if each is None else Decimal(each) for name, each in noted.sums.items()}
        return _Export(
            noted.export_id, file, Totals(noted.rows, noted.checksum, sums), noted.rows_removed
        )

    def _export(self, old: OldRuns) -> _Export:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._remove_leftovers()
        # A name of its own: somebody else may be at the same table, and neither writes into the other's file.
        unfinished = self.folder / f".{old.relation}.{uuid.uuid4().hex}.part"
        started = time.monotonic()
        with self.connection.transaction(
            read_only=True, deadline_seconds=EXPORT_DEADLINE_SECONDS
        ) as transaction:
            statements = _statements(transaction, old)
            columns = _columns(transaction)
            parquet_files.write(self.parquet, transaction, statements.copy_out, columns, unfinished)
        written = time.monotonic()
        found = parquet_files.totals(self.parquet, columns, unfinished)
        checked = time.monotonic()
        # Named after what is in it: exported again, the same rows take the same place.
        content = f"{found.totals.rows}-{int(found.totals.checksum) % 16**12:012x}"
        file = self.folder / f"{old.relation}-{content}.parquet"
        unfinished.chmod(0o400)
        self._settle(unfinished, file, columns, found.totals)
        flush_to_disk(self.folder)
        with self.connection.transaction() as transaction:
            export_id = transaction.value(
                _SQL["keep_export"], **_place(old), file=str(file),
                size_bytes=file.stat().st_size, sha256=parquet_files.sha256_of(file),
                rows=found.totals.rows, checksum=found.totals.checksum, oldest=found.oldest,
                newest=found.newest, sums=json.dumps(found.totals.sums, default=str), actor=self.actor,
                write_seconds=round(written - started, 3), check_seconds=round(checked - written, 3),
            )  # fmt: skip
        return _Export(str(export_id), file, found.totals, 0)

    def _settle(self, unfinished: Path, file: Path, columns: list[Column], held: Totals) -> None:
        """Gives a compared file its name. What stands there already stays, if it holds the same."""
        try:
            os.link(unfinished, file)
        except FileExistsError:
            if not parquet_files.holds(self.parquet, columns, file, held):
                unfinished.replace(file)
                return
        unfinished.unlink()

    def _remove_leftovers(self) -> None:
        """Files that a crash left unfinished: nobody has written to them for longer than an export may take."""
        for left in [*self.folder.glob(".*.part"), *self.folder.glob(".*.pipe")]:
            try:
                if time.time() - left.stat().st_mtime > EXPORT_DEADLINE_SECONDS:
                    left.unlink()
            except FileNotFoundError:
                pass  # somebody else was faster

    def _drop(self, old: OldRuns, export: _Export) -> Removed:
        for attempt in range(DROP_ATTEMPTS):
            try:
                return self._drop_now(old, export)
            except psycopg2.errors.LockNotAvailable:
                if attempt + 1 < DROP_ATTEMPTS:
                    time.sleep(PAUSE_SECONDS)
        raise CouldNotBeDone(
            f"{old.relation} was not dropped: job_runs is in use, and others are not kept waiting for longer than "
            f"{LOCK_TIMEOUT_SECONDS:g} s. Its rows are in {export.file} as well. Look for a long transaction "
            "(troubleshooting/database_errors), then apply again."
        )

    def _drop_now(self, old: OldRuns, export: _Export) -> Removed:
        with self.connection.transaction(
            deadline_seconds=EXPORT_DEADLINE_SECONDS, lock_timeout_seconds=LOCK_TIMEOUT_SECONDS
        ) as transaction:
            statements = _statements(transaction, old)
            transaction.run(statements.keep_writers_out)
            _compare(old, export, _totals(transaction, statements.totals))
            size = transaction.value(_SQL["size"], relation_oid=old.relation_oid)
            # Last, and only as long as the commit takes: this lock stops readers of job_runs too.
            transaction.run(statements.drop_table)
            transaction.run(
                _SQL["end_export"], export_id=export.export_id, rows=export.totals.rows, bytes_returned=size
            )  # fmt: skip
        return Removed(str(export.file), export.totals.rows, size)

    def _delete(self, old: OldRuns, export: _Export) -> Removed:
        removed = 0
        for batch in parquet_files.keys(self.parquet, self._columns(), export.file, BATCH_ROWS):
            jobs, attempts, times, checksums = zip(*batch, strict=True)
            with self.connection.transaction(
                deadline_seconds=BATCH_DEADLINE_SECONDS, lock_timeout_seconds=LOCK_TIMEOUT_SECONDS * 4
            ) as transaction:  # fmt: skip
                count = transaction.run(
                    _statements(transaction, old).delete_rows, jobs=list(jobs),
                    attempts=list(attempts), times=list(times), checksums=list(checksums),
                    oldest=min(times), newest=max(times),
                )  # fmt: skip
                transaction.run(_SQL["count_removed"], export_id=export.export_id, rows=count)
            removed += count
        with self.connection.transaction(deadline_seconds=EXPORT_DEADLINE_SECONDS) as transaction:
            left = transaction.value(
                _SQL["rows_left"], relation_oid=old.relation_oid, border=old.border
            )
            transaction.run(
                _SQL["end_export"], export_id=export.export_id, rows=0, bytes_returned=0
            )
        return Removed(str(export.file), export.rows_removed + removed, 0, left)

    def _columns(self) -> list[Column]:
        with self.connection.transaction(read_only=True) as transaction:
            return _columns(transaction)

    def _noted(self, transaction: Transaction, old: OldRuns) -> Any | None:
        return transaction.row(_SQL["open_export"], **_place(old))


def _statements(transaction: Transaction, old: OldRuns) -> Any:
    """The statements about one table, as the server writes them."""
    transaction.rows(_SQL["fix_formats"])
    found = transaction.row(_SQL["statements"], relation_oid=old.relation_oid, border=old.border)
    assert found is not None
    return found


def _columns(transaction: Transaction) -> list[Column]:
    return [Column(*row) for row in transaction.rows(_SQL["columns"])]


def _totals(transaction: Transaction, statement: str) -> Totals:
    row = transaction.row(statement)
    assert row is not None
    sums = {name: None if each is None else Decimal(each) for name, each in row.sums.items()}
    return Totals(row.rows, row.checksum, sums)


def _compare(old: OldRuns, export: _Export, there: Totals) -> None:
    """Raises `CouldNotBeDone` unless the file holds exactly what the table holds now."""
    if there == export.totals:
        return
    differing = [name for name, each in there.sums.items() if export.totals.sums.get(name) != each]
    raise CouldNotBeDone(
        f"{old.relation} holds {there.rows} rows and its file {export.totals.rows}; they differ in "
        f"{', '.join(differing) or 'their checksums'}. It was written to after the export. Nothing was removed; plan again."
    )


def _place(old: OldRuns) -> Mapping[str, Any]:
    return vars(old)
