"""Rows of `notebook_runs`: a run's record is opened before its kernel starts and always ends."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from runbook_lib.archive import chain
from runbook_lib.archive.filing import ArchivedAs
from runbook_lib.archive.store import Store
from runbook_lib.code_version import code_commit
from runbook_lib.credentials.masking import one_line, redacted
from runbook_lib.database import Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import CouldNotBeDone, DatabaseUnreachable, NotFoundError
from runbook_lib.procedures.catalogue import Procedure
from runbook_lib.procedures.evidence import Finding
from runbook_lib.processes import boot_id, process_is_gone
from runbook_lib.spool import UNWRITABLE, Entry, Spool

# A runner that is cut off from the database for longer is taken for lost; it puts that right at its end.
SILENT_SECONDS = 180.0
OPEN_DEADLINE_SECONDS = 10.0
# How long closing waits for a database that is away before it goes to the spool.
CLOSE_TRIES_SECONDS = 10.0
_NOT_NOW: tuple[type[Exception], ...] = (CouldNotBeDone, *UNWRITABLE)
_PACKAGES = ("papermill", "nbclient", "ipykernel", "pandas", "matplotlib", "sqlalchemy", "psycopg2-binary")  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """Who or what asked for a run: a person, or a schedule and its due time."""

    actor: str
    trigger: str
    schedule_id: str | None = None
    due_at: datetime | None = None
    incident: str | None = None


@dataclass(frozen=True)
class RunRecord:
    """One run as its row says it."""

    run_id: str
    procedure: str
    status: str
    verdict: str | None
    results: dict[str, Any]
    error: str | None
    cells_done: int
    cells_total: int
    started_at: datetime
    ended_at: datetime
    archive: ArchivedAs
    # Where the record is kept until it can be filed, when the database could not be written.
    notice: str | None = None


class Record:
    """One open record: a row of `notebook_runs`, or an entry of the spool that becomes one.

    `notice` says so, in words for whoever started the run, once the database could not be written.
    """

    def __init__(
        self,
        database: Database,
        spool: Spool,
        run_id: str,
        started_at: datetime,
        close_tries_seconds: float = CLOSE_TRIES_SECONDS,
    ) -> None:
        self._close_tries_seconds = close_tries_seconds
        self._database = database
        self._spool = spool
        self.run_id = run_id
        self.started_at = started_at
        self.notice: str | None = None

    @classmethod
    def open(
        cls,
        database: Database,
        procedure: Procedure,
        parameters: Mapping[str, Any],
        origin: Origin,
        cells_total: int,
        *,
        spool: Spool,
        away: Exception | None = None,
        run_id: str | None = None,
    ) -> Record:
        """Opens the record; in the spool when the database cannot be written.

        `away` is why it is known not to be. Raises `CouldNotBeDone` when the disk does not take it
        either; then nothing was started.
        """
        values = {
            "run_id": run_id or new_run_id(),
            "parameters": json.dumps(redacted(dict(parameters))),
            "package_versions": json.dumps(package_versions()),
            "cells_total": cells_total,
            **_where_from(database, procedure, origin),
        }
        row = None
        if away is None:
            try:
                row = _open_now(database, values)
            except UNWRITABLE as error:
                away = error
        if row is not None:
            return cls(database, spool, row.run_id, row.started_at)
        assert away is not None
        record = cls(database, spool, values["run_id"], datetime.now(UTC))
        record._keep("run_opened", {**values, "started_at": record.started_at}, away)
        return record

    def close(self, finding: Finding, archived: ArchivedAs) -> datetime:
        """Closes the record as what happened; in the spool when the database stays away.

        Raises `CouldNotBeDone` when neither takes it, or the row was removed.
        """
        values = {
            "run_id": self.run_id,
            "status": finding.status,
            "cells_total": finding.cells_total,
            **_found(finding, archived),
        }
        until = Deadline.after(0 if self.notice else self._close_tries_seconds)
        while True:
            try:
                self._file_opening()
                return self._close_now(values)
            except UNWRITABLE as error:
                if until.passed():
                    ended_at = datetime.now(UTC)
                    self._keep("run_closed", {**values, "ended_at": ended_at}, error)
                    return ended_at
                time.sleep(1)

    def _close_now(self, values: Mapping[str, Any]) -> datetime:
        with self._database.transaction() as transaction:
            ended_at = _write_closing(transaction, {**values, "ended_at": None}, filed_late=False)
            if ended_at is None:
                ended_at = self._closed_already(transaction, values["status"])
        return ended_at

    def _closed_already(self, transaction: Transaction, status: str) -> datetime:
        """When the link broke after the closing was committed, but before we were told."""
        row = transaction.row(load("notebook_runs")["find_runs"], beginning=self.run_id)
        if row is None or row.status != status:
            raise CouldNotBeDone(f"Run {self.run_id} has no open record; its row was removed.")
        ended_at: datetime = row.ended_at
        return ended_at

    def copy_entries(self, store: Store) -> None:
        """Writes the chain's newest entries beside the objects. Never raises: the next run does the rest."""
        try:
            if self.notice is None:
                chain.copy_entries(self._database, store)
        except _NOT_NOW:
            pass

    def _file_opening(self) -> None:
        """What was opened in the spool becomes a row before it is closed."""
        if self.notice and (problem := self._spool.file(self._database).problem):
            raise DatabaseUnreachable(problem)

    def _keep(self, kind: str, values: Mapping[str, Any], reason: Exception) -> None:
        path = self._spool.put(kind, values)
        self.notice = f"The record is kept at {path} and filed later: {one_line(str(reason), 300)}"


