"""Entries of the archive: runs as `notebook_runs` has them, with the objects that they name."""

from __future__ import annotations

import re
from typing import Any

from runbook_lib.archive.store import Store
from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.errors import NotFoundError, UsageError

_RUN_ID_BEGINNING = re.compile(r"[0-9a-f-]{4,36}")


def list_entries(
    database: Database, *, procedure: str | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """The newest runs first, of one procedure (`chapter/name`) or of all."""
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows(
            load("notebook_runs")["list_runs"], procedure=procedure, limit=limit
        )
    return [row._asdict() for row in rows]


def find_entry(database: Database, run_id: str) -> dict[str, Any]:
    """One run by its id or the beginning of it. Raises `NotFoundError`, or `UsageError` for several."""
    if not _RUN_ID_BEGINNING.fullmatch(run_id.lower()):
        raise UsageError(
            f"{run_id[:60]!r} is not the id of a run, nor four characters or more of its beginning."
        )
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows(load("notebook_runs")["find_runs"], beginning=run_id.lower())
    if not rows:
        raise NotFoundError(f"There is no run {run_id}. `runbook archive list` shows the newest.")
    if len(rows) > 1:
        raise UsageError(f"Several runs begin with {run_id}; give more of the id.")
    found: dict[str, Any] = rows[0]._asdict()
    return found


def state_of_notebook(store: Store, entry: dict[str, Any]) -> str:
    """Whether the archived notebook is what its row says: `unaltered`, `altered`, `missing` or `none`."""
    if entry["archive_notebook"] is None:
        return "none"
    found = store.found(entry["archive_notebook"])
    if found is None:
        return "missing"
    return "unaltered" if found.sha256 == entry["archive_sha256"] else "altered"
