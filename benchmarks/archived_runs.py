"""Runs in an archive, made as the runner files them but without executing anything."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from runbook_lib.archive import chain
from runbook_lib.archive.filing import ArchivedAs
from runbook_lib.archive.store import Store
from runbook_lib.database import Connection, Database

INSERT = """
    INSERT INTO notebook_runs (
        run_id, procedure, status, verdict, parameters, results, actor, trigger, incident, started_at,
        ended_at, host, pid, source_sha256, code_commit, package_versions, cells_total, cells_done,
        archive_notebook, archive_html, archive_sha256, archive_objects
    )
    VALUES (
        coalesce(%(run_id)s, time_ordered_uuid()), %(procedure)s, %(status)s, %(verdict)s, %(parameters)s,
        %(results)s, %(actor)s, 'manual', %(incident)s, coalesce(%(started_at)s, now()),
        coalesce(%(started_at)s, now()), 'host', 1, repeat('a', 64), 'abc123', '{"python": "3"}', 3, 3,
        %(notebook)s, %(page)s, %(sha256)s, %(objects)s
    )
    RETURNING run_id::text
"""


def file_run(database: Database, store: Store | None = None, **given: Any) -> str:
    """Files one run, with its objects and its entry beside them; returns its id."""
    with database.connect() as connection:
        run_id = add_run(connection, store, **given)
    if store is not None:
        chain.copy_entries(database, store)
    return run_id


def add_run(
    connection: Connection,
    store: Store | None = None,
    *,
    run_id: str | None = None,
    procedure: str = "weekly/review",
    status: str = "succeeded",
    verdict: str | None = "ok",
    parameters: dict[str, Any] | None = None,
    results: dict[str, Any] | None = None,
    actor: str = "tester",
    incident: str | None = None,
    started_at: datetime | None = None,
    notebook: bytes = b'{"cells": []}',
    page: bytes = b"<html></html>",
    actions: int = 0,
) -> str:
    """Inserts one ended run, stores its objects and appends its entry; the entry is not copied yet."""
    with connection.transaction() as transaction:
        run_id = run_id or str(transaction.value("SELECT time_ordered_uuid()"))
    archived = ArchivedAs()
    if store is not None:
        name = chain.stem_of_run(procedure, started_at or datetime.now(UTC), run_id)
        stored = store.write(f"{name}.ipynb", notebook), store.write(f"{name}.html", page)
        archived = ArchivedAs(stored[0].name, stored[1].name, stored[0].sha256, stored)
    with connection.transaction() as transaction:
        transaction.run(
            INSERT,
            run_id=run_id, procedure=procedure, status=status, verdict=verdict,
            parameters=json.dumps(parameters or {}), results=json.dumps(results or {}), actor=actor,
            incident=incident, started_at=started_at, notebook=archived.notebook, page=archived.html,
            sha256=archived.sha256, objects=chain.objects_as_json(archived.objects),
        )  # fmt: skip
        for number in range(actions):
            transaction.run(
                "INSERT INTO admin_actions (actor, action, outcome, before, after, run_id, ended_at) "
                "VALUES ('tester', 'jobs.retry', 'done', %(before)s, '{}', %(run_id)s::uuid, now())",
                before=json.dumps({"n": number}), run_id=run_id,
            )  # fmt: skip
        chain.append_run(transaction, run_id)
    return run_id