def _open_now(database: Database, values: Mapping[str, Any]) -> Any:
    with database.transaction(deadline_seconds=OPEN_DEADLINE_SECONDS) as transaction:
        row = transaction.row(
            load("notebook_runs")["open_run"], started_at=None, filed_late=False, **values
        )
    assert row is not None
    return row


def new_run_id() -> str:
    """A UUID that grows with time, as the database makes them: known before anything is written."""
    milliseconds, chance = time.time_ns() // 1_000_000, uuid.uuid4().int
    return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | chance & ~(0xF << 76) & (1 << 80) - 1))


def file_refusal(
    database: Database, procedure: Procedure, origin: Origin, reason: str, spool: Spool
) -> str:
    """Records that a run was refused, in the spool if need be; returns the record's id."""
    values = {
        "run_id": new_run_id(),
        "error": one_line(reason, 1000),
        **_where_from(database, procedure, origin),
    }
    try:
        with database.transaction() as transaction:
            _write_refusal(transaction, values, filed_late=False)
    except UNWRITABLE:
        spool.put("run_refused", {**values, "ended_at": datetime.now(UTC)})
    return str(values["run_id"])


def file_opened(transaction: Transaction, entry: Entry) -> None:
    """Files a run that was opened while the database was away."""
    transaction.run(load("notebook_runs")["open_run"], **_complete(entry), filed_late=True)


def file_closed(transaction: Transaction, entry: Entry) -> None:
    """Files how a run ended while the database was away. Raises `NotFoundError` without its row."""
    if _write_closing(transaction, _complete(entry), filed_late=True) is not None:
        return
    run_id = entry.content["run_id"]
    if not transaction.rows(load("notebook_runs")["find_runs"], beginning=run_id):
        raise NotFoundError(f"there is no run {run_id} that could be closed")


def file_refused(transaction: Transaction, entry: Entry) -> None:
    """Files a run that was refused while the database was away."""
    _write_refusal(transaction, _complete(entry), filed_late=True)


def _complete(entry: Entry) -> dict[str, Any]:
    """What the entry says, with what an earlier version did not say yet."""
    return {"incident": None, "archive_objects": "[]", **entry.content}


def _write_closing(
    transaction: Transaction, values: Mapping[str, Any], *, filed_late: bool
) -> datetime | None:
    """Closes a row in time or late; None when there is no open one."""
    ended_at: datetime | None = transaction.value(
        load("notebook_runs")["close_run"], filed_late=filed_late, **values
    )
    if ended_at is not None:
        chain.append_run(transaction, values["run_id"])
    return ended_at


def _write_refusal(
    transaction: Transaction, values: Mapping[str, Any], *, filed_late: bool
) -> None:
    new = transaction.run(
        load("notebook_runs")["file_refusal"],
        filed_late=filed_late, **{"ended_at": None, **values},
    )  # fmt: skip
    if new:
        chain.append_run(transaction, values["run_id"])


def stale_runs(database: Database) -> list[Any]:
    """Rows that say running although their runner is gone.

    Here: its process is gone, or the machine started again. Elsewhere: no sign of life for long.
    """
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows(
            load("notebook_runs")["stale_runs"],
            host=socket.gethostname(),
            silent_seconds=SILENT_SECONDS,
        )
    return [row for row in rows if row.silent or _gone(row)]


def close_lost(database: Database, run_id: str, finding: Finding, archived: ArchivedAs) -> bool:
    """Closes a stale row as lost; False when its runner closed it meanwhile."""
    with database.transaction() as transaction:
        closed = transaction.value(
            load("notebook_runs")["close_lost"], run_id=run_id, **_found(finding, archived)
        )
        if closed is not None:
            chain.append_run(transaction, run_id)
    return closed is not None


def _gone(row: Any) -> bool:
    return row.host == socket.gethostname() and process_is_gone(row.pid, row.boot_id)


def _found(finding: Finding, archived: ArchivedAs) -> dict[str, Any]:
    return {
        "verdict": finding.verdict,
        "results": json.dumps(redacted(finding.results)).replace("\\u0000", "\\ufffd"),
        "cells_done": finding.cells_done,
        "error": finding.error,
        "archive_notebook": archived.notebook,
        "archive_html": archived.html,
        "archive_sha256": archived.sha256,
        "archive_objects": chain.objects_as_json(archived.objects),
    }


def _where_from(database: Database, procedure: Procedure, origin: Origin) -> dict[str, Any]:
    return {
        "procedure": procedure.name,
        "actor": one_line(origin.actor, 200),
        "trigger": origin.trigger,
        "schedule_id": origin.schedule_id,
        "due_at": origin.due_at,
        "incident": origin.incident,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot_id": boot_id(),
        "source_sha256": procedure.sha256,
        "code_commit": code_commit(),
        "database_identity": f"{database.address} {database.schema}",
    }


@cache
def package_versions() -> dict[str, str]:
    """What a run's outcome may depend on."""
    found = {"python": platform.python_version()}
    for name in ("runbook-workbench", *_PACKAGES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found
