"""One run of the archive: its row, its objects, and what the chain says of it."""

from __future__ import annotations

import json
import re
from typing import Any

from runbook_lib.archive import search
from runbook_lib.archive.store import Store
from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.errors import NotFoundError, UsageError

_RUN_ID_BEGINNING = re.compile(r"[0-9a-f-]{4,36}")


def find_entry(database: Database, run: str) -> dict[str, Any]:
    """One run by its id, the beginning of it, or an address such as `weekly/review@latest`.

    Beside its row: `entries`, what the chain holds of it ({sequence, kind, at, record}, `record` with
    what a sign-off or a deletion says), and `archive_record`, its results as an object.
    Raises `NotFoundError`, or `UsageError` for what is no address or fits several.
    """
    beginning = search.run_at(database, run) if "@" in run else run.lower()
    if not _RUN_ID_BEGINNING.fullmatch(beginning):
        raise UsageError(
            f"{run[:60]!r} is not the id of a run, nor four characters or more of its beginning, "
            "nor an address such as weekly/performance_review@latest."
        )
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows(load("notebook_runs")["find_runs"], beginning=beginning)
        if not rows:
            raise NotFoundError(f"There is no run {run}. `runbook archive list` shows the newest.")
        if len(rows) > 1:
            raise UsageError(f"Several runs begin with {run}; give more of the id.")
        about = transaction.rows(load("archive")["entries_about"], subject=rows[0].run_id)
    found: dict[str, Any] = rows[0]._asdict()
    found["archive_record"] = None
    found["entries"] = []
    for row in about:
        entry = json.loads(row.entry)
        is_run = row.kind.startswith("run")
        if is_run:
            found["archive_record"] = entry["record"]["name"]
        said = None if is_run or row.record is None else json.loads(row.record)
        found["entries"].append(
            {"sequence": row.sequence, "kind": row.kind, "at": entry["at"], "record": said}
        )
    return found


def state_of_notebook(store: Store, entry: dict[str, Any]) -> str:
    """Whether the archived notebook is what its row says: `unaltered`, `altered`, `missing` or `none`."""
    if entry["archive_notebook"] is None:
        return "none"
    found = store.found(entry["archive_notebook"])
    if found is None:
        return "missing"
    return "unaltered" if found.sha256 == entry["archive_sha256"] else "altered"
