"""Rows of `notebook_runs`: a run's record is opened before its kernel starts and always ends."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from runbook_lib.archive.redaction import redacted
from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import CouldNotBeDone, DatabaseUnreachable, DeadlineExceeded
from runbook_lib.procedures.catalogue import Procedure
from runbook_lib.procedures.evidence import Finding
from runbook_lib.processes import boot_id
from runbook_lib.settings import PROJECT_DIRECTORY

HEARTBEAT_SECONDS = 10.0
# A runner that is cut off from the database for longer is taken for lost; it puts that right at its end.
SILENT_SECONDS = 180.0
CLOSE_TRIES_SECONDS = 60.0
_PACKAGES = ("papermill", "nbclient", "ipykernel", "pandas", "matplotlib", "sqlalchemy", "psycopg2-binary")  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """Who or what asked for a run: a person, or a schedule and its due time."""

    actor: str
    trigger: str
    schedule_id: str | None = None
    due_at: datetime | None = None


@dataclass(frozen=True)
class ArchivedAs:
    """The names under which a run stands in the archive; all None when nothing was archived."""

    notebook: str | None = None
    html: str | None = None
    sha256: str | None = None


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


class Record:
    """One open row of `notebook_runs`."""

    def __init__(self, database: Database, run_id: str, started_at: datetime) -> None:
        self._database = database
        self.run_id = run_id
        self.started_at = started_at
        self._beaten_at = time.monotonic()

    @classmethod
    def open(
        cls,
        database: Database,
        procedure: Procedure,
        parameters: Mapping[str, Any],
        origin: Origin,
        cells_total: int,
    ) -> Record:
        """Opens the record. Raises what the database raises; then nothing was started."""
        with database.transaction() as transaction:
            row = transaction.row(
                load("notebook_runs")["open_run"],
                parameters=json.dumps(redacted(dict(parameters))),
                package_versions=json.dumps(_package_versions()),
                cells_total=cells_total,
                **_where_from(database, procedure, origin),
            )
        assert row is not None
        return cls(database, row.run_id, row.started_at)

    def beat(self, cells_done: int) -> None:
        """A sign of life, at most once in `HEARTBEAT_SECONDS`. Never raises: the run goes on."""
        if time.monotonic() - self._beaten_at < HEARTBEAT_SECONDS:
            return
        self._beaten_at = time.monotonic()
        try:
            with self._database.transaction(deadline_seconds=5) as transaction:
                transaction.run(
                    load("notebook_runs")["beat"], run_id=self.run_id, cells_done=cells_done
                )
        except CouldNotBeDone:
            pass  # Closing tries for longer, and says it when it does not succeed.

    def close(self, finding: Finding, archived: ArchivedAs) -> datetime:
        """Closes the record as what happened. Tries for a while where the database is away.

        Raises `CouldNotBeDone` saying where the run is kept when its row could not be written.
        """
        until = Deadline.after(CLOSE_TRIES_SECONDS)
        while True:
            try:
                return self._close_now(finding, archived)
            except (DatabaseUnreachable, DeadlineExceeded) as error:
                if until.passed():
                    kept = archived.notebook or "nothing was archived"
                    raise CouldNotBeDone(
                        f"Run {self.run_id} ended as {finding.status}, but its record could not be closed: {error} "
                        f"Archived: {kept}. The next run closes the record as lost."
                    ) from error
                time.sleep(1)

    def _close_now(self, finding: Finding, archived: ArchivedAs) -> datetime:
        with self._database.transaction() as transaction:
            ended_at = transaction.value(
                load("notebook_runs")["close_run"],
                run_id=self.run_id,
                status=finding.status,
                cells_total=finding.cells_total,
                **_found(finding, archived),
            )
        if ended_at is None:
            raise CouldNotBeDone(f"Run {self.run_id} has no open record; its row was removed.")
        return ended_at


def file_refusal(database: Database, procedure: Procedure, origin: Origin, reason: str) -> str:
    """Records that a run was refused; returns the record's id."""
    with database.transaction() as transaction:
        run_id = transaction.value(
            load("notebook_runs")["file_refusal"],
            error=one_line(reason, 1000),
            **_where_from(database, procedure, origin),
        )
    return str(run_id)


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
    return closed is not None


def _gone(row: Any) -> bool:
    if row.host != socket.gethostname():
        return False
    if row.boot_id != boot_id():
        return True
    try:
        os.kill(row.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _found(finding: Finding, archived: ArchivedAs) -> dict[str, Any]:
    return {
        "verdict": finding.verdict,
        "results": json.dumps(redacted(finding.results)).replace("\\u0000", "\\ufffd"),
        "cells_done": finding.cells_done,
        "error": finding.error,
        "archive_notebook": archived.notebook,
        "archive_html": archived.html,
        "archive_sha256": archived.sha256,
    }


def _where_from(database: Database, procedure: Procedure, origin: Origin) -> dict[str, Any]:
    return {
        "procedure": procedure.name,
        "actor": one_line(origin.actor, 200),
        "trigger": origin.trigger,
        "schedule_id": origin.schedule_id,
        "due_at": origin.due_at,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot_id": boot_id(),
        "source_sha256": procedure.sha256,
        "code_commit": code_commit(),
        "database_identity": f"{database.address} {database.schema}",
    }


@cache
def code_commit() -> str | None:
    """The commit of the checkout, with `-dirty` when files differ from it; None outside of one."""
    command = ["git", "-C", str(PROJECT_DIRECTORY), "describe", "--always", "--dirty",
               "--abbrev=40", "--exclude=*"]  # fmt: skip
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


@cache
def _package_versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("runbook-workbench", *_PACKAGES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found
