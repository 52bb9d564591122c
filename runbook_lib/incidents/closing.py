"""Closing an incident: its copies go to the archive as they were run, and the post-mortem is drafted.

Each copy in which a cell was executed becomes a run of the archive, with the person as its actor; what
its cells changed is entered with it. Post-mortem and timeline are entered as one entry of the incident.
Whoever was killed in the middle can be followed by the next who closes it.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook_lib import known_secrets
from runbook_lib.archive import chain
from runbook_lib.archive.filing import ArchivedAs, file_run
from runbook_lib.archive.notebook_files import read_notebook, replace_atomically
from runbook_lib.archive.store import Store, StoredObject, open_store
from runbook_lib.credentials.masking import mask, one_line, redacted
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone, DatabaseUnreachable, RunbookError, UsageError
from runbook_lib.health.context import Context
from runbook_lib.incidents import copies, drafts
from runbook_lib.incidents.draft_page import as_page
from runbook_lib.incidents.facts import IncidentFacts, gather_facts
from runbook_lib.incidents.records import Incident, find_incident, run_of_copy
from runbook_lib.incidents.timeline import (
    TimelineEntry,
    close_lost_cells,
    read_timeline,
    write_entry,
)
from runbook_lib.procedures import claims, evidence, records
from runbook_lib.procedures.evidence import Finding
from runbook_lib.procedures.execution import Ending
from runbook_lib.processes import boot_id
from runbook_lib.spool import open_spool

_SQL, _RUNS = load("incidents"), load("notebook_runs")
ENTRY_KIND = "incident"
TRIGGER = "incident"
# In an archived copy: when each of its cells was executed, and how it went.
CELL_KEY = "runbook_timeline"
_STATUS = {"succeeded": "completed", "failed": "failed", "interrupted": "failed", "lost": "running"}


@dataclass(frozen=True)
class Closed:
    """What closing left: the runs in the archive, and the drafts. `notices` is what did not go well."""

    incident: Incident
    runs: tuple[str, ...]
    post_mortem: Path
    page: Path
    notices: tuple[str, ...] = ()


def close_incident(context: Context, wanted: str, actor: str, resolution: str) -> Closed:
    """Closes an incident. Raises `UsageError` for one that is closed, `CouldNotBeDone` without a database
    or when the archive takes nothing; then it stays open, and closing it again goes on."""
    database, settings = context.sources.bookkeeping, context.settings
    if problem := open_spool(settings).file(database).problem:
        raise DatabaseUnreachable(
            f"The incident stays open: its timeline waits in files. {problem}"
        )
    incident = find_incident(database, wanted)
    said = one_line(resolution, 1_000)
    if incident.status == "closed":
        raise UsageError(
            f"Incident {incident.incident} was closed by {incident.closed_by} already."
        )
    if not said:
        raise UsageError("How did it end? Say it in a sentence: it is the first line of the post-mortem.")  # fmt: skip
    name, run_id = f"closing incident {incident.incident}", records.new_run_id()
    claims.claim(database, name, run_id, actor)
    try:
        return _close(context, incident, actor, said)
    finally:
        claims.release(database, name, run_id)


def _close(context: Context, incident: Incident, actor: str, resolution: str) -> Closed:
    database, settings = context.sources.bookkeeping, context.settings
    store = open_store(settings)
    close_lost_cells(database, incident.incident, everywhere=True)
    runs, notices = _archive_copies(context, incident, store)
    ended = replace(
        incident, status="closed", closed_at=datetime.now(UTC), closed_by=actor, resolution=resolution
    )  # fmt: skip
    facts = gather_facts(context, ended)
    if facts.problem:
        raise DatabaseUnreachable(f"The incident stays open: {facts.problem}")
    last = TimelineEntry("closed", actor, incident.incident, f"Closed: {resolution}").as_record()
    facts = replace(facts, entries=[*facts.entries, {**last, "filed_late": False}])
    documents = _documents(facts, settings.runbook_public_url)
    objects = _store_documents(store, incident.incident, documents)
    _enter(context, facts, last, objects)
    chain.copy_entries(database, store)
    folder = copies.incidents_folder(settings) / incident.incident
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ("post_mortem.md", "post_mortem.html"):
        replace_atomically(folder / name, documents[name])
    return Closed(
        ended, tuple(runs), folder / "post_mortem.md", folder / "post_mortem.html", tuple(notices)
    )


def _archive_copies(
    context: Context, incident: Incident, store: Store
) -> tuple[list[str], list[str]]:
    """Archives each copy that was worked in; what is on another machine is named."""
    entries = [each for each in read_timeline(context.sources.bookkeeping, incident.incident)
               if each["kind"] == "cell" and each["run_id"]]  # fmt: skip
    runs, notices = [], []
    for actor, name in dict.fromkeys((each["actor"], each["notebook"]) for each in entries):
        run_id = run_of_copy(incident.incident, actor, name)
        mine = [each for each in entries if each["run_id"] == run_id]
        folder = copies.folder_of(context.settings, incident.incident, actor)
        path = folder / f"{name}.ipynb" if folder else None
        if path is None or not path.is_file():
            notices.append(f"{name} of {actor} is not on this machine (its cells ran on {mine[0]['host']}); it is not archived.")  # fmt: skip
            continue
        try:
            _archive_copy(context, incident, store, run_id, path, mine)
            runs.append(run_id)
        except (RunbookError, OSError) as error:
            notices.append(f"{name} of {actor} is not archived: {mask(str(error))}")
    return runs, notices


def _archive_copy(
    context: Context,
    incident: Incident,
    store: Store,
    run_id: str,
    path: Path,
    entries: Sequence[dict[str, Any]],
) -> None:
    database = context.sources.bookkeeping
    notebook = read_notebook(path.read_bytes(), path.name)
    origin = notebook.metadata.pop(copies.METADATA_KEY, {})
    procedure = str(origin.get("procedure") or f"incident/{_plain_name(path.stem)}")
    started_at = entries[0]["at"]
    finding = _finding(notebook, entries)
    values = {
        "run_id": run_id, "procedure": procedure, "actor": entries[0]["actor"], "trigger": TRIGGER,
        "schedule_id": None, "due_at": None, "incident": incident.incident, "started_at": started_at,
        "parameters": json.dumps(redacted(origin.get("parameters") or {})), "host": socket.gethostname(),
        "pid": os.getpid(), "boot_id": boot_id(), "source_sha256": str(origin.get("source_sha256") or ""),
        "code_commit": records.code_commit(), "package_versions": json.dumps(records.package_versions()),
        "database_identity": f"{database.address} {database.schema}", "cells_total": finding.cells_total,
    }  # fmt: skip
    with database.transaction() as transaction:
        opened = transaction.row(_RUNS["open_run"], **values, filed_late=False)
        before = None if opened else transaction.row(_RUNS["find_runs"], beginning=run_id)
    if before is not None and before.archive_objects:
        return  # Archived when somebody was killed while closing it.
    _remove_leftovers(store, procedure, started_at, run_id)
    archived = file_run(
        notebook, _facts(incident, values, finding, entries), summary=finding.summary, store=store,
        settings=context.settings,
    )  # fmt: skip
    with database.transaction() as transaction:
        transaction.run(_RUNS["close_run"], **_closing(run_id, finding, archived))
        chain.append_run(transaction, run_id)


def _finding(notebook: Any, entries: Sequence[dict[str, Any]]) -> Finding:
    """What the copy came to, from its outputs and the timeline: the newest execution of a cell counts."""
    latest = {each["cell_id"]: each for each in entries}
    for cell in evidence.code_cells(notebook):
        times = [each for each in entries if each["cell_id"] == cell.get("id")]
        if not times:
            continue
        last = latest[cell["id"]]
        cell.metadata["papermill"] = {"status": _STATUS.get(last["status"], "running")}
        cell.metadata[CELL_KEY] = [
            {"at": each["at"].isoformat(), "status": each["status"], "seconds": each["seconds"],
             "verdict": each["verdict"], "error": each["error"]} for each in times
        ]  # fmt: skip
    lost = any(each["status"] == "lost" for each in latest.values())
    ending = Ending("kernel_died", "The kernel ended while a cell ran.") if lost else Ending("completed", "")  # fmt: skip
    found = evidence.judge(notebook, ending)
    verdicts = [each for each in entries if each["verdict"] in evidence.VERDICTS]
    if found.verdict is None and verdicts:
        # The notebook was not saved after its last cell; the timeline knows what that concluded.
        found = replace(found, verdict=verdicts[-1]["verdict"], summary=verdicts[-1]["said"] or "")
    return found


def _facts(
    incident: Incident,
    values: dict[str, Any],
    finding: Finding,
    entries: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """What the archived copy says about itself."""
    return {
        "run_id": values["run_id"], "procedure": values["procedure"], "status": finding.status,
        "verdict": finding.verdict, "error": finding.error,
        "cells": f"{finding.cells_done} of {finding.cells_total} ran, in {len(entries)} executions",
        "actor": values["actor"], "trigger": TRIGGER, "incident": incident.incident,
        "started_at": values["started_at"].astimezone(UTC).isoformat(timespec="seconds"),
        "ended_at": datetime.now(UTC).isoformat(timespec="seconds"), "code_commit": values["code_commit"],
    }  # fmt: skip


def _closing(run_id: str, finding: Finding, archived: ArchivedAs) -> dict[str, Any]:
    return {
        "run_id": run_id, "status": finding.status, "verdict": finding.verdict, "ended_at": None,
        "results": json.dumps(redacted(finding.results)), "cells_done": finding.cells_done,
        "cells_total": finding.cells_total, "error": finding.error, "filed_late": False,
        "archive_notebook": archived.notebook, "archive_html": archived.html,
        "archive_sha256": archived.sha256, "archive_objects": chain.objects_as_json(archived.objects),
    }  # fmt: skip


def _remove_leftovers(store: Store, procedure: str, started_at: datetime, run_id: str) -> None:
    """What somebody left who was killed before it was entered: no entry names it."""
    stem = chain.stem_of_run(procedure, started_at, run_id)
    for ending in (".ipynb", ".html"):
        store.remove(f"{stem}{ending}")


def _documents(facts: IncidentFacts, public_url: str | None) -> dict[str, bytes]:
    """The drafts as files. Raises `CouldNotBeDone` when a known secret is left in them."""
    text = drafts.post_mortem(facts, public_url)
    found = {
        "post_mortem.md": text.encode(),
        "post_mortem.html": as_page(facts, text),
        "timeline.json": (chain.canonical(redacted(_as_plain(facts.entries))) + "\n").encode(),
    }
    for name, data in found.items():
        if secrets := known_secrets.found_in(data):
            raise CouldNotBeDone(
                f"{name} still holds {', '.join(secrets)}; the incident stays open."
            )
    return found


def _as_plain(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    # Fractions do not go into canonical JSON alike everywhere: seconds are text there.
    return [{name: str(value) if isinstance(value, float) else value for name, value in each.items()}
            for each in entries]  # fmt: skip


def _store_documents(
    store: Store, incident: str, documents: dict[str, bytes]
) -> list[StoredObject]:
    stored = []
    for name, data in documents.items():
        place = f"incidents/{incident}/{name}"
        store.remove(place)  # Of a closing that was not entered; one that was is not repeated.
        stored.append(store.write(place, data))
    return stored


def _enter(
    context: Context, facts: IncidentFacts, last: dict[str, Any], objects: Sequence[StoredObject]
) -> None:
    """Closes the row, and enters it with its documents in the archive's chain: both, or neither."""
    incident, held = facts.incident, json.loads(chain.objects_as_json(objects))
    record = {
        "incident": incident.incident, "title": incident.title, "severity": incident.severity,
        "lead": incident.lead, "began_at": incident.began_at, "opened_at": incident.opened_at,
        "closed_by": incident.closed_by, "resolution": incident.resolution, "cause": incident.cause,
        "entries": len(facts.entries), "cells": len(facts.cells), "responders": facts.responders,
        "runs": [each["run_id"] for each in facts.runs],
    }  # fmt: skip
    with context.sources.bookkeeping.transaction() as transaction:
        closed = transaction.value(
            _SQL["close_incident"], incident=incident.incident, actor=incident.closed_by,
            resolution=incident.resolution, archive_objects=json.dumps(held),
        )  # fmt: skip
        if closed is None:
            raise CouldNotBeDone(
                f"Incident {incident.incident} was closed by somebody else meanwhile."
            )
        write_entry(transaction, last, filed_late=False)
        chain.append(transaction, ENTRY_KIND, incident.incident, redacted(record), objects=held)


def _plain_name(stem: str) -> str:
    return "".join(each if each.isascii() and each.isalnum() else "_" for each in stem.lower())[:60] or "notebook"  # fmt: skip
