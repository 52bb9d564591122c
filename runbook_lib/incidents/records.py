"""Incidents: opened, joined, told of, listed, found. While the database is away they open all the same."""

from __future__ import annotations

import json
import re
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from runbook_lib.archive import chain
from runbook_lib.credentials.masking import mask, one_line, redacted
from runbook_lib.database import Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import NotFoundError, UsageError
from runbook_lib.incidents.timeline import KIND, TimelineEntry, write_entry
from runbook_lib.spool import UNWRITABLE, Spool
from runbook_lib.spool import Entry as SpoolEntry

_SQL = load("incidents")
SEVERITIES = {
    "critical": "nothing is published, or what is published is wrong",
    "major": "part of the work fails or is late",
    "minor": "somebody should look; readers do not notice",
}
SPOOL_KIND = "incident"
LONGEST_TITLE_CHARACTERS = 200
LONGEST_NOTE_CHARACTERS = 2_000
WRITE_DEADLINE_SECONDS = 10.0
# No vowels, nothing that is taken for something else when it is read out over a telephone.
_ID_CHARACTERS = "bcdfghjkmnpqrstvwxz23456789"
_BEGINNING = re.compile(r"[0-9a-z-]{3,20}")


@dataclass(frozen=True)
class Incident:
    """One incident as its row says it. `procedure` and `parameters` are those that its alert named."""

    incident: str
    title: str
    severity: str
    lead: str
    opened_by: str
    status: str = "open"
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    opened_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    alert_id: str | None = None
    cause: str | None = None
    procedure: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    closed_at: datetime | None = None
    closed_by: str | None = None
    resolution: str | None = None
    archive_objects: list[dict[str, Any]] = field(default_factory=list)
    filed_late: bool = False

    @property
    def until(self) -> datetime:
        """Its end, or now."""
        return self.closed_at or datetime.now(UTC)


def new_id() -> str:
    """An id that nobody else gives, with a database or without: the day and five letters."""
    letters = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(5))
    return f"{datetime.now(UTC):%Y-%m-%d}-{letters}"


def new_incident(
    title: str,
    severity: str,
    lead: str,
    actor: str,
    *,
    began_at: datetime | None = None,
    alert: Mapping[str, Any] | None = None,
) -> Incident:
    """An incident that is not written yet. Raises `UsageError` for what it cannot be."""
    now = datetime.now(UTC)
    evidence = (alert or {}).get("evidence") or {}
    title = one_line(title, LONGEST_TITLE_CHARACTERS)
    if not title:
        raise UsageError("An incident needs a title: what is wrong, in a few words.")
    if severity not in SEVERITIES:
        raise UsageError(f"A severity is one of {', '.join(SEVERITIES)}, not {severity[:40]!r}.")
    if began_at is not None and began_at > now:
        raise UsageError(f"The trouble began at {began_at:%Y-%m-%d %H:%M} UTC: that is still to come.")  # fmt: skip
    return Incident(
        new_id(), title, severity, _name(lead), _name(actor), opened_at=now,
        began_at=began_at or (alert or {}).get("since") or now,
        alert_id=(alert or {}).get("alert_id"), cause=(alert or {}).get("cause"),
        procedure=evidence.get("procedure"), parameters=redacted(dict(evidence.get("parameters") or {})),
    )  # fmt: skip


def open_incident(database: Database, spool: Spool, incident: Incident) -> str | None:
    """Writes an incident with its first entry; returns why both wait in the spool, None when they do not.

    Raises `CouldNotBeDone` when the disk does not take them either.
    """
    values = _opening(incident)
    said = f"Opened: {incident.title} ({incident.severity}), led by {incident.lead}."
    entry = TimelineEntry(
        "opened", incident.opened_by, incident.incident, said, at=incident.opened_at
    ).as_record()
    try:
        with database.transaction(deadline_seconds=WRITE_DEADLINE_SECONDS) as transaction:
            transaction.run(_SQL["open_incident"], **values, filed_late=False)
            write_entry(transaction, entry, filed_late=False)
    except UNWRITABLE as error:
        spool.put(SPOOL_KIND, values)
        spool.put(KIND, entry)
        return one_line(str(error), 300)
    return None


def file_incident(transaction: Transaction, entry: SpoolEntry) -> None:
    """Files an incident that was opened while the database was away."""
    if transaction.run(_SQL["open_incident"], **entry.content, filed_late=True):
        chain.append_late(transaction, entry.content["incident"], entry.content)


def add_entry(
    database: Database, spool: Spool, incident: str, kind: str, actor: str, said: str
) -> str | None:
    """Adds what somebody did or says to an incident's timeline; returns why it waits in the spool."""
    text = mask(said).strip()
    if not text:
        raise UsageError("There is nothing to note; say it in a sentence.")
    if len(text) > LONGEST_NOTE_CHARACTERS:
        raise UsageError(
            f"A note has up to {LONGEST_NOTE_CHARACTERS:,} characters; this has {len(text):,}."
        )
    record = TimelineEntry(kind, _name(actor), incident, text).as_record()
    try:
        with database.transaction(deadline_seconds=WRITE_DEADLINE_SECONDS) as transaction:
            write_entry(transaction, record, filed_late=False)
    except UNWRITABLE as error:
        spool.put(KIND, record)
        return one_line(str(error), 300)
    return None


def list_incidents(
    database: Database, *, closed: bool = True, limit: int = 100
) -> list[dict[str, Any]]:
    """Incidents, open ones first, with how many entries, cells and responders their timelines have."""
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows(_SQL["list_incidents"], closed=closed, limit=limit)
    return [_plain(row._asdict()) for row in rows]


def find_incident(database: Database, wanted: str) -> Incident:
    """One incident by its id, the beginning of it, or its letters. Raises `NotFoundError`, `UsageError`."""
    beginning = wanted.strip().lower()
    if not _BEGINNING.fullmatch(beginning):
        raise UsageError(f"{wanted[:40]!r} is no incident's id; `runbook incident list` shows them.")  # fmt: skip
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows(_SQL["incidents_by_beginning"], beginning=beginning)
    if not rows:
        raise NotFoundError(f"There is no incident {wanted}; `runbook incident list` shows them.")
    if len(rows) > 1:
        raise UsageError(f"Several incidents begin with {wanted}; give all of the id.")
    return Incident(**_plain(rows[0]._asdict()))


def run_of_copy(incident: str, actor: str, notebook: str) -> str:
    """The id of the run that a working copy is: the same on every host, with or without a database."""
    return str(uuid.uuid5(_COPIES, f"{incident}/{actor}/{notebook}"))


_COPIES = uuid.UUID("6b8f1d5e-6f27-4a53-9a10-2f1c5f0f7d11")


def _opening(incident: Incident) -> dict[str, Any]:
    names = ("incident", "title", "severity", "lead", "began_at", "opened_at", "opened_by",
             "alert_id", "cause", "procedure")  # fmt: skip
    found = asdict(incident)
    return {**{name: found[name] for name in names}, "parameters": json.dumps(incident.parameters)}


def _name(actor: str) -> str:
    name = one_line(actor, 80)
    if not name:
        raise UsageError("Who is it? Give a name with --actor or --lead.")
    return name


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "alert_id": str(row["alert_id"]) if row["alert_id"] else None}
