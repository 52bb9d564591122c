"""Takes jobs in: from files, standard input and programs, each job once.

Rows go in by batches, each in a transaction of its own, so that an interrupted intake keeps what it
added and can be repeated: the idempotency key finds what is there already.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import psycopg2.errors

from runbook_lib.database.connection import Connection, Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone
from runbook_lib.pipeline.job_files import FileFormat, open_job_file
from runbook_lib.pipeline.job_rows import (
    EXCERPT_CHARACTERS,
    HEADINGS,
    BrokenRow,
    FileRow,
    NewJob,
    Unfit,
    new_job,
)
from runbook_lib.pipeline.jobs import notify_workers

_SQL = load("intake")
BATCH_ROWS = 2_000
DETAILS_KEPT = 1_000
MAXIMUM_TOPIC_CHARACTERS = 4_000
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RejectedRow:
    """A row that was not taken. `column` is None when the row itself is broken."""

    file: str
    line: int
    column: str | None
    reason: str

    def __str__(self) -> str:
        column = f", {self.column}" if self.column else ""
        return f"{self.file}, line {self.line}{column}: {self.reason}"


@dataclass(frozen=True)
class DuplicateRow:
    """A row whose job is there already; `source` says where that came from (file:line)."""

    file: str
    line: int
    topic: str
    job_id: str
    status: str
    post_url: str | None
    source: str | None
    created_at: datetime

    def __str__(self) -> str:
        address = f", {self.post_url}" if self.post_url else ""
        origin = f", from {self.source}" if self.source else ""
        return (
            f"{self.file}, line {self.line}: is job {self.job_id} already "
            f"({self.status}{address}{origin})"
        )


@dataclass
class IntakeResult:
    """What became of the rows: `added` + `duplicates` + `rejected` is all of them.

    `job_ids`, `duplicate_rows` and `rejected_rows` hold the first thousand of each.
    """

    added: int = 0
    duplicates: int = 0
    rejected: int = 0
    job_ids: list[str] = field(default_factory=list)
    duplicate_rows: list[DuplicateRow] = field(default_factory=list)
    rejected_rows: list[RejectedRow] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return self.added + self.duplicates + self.rejected

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


def add_jobs(
    database: Database,
    source: Path | str | BinaryIO,
    *,
    created_by: str,
    file_format: FileFormat | None = None,
    name: str | None = None,
    maximum_topic_characters: int = MAXIMUM_TOPIC_CHARACTERS,
    rejects: TextIO | None = None,
    progress: Progress | None = None,
    result: IntakeResult | None = None,
) -> IntakeResult:
    """Adds the jobs of a file (CSV or JSON Lines; a path or a binary stream).

    A bad row is rejected with its reason and the good ones are still taken; `rejects` gets the bad
    ones as CSV. `progress` is called with (bytes read, bytes in all). A `result` that is given is
    filled as the work goes on, so that it is known after an interruption. Raises `NotFoundError` and
    `UsageError` for a file that cannot be read as one of topics.
    """
    with (
        open_job_file(source, file_format=file_format, name=name) as file,
        database.connect() as connection,
    ):
        intake = _Intake(
            connection, Path(file.name).name, created_by, rejects, result or IntakeResult()
        )
        intake.result.warnings = file.warnings
        for batch in intake.batches(file.rows(maximum_topic_characters), maximum_topic_characters):
            intake.add(batch)
            if progress is not None:
                progress(file.read_bytes(), file.size_bytes)
        if not intake.result.rows:
            file.warnings.append(f"{file.name} holds no rows.")
    return intake.result


def add_topics(
    database: Database,
    topics: Iterable[str | Mapping[str, Any]],
    *,
    created_by: str,
    source: str = "program",
    maximum_topic_characters: int = MAXIMUM_TOPIC_CHARACTERS,
) -> IntakeResult:
    """Adds jobs for a program: each a topic, or a mapping of the columns of a job file.

    `line` in the result is the position among the topics, from 1.
    """
    rows = (
        FileRow(position, {"topic": each} if isinstance(each, str) else dict(each))
        for position, each in enumerate(topics, start=1)
    )
    with database.connect() as connection:
        intake = _Intake(connection, source, created_by, None, IntakeResult())
        for batch in intake.batches(rows, maximum_topic_characters):
            intake.add(batch)
    return intake.result


class _Intake:
    """One intake under way: sorts rows into jobs and rejects, and adds the jobs by batches."""

    def __init__(
        self,
        connection: Connection,
        file: str,
        created_by: str,
        rejects: TextIO | None,
        result: IntakeResult,
    ) -> None:
        self._connection = connection
        self._file = file
        self._created_by = created_by
        self._rejects = _RejectsFile(rejects) if rejects is not None else None
        self.result = result

    def batches(
        self, rows: Iterable[FileRow | BrokenRow], maximum_topic_characters: int
    ) -> Iterator[list[NewJob]]:
        """Good rows by batches; the bad ones are rejected on the way. The last may be empty."""
        batch: list[NewJob] = []
        for row in rows:
            if isinstance(row, BrokenRow):
                self._reject(row.line, None, row.reason, {"topic": row.text})
                continue
            try:
                batch.append(new_job(row.line, row.values, maximum_topic_characters))
            except Unfit as unfit:
                self._reject(row.line, unfit.column, unfit.reason, row.values)
            if len(batch) >= BATCH_ROWS:
                yield batch
                batch = []
        yield batch

    def add(self, batch: list[NewJob]) -> None:
        """Adds a batch in one transaction and counts what became of it."""
        if not batch:
            return
        first = {job.idempotency_key: job for job in reversed(batch)}
        try:
            with self._connection.transaction() as transaction:
                ids = self._insert(transaction, list(first.values()))
                doubles = [
                    job
                    for job in batch
                    if first[job.idempotency_key] is not job or job.idempotency_key not in ids
                ]
                earlier = self._earlier(transaction, doubles)
                if ids and not self.result.added:
                    notify_workers(transaction)  # one hint an intake: each one is a lock at commit
        except psycopg2.errors.LockNotAvailable:
            raise CouldNotBeDone(
                "Another session is adding the same jobs and did not end in time. "
                "Adding the file again goes on."
            ) from None
        self.result.added += len(ids)
        self.result.job_ids.extend(list(ids.values())[: DETAILS_KEPT - len(self.result.job_ids)])
        for job in doubles:
            self._count_duplicate(job, earlier)

    def _insert(self, transaction: Transaction, jobs: list[NewJob]) -> dict[str, str]:
        """Inserts what is not there yet; returns the new jobs' ids by key."""
        transaction.rows(_SQL["lock_intake"])
        records = [
            {
                **job._asdict(),
                "run_at": job.run_at and job.run_at.isoformat(),
                "source": f"{self._file}:{job.line}",
            }
            for job in jobs
        ]
        rows = transaction.rows(
            _SQL["insert_jobs"],
            jobs=json.dumps(records, ensure_ascii=False),
            created_by=self._created_by,
        )
        return {row.idempotency_key: row.job_id for row in rows}

    @staticmethod
    def _earlier(transaction: Transaction, jobs: Iterable[NewJob]) -> dict[str, Any]:
        keys = [job.idempotency_key for job in jobs]
        if not keys:
            return {}
        rows = transaction.rows(_SQL["jobs_of_keys"], keys=keys)
        return {row.idempotency_key: row for row in rows}

    def _count_duplicate(self, job: NewJob, earlier: Mapping[str, Any]) -> None:
        self.result.duplicates += 1
        if len(self.result.duplicate_rows) >= DETAILS_KEPT:
            return
        found = earlier[job.idempotency_key]
        self.result.duplicate_rows.append(
            DuplicateRow(
                self._file,
                job.line,
                job.topic[:EXCERPT_CHARACTERS],
                found.job_id,
                found.status,
                found.post_url,
                found.source,
                found.created_at,
            )
        )

    def _reject(
        self, line: int, column: str | None, reason: str, values: Mapping[str, Any]
    ) -> None:
        self.result.rejected += 1
        row = RejectedRow(self._file, line, column, reason)
        if len(self.result.rejected_rows) < DETAILS_KEPT:
            self.result.rejected_rows.append(row)
        if self._rejects is not None:
            self._rejects.write(row, values)


class _RejectsFile:
    """Rejected rows as CSV: where and why, then the columns as they came, to be corrected."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file)
        self._writer.writerow(
            ["rejected_file", "rejected_line", "rejected_column", "reason", *HEADINGS]
        )

    def write(self, row: RejectedRow, values: Mapping[str, Any]) -> None:
        cells = [row.file, row.line, row.column, row.reason, *map(values.get, HEADINGS)]
        self._writer.writerow(map(_harmless, cells))


def _harmless(value: Any) -> str:
    """A cell that a spreadsheet takes for text: no formula, no NUL, no half characters."""
    if value is None:
        return ""
    text = "; ".join(map(str, value)) if isinstance(value, list) else str(value)
    text = text[:EXCERPT_CHARACTERS].replace("\x00", "�")
    text = text.encode("utf-8", "replace").decode("utf-8")
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
