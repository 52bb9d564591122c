"""Runs a procedure: check, open the record, execute, redact, archive, close the record."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook_lib.archive.filing import ArchivedAs, NotArchived, file_run
from runbook_lib.archive.notebook_files import notebook_bytes, read_notebook
from runbook_lib.archive.store import open_store
from runbook_lib.changes.actions import ALLOWED_CHANGES, allowed_changes
from runbook_lib.code_version import code_commit
from runbook_lib.credentials.masking import mask, redacted
from runbook_lib.credentials.store import ADDRESS_FROM, EMBEDDED, origin_of
from runbook_lib.database import Database, UnavailableDatabase
from runbook_lib.errors import CouldNotBeDone, DatabaseUnreachable, RunbookError
from runbook_lib.procedures import claims, evidence, records, resumption
from runbook_lib.procedures.catalogue import Procedure, find
from runbook_lib.procedures.evidence import Finding
from runbook_lib.procedures.execution import (
    Ending,
    Progress,
    Request,
    Steps,
    environment_for,
    execute,
)
from runbook_lib.procedures.journal import NOTEBOOK_FILE, executed_notebook, is_kept
from runbook_lib.procedures.parameters import ParametersRefused, check, plain
from runbook_lib.procedures.pulse import Either, Pulse
from runbook_lib.procedures.records import Origin, Record, RunRecord
from runbook_lib.settings import Settings
from runbook_lib.spool import UNWRITABLE, Spool, open_spool

SHORTEST_DEADLINE_SECONDS = 600.0
DEADLINE_PER_EXPECTED = 5
CELL_DEADLINE_SECONDS = 600.0


def run(
    procedure: str,
    parameters: Mapping[str, Any] | None = None,
    actor: str = "unknown",
    trigger: str = "manual",
    *,
    database: Database,
    settings: Settings,
    schedule_id: str | None = None,
    due_at: datetime | None = None,
    incident: str | None = None,
    deadline_seconds: float | None = None,
    cell_deadline_seconds: float = CELL_DEADLINE_SECONDS,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    stop: threading.Event | None = None,
    on_notice: Callable[[str], None] = lambda text: None,
    allow_changes: Collection[str] | None = None,
    steps: Steps | None = None,
    resume: str | None = None,
    from_cell: int | None = None,
) -> RunRecord:
    """Runs a procedure and archives what it did; returns its closed record.

    The record says whether the notebook ran whole (`status`) and what it found (`verdict`). Setting
    `stop` ends it as killed. With `allow_changes`, it may change only what is named there. While the
    database cannot be written, it runs all the same, changes nothing, and its record waits in the
    spool; `on_notice` is told. `steps` decides about each cell. `resume` is a run that did not get
    through: this one has its parameters and is linked to it, and goes on at `from_cell` (see
    `resumption.py`). Raises `ParametersRefused`
    (recorded as refused), `NotFoundError`, and `CouldNotBeDone` when the record could not be opened or
    closed, or the archive took nothing.
    """
    found, spool = find(procedure, settings), open_spool(settings)
    origin = Origin(actor, trigger, schedule_id, due_at, incident)
    values = _checked(found, parameters or {}, origin, database, spool)
    away = _tidy(database, settings)
    if away is not None:
        # It still looks, since that is when looking matters most; nothing can be recorded, so nothing is changed.
        allow_changes = ()
    notebook = read_notebook(json.dumps(found.notebook).encode(), found.name)
    before = None
    if resume is not None:
        before = resumption.find(resume, found, database, settings, from_cell)
        values = _checked(
            found, {**before.parameters, **(parameters or {})}, origin, database, spool
        )
    evidence.prepare(notebook, values)
    run_id = records.new_run_id()
    with _claimed(found, run_id, origin, database, spool, away) as claimed:
        record = Record.open(
            database, found, plain(values), origin, len(evidence.code_cells(notebook)),
            spool=spool, away=away, run_id=run_id,
        )  # fmt: skip
        if record.notice:
            on_notice(f"{record.notice} Until then nothing can be changed.")
        if before is not None:
            resumption.go_on(before, notebook, record.run_id, database)
        directory = _private_directory(settings, record.run_id)
        request = Request(
            directory,
            environment=_environment(
                record.run_id, actor, directory, database, settings, allow_changes
            ),
            cell_deadline_seconds=cell_deadline_seconds,
            run_deadline_seconds=deadline_seconds or _deadline_seconds(found),
            fork_server=settings.fork_server,
            steps=steps,
        )
        try:
            (directory / NOTEBOOK_FILE).write_bytes(notebook_bytes(notebook))
            ending = _execute(request, record.run_id, claimed, database, stop, on_progress)
        except BaseException as error:
            _end(record, found, directory, _interrupted(error), origin, settings)
            raise
        return _end(record, found, directory, ending, origin, settings)


def _execute(
    request: Request,
    run_id: str,
    claimed: str | None,
    database: Database,
    stop: threading.Event | None,
    on_progress: Callable[[Progress], None],
) -> Ending:
    """Executes with a pulse beside it, which shows how far it is and hears of a cancellation."""
    looks: list[Ending] = []
    pulse = Pulse(
        database, run_id, request.directory, claimed, lambda: looks[-1] if looks else None
    )
    with pulse.beating():
        ending = execute(
            request,
            stop=Either(stop or threading.Event(), pulse.cancelled),
            on_progress=on_progress,
            on_look=lambda so_far: looks.__setitem__(slice(None), [so_far]),
        )
    if ending.outcome == "stopped" and pulse.cancelled_by:
        ending.message = f"The run was cancelled by {pulse.cancelled_by}."
    return ending


@contextmanager
def _claimed(
    found: Procedure,
    run_id: str,
    origin: Origin,
    database: Database,
    spool: Spool,
    away: Exception | None,
) -> Iterator[str | None]:
    """Holds the claim of a procedure with effects; yields its name, None for a run that changes nothing.

    Raises `ProcedureBusy`, which is recorded as refused.
    """
    if found.card.read_only or away is not None:
        yield None
        return
    try:
        claims.claim(database, found.name, run_id, origin.actor)
    except claims.ProcedureBusy as error:
        records.file_refusal(database, found, origin, str(error), spool)
        raise
    try:
        yield found.name
    finally:
        claims.release(database, found.name, run_id)


def _tidy(database: Database, settings: Settings) -> Exception | None:
    """Files what waits in the spool and closes lost runs; why not, when the database is away."""
    try:
        file_spool(database, settings)
        close_lost_runs(database, settings)
    except UNWRITABLE as error:
        return error
    return None


def file_spool(database: Database, settings: Settings) -> None:
    """Files what waits in the spool. Raises `DatabaseUnreachable` when it has to wait on."""
    if problem := open_spool(settings).file(database).problem:
        raise DatabaseUnreachable(problem)


def close_lost_runs(database: Database, settings: Settings) -> list[str]:
    """Closes records whose runner vanished, with what it left behind; returns their ids."""
    return [
        row.run_id
        for row in records.stale_runs(database)
        if _close_lost_run(row, database, settings)
    ]


def _close_lost_run(row: Any, database: Database, settings: Settings) -> bool:
    directory = runs_directory(settings) / row.run_id
    vanished = Ending("vanished", "The process that ran it vanished.")
    finding, archived, kept = Finding("lost", vanished.message, 0, 0), ArchivedAs(), False
    try:
        if is_kept(directory):
            notebook = executed_notebook(directory)
            finding = evidence.judge(notebook, vanished)
            origin = Origin(row.actor, row.trigger, row.schedule_id, row.due_at)
            facts = _facts(row.run_id, row.procedure, origin, finding, row.started_at)
            archived = file_run(
                notebook,
                facts,
                summary=finding.summary,
                store=open_store(settings),
                settings=settings,
            )
    except (OSError, RunbookError) as error:
        # Closing comes first: no later run may fail because an earlier one left something unusable.
        said = f"{vanished.message} What it left is not archived: {mask(str(error))}"
        finding, kept = Finding("lost", said, finding.cells_done, finding.cells_total), True
    closed = records.close_lost(database, row.run_id, finding, archived)
    if closed and not kept:
        shutil.rmtree(directory, ignore_errors=True)
    return closed


def _checked(
    found: Procedure,
    parameters: Mapping[str, Any],
    origin: Origin,
    database: Database,
    spool: Spool,
) -> dict[str, Any]:
    try:
        return check(found.declarations, parameters)
    except ParametersRefused as refusal:
        reason = f"{found.name} was not run. {mask(str(refusal))}"
        try:
            records.file_refusal(database, found, origin, reason, spool)
        except RunbookError:
            pass  # The caller is told the reason either way.
        raise ParametersRefused(reason) from None


def _end(
    record: Record,
    found: Procedure,
    directory: Path,
    ending: Ending,
    origin: Origin,
    settings: Settings,
) -> RunRecord:
    """Redacts and archives what there is, closes the record, and removes the private directory."""
    notebook = _executed(directory)
    finding = evidence.judge(notebook, ending)
    facts = _facts(record.run_id, found.name, origin, finding, record.started_at)
    store = open_store(settings)
    if record.notice:
        facts["record"] = "kept in the spool, filed late: the database could not be written"
    try:
        archived = file_run(
            notebook, facts, summary=finding.summary, store=store, settings=settings
        )
    except NotArchived as error:
        unarchived = Finding("failed", mask(str(error)), finding.cells_done, finding.cells_total)
        record.close(unarchived, error.archived)
        raise CouldNotBeDone(f"{error} The executed notebook stays at {directory}.") from error
    ended_at = record.close(finding, archived)
    record.copy_entries(store)
    shutil.rmtree(directory, ignore_errors=True)
    return RunRecord(
        record.run_id, found.name, finding.status, finding.verdict, redacted(finding.results),
        finding.error, finding.cells_done, finding.cells_total, record.started_at, ended_at, archived,
        notice=record.notice,
    )  # fmt: skip


def _facts(
    run_id: str, procedure: str, origin: Origin, finding: Finding, started_at: datetime
) -> dict[str, Any]:
    """What the archived notebook says about its run."""
    return {
        "run_id": run_id,
        "procedure": procedure,
        "status": finding.status,
        "verdict": finding.verdict,
        "error": finding.error,
        "cells": f"{finding.cells_done} of {finding.cells_total} ran",
        "actor": origin.actor,
        "trigger": origin.trigger,
        "schedule_id": origin.schedule_id,
        "due_at": origin.due_at.astimezone(UTC).isoformat() if origin.due_at else None,
        "started_at": started_at.astimezone(UTC).isoformat(timespec="seconds"),
        "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_commit": code_commit(),
    }


def _executed(directory: Path) -> Any:
    if not is_kept(directory):
        raise CouldNotBeDone(f"{directory} is gone, and the run with it.")
    return executed_notebook(directory)


def _interrupted(error: BaseException) -> Ending:
    if isinstance(error, KeyboardInterrupt):
        return Ending("stopped", "The run was interrupted.")
    return Ending("process_died", f"The runner met {type(error).__name__}: {error}")


def _environment(
    run_id: str,
    actor: str,
    directory: Path,
    database: Database,
    settings: Settings,
    allow_changes: Collection[str] | None,
) -> dict[str, str]:
    # The kernel gets the database's address, so that it neither looks for one nor starts one. That of a
    # pipeline that is not ours, and its mapping, are in DATABASE_URL and RUNBOOK_MAPPING as they are.
    ours = "RUNBOOK_DATABASE_URL" if settings.attached else "DATABASE_URL"
    address = {} if isinstance(database, UnavailableDatabase) else {ours: database.url}
    if settings.attached and settings.database_url is not None:
        address["DATABASE_URL"] = settings.database_url.get_secret_value()
        address["RUNBOOK_MAPPING"] = str(settings.runbook_mapping)
    return environment_for(
        os.environ,
        directory,
        **address,
        **({} if allow_changes is None else {ALLOWED_CHANGES: allowed_changes(allow_changes)}),
        **{ADDRESS_FROM: EMBEDDED if settings.database_url is None else origin_of("DATABASE_URL")},
        RUNBOOK_DATABASE_SCHEMA=database.schema,
        RUNBOOK_HOME=str(settings.runbook_home),
        RUNBOOK_RUN_ID=run_id,  # what a cell does is recorded as this run's
        RUNBOOK_ACTOR=actor,  # and as done by whoever started it
    )


def _private_directory(settings: Settings, run_id: str) -> Path:
    directory = runs_directory(settings) / run_id
    directory.mkdir(parents=True, mode=0o700)
    return directory


def runs_directory(settings: Settings) -> Path:
    """Where runs keep what they have while they go on, each in a private folder."""
    return settings.runbook_home / "runs"


def _deadline_seconds(found: Procedure) -> float:
    expected_seconds = found.card.expected_minutes * 60
    return max(SHORTEST_DEADLINE_SECONDS, DEADLINE_PER_EXPECTED * expected_seconds)
