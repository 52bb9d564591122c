"""An incident by its id, also while the database is away: from the spool, or as this machine remembers it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from runbook_lib.archive.notebook_files import replace_atomically
from runbook_lib.credentials.masking import redacted
from runbook_lib.database import Database
from runbook_lib.errors import NotFoundError
from runbook_lib.incidents.copies import incidents_folder
from runbook_lib.incidents.records import SPOOL_KIND, Incident, find_incident
from runbook_lib.settings import Settings
from runbook_lib.spool import UNWRITABLE, open_spool

FILE = "about.json"
_MOMENTS = ("began_at", "opened_at", "closed_at")
_NOT_THERE: tuple[type[Exception], ...] = (NotFoundError, *UNWRITABLE)


def remember(settings: Settings, incident: Incident) -> None:
    """Keeps what is known of an incident beside its copies, for when the database is away."""
    folder = incidents_folder(settings) / incident.incident
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = json.dumps(redacted(asdict(incident)), default=str)
    replace_atomically(folder / FILE, text.encode())


def find_known(database: Database, settings: Settings, wanted: str) -> Incident:
    """An incident by its id, the beginning of it, or its letters.

    Raises what `find_incident` raises where neither the spool nor this machine knows it.
    """
    try:
        return find_incident(database, wanted)
    except _NOT_THERE as error:
        known = _waiting(settings, wanted) or (
            None if isinstance(error, NotFoundError) else _remembered(settings, wanted)
        )
        if known is None:
            raise
        return known


def _waiting(settings: Settings, wanted: str) -> Incident | None:
    """One that was opened while the database was away, and is not filed yet."""
    for entry in open_spool(settings).entries():
        if entry.kind == SPOOL_KIND and _is_meant(entry.content["incident"], wanted):
            parameters = json.loads(entry.content["parameters"])
            return _incident({**entry.content, "parameters": parameters, "filed_late": True})
    return None


def _remembered(settings: Settings, wanted: str) -> Incident | None:
    found = [each for each in sorted(incidents_folder(settings).glob(f"*/{FILE}"))
             if _is_meant(each.parent.name, wanted)]  # fmt: skip
    if len(found) != 1:
        return None
    try:
        return _incident(json.loads(found[0].read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _incident(record: Mapping[str, Any]) -> Incident:
    moments = {name: datetime.fromisoformat(record[name]) for name in _MOMENTS if record.get(name)}
    return Incident(**{**record, **moments})


def _is_meant(incident: str, wanted: str) -> bool:
    text = wanted.strip().lower()
    return len(text) >= 3 and (incident.startswith(text) or incident.endswith(f"-{text}"))
