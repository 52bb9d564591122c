"""The spool: what could not be written to the database, in files until a process can file it.

A procedure, a refused action and an alert must leave their record in exactly the hours in which the
database is away. So each becomes a file: redacted, on the disk before the call returns, and filed by
whichever process next has a database. An entry and the note that it was filed are one transaction;
so any number may file at once, and be killed at any moment, without filing anything twice or losing
anything. Each files one entry after the other, so that an ending never comes before its beginning.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.errors

from runbook_lib.credentials.masking import one_line, redacted
from runbook_lib.database.connection import Connection, Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.durable_files import write_durably
from runbook_lib.errors import (
    CouldNotBeDone,
    DatabaseUnreachable,
    DeadlineExceeded,
    NotFoundError,
    RunbookError,
    ServiceNotStarted,
    UsageError,
)
from runbook_lib.settings import Settings, load_settings

# What a filer gets is its own transaction, in which the note that the entry was filed stands already.
Filer = Callable[[Transaction, "Entry"], None]

# kind → who files it. Named, not imported: whoever comes next may know nothing of the room that wrote it.
FILERS: dict[str, str] = {
    "run_opened": "runbook_lib.procedures.records:file_opened",
    "run_closed": "runbook_lib.procedures.records:file_closed",
    "run_refused": "runbook_lib.procedures.records:file_refused",
    "schedule_settled": "runbook_lib.scheduling.ledger:file_settled",
    "schedule_unclaimed": "runbook_lib.scheduling.ledger:file_unclaimed",
    "admin_action": "runbook_lib.changes.actions:file_action",
    "admin_action_closed": "runbook_lib.changes.actions:file_closing",
    "alert": "runbook_lib.health.alerts.filing:file_alert",
    "alert_delivery": "runbook_lib.health.alerts.filing:file_delivery",
    "incident": "runbook_lib.incidents.records:file_incident",
    "timeline": "runbook_lib.incidents.timeline:file_entry",
}

# The database could not be written now: away, too slow, full, locked, read-only, not coming up.
UNWRITABLE: tuple[type[Exception], ...] = (
    DatabaseUnreachable,
    DeadlineExceeded,
    ServiceNotStarted,
    psycopg2.OperationalError,
    psycopg2.errors.ReadOnlySqlTransaction,
)
# The entry itself is at fault: it will not fit later either.
_UNFIT = (
    UsageError,
    NotFoundError,
    psycopg2.DataError,
    psycopg2.IntegrityError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
)
LARGEST_BYTES = 16_000_000
FILING_DEADLINE_SECONDS = 20.0

_NAME = re.compile(r"\d{20}-(?P<kind>[a-z_]{1,40})-(?P<entry_id>[0-9a-f-]{36})\.json")
# What PostgreSQL's text and jsonb do not hold.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_LOG = logging.getLogger(__name__)
_order = threading.Lock()
_newest_ns = 0


@dataclass(frozen=True)
class Entry:
    """One thing that happened while the database could not be written."""

    entry_id: str
    kind: str
    happened_at: datetime
    host: str
    content: dict[str, Any]


@dataclass
class Filed:
    """What one pass over the spool did. `problem` says why it ended before everything was filed."""

    entries: list[Entry] = field(default_factory=list)
    quarantined: dict[str, str] = field(default_factory=dict)
    problem: str | None = None

    @property
    def words(self) -> list[str]:
        """A line for each thing that somebody should hear of."""
        lines = (
            [f"{len(self.entries)} records of the spool were filed late."] if self.entries else []
        )
        lines += [f"{name} of the spool does not fit and is set aside: {reason}"
                  for name, reason in self.quarantined.items()]  # fmt: skip
        return lines + ([f"The spool waits: {self.problem}"] if self.problem else [])


class Spool:
    """A folder of entries, one file each; only its owner can read it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def quarantine(self) -> Path:
        """Where entries are set aside that do not fit, each with the reason beside it."""
        return self.directory / "quarantine"

    def put(self, kind: str, content: Mapping[str, Any]) -> Path:
        """Keeps an entry: redacted, whole or not at all, and on the disk when this returns.

        Raises `CouldNotBeDone` when the disk does not take it.
        """
        if kind not in FILERS:
            raise UsageError(f"The spool takes {', '.join(FILERS)}, not {kind!r}.")
        entry_id = str(uuid.uuid4())
        written = {
            "format": 1, "entry_id": entry_id, "kind": kind, "happened_at": datetime.now(UTC),
            "host": socket.gethostname(), "pid": os.getpid(),
            "content": redacted(_storable(dict(content))),
        }  # fmt: skip
        name = f"{_next_ns():020d}-{kind}-{entry_id}.json"
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_durably(self.directory / name, json.dumps(written, default=_plain).encode())
        except OSError as error:
            raise CouldNotBeDone(
                f"Neither the database nor the spool at {self.directory} takes a record: "
                f"{error.strerror or error}. Free some space there; what was done is not recorded."
            ) from error
        return self.directory / name

    def waiting(self) -> list[str]:
        """Names of the entries that nobody filed yet, the oldest first."""
        try:
            names = [name for name in os.listdir(self.directory) if name.endswith(".json")]
        except FileNotFoundError:
            return []
        # What a later version wrote waits for a process that knows it.
        kinds = {name: named["kind"] for name in names if (named := _NAME.fullmatch(name))}
        return sorted(name for name in names if kinds.get(name) in {None, *FILERS})

    def entries(self) -> Iterator[Entry]:
        """What waits, the oldest first; what cannot be read is left out."""
        for name in self.waiting():
            try:
                yield _read(self.directory / name)
            except (FileNotFoundError, *_UNFIT):
                continue

    def set_aside(self) -> dict[str, str]:
        """Names of the entries in quarantine, and why they are there."""
        found = sorted(self.quarantine.glob("*.json"))
        return {path.name: _text(path.with_suffix(".txt")) for path in found}

    def file(self, database: Database) -> Filed:
        """Files what waits, the oldest first. Never raises for the database: `problem` says it."""
        filed = Filed()
        names = self.waiting()
        if not names:
            return filed
        try:
            with database.connect() as connection:
                for name in names:
                    self._file_one(name, connection, filed)
        except (RunbookError, psycopg2.Error, OSError) as error:
            filed.problem = one_line(str(error), 300)
        for line in filed.words:
            _LOG.warning("%s", line)
        return filed

    def _file_one(self, name: str, connection: Connection, filed: Filed) -> None:
        path = self.directory / name
        try:
            entry = _read(path)
            with connection.transaction(deadline_seconds=FILING_DEADLINE_SECONDS) as transaction:
                # Whoever else files it now waits here until this is committed, then finds it filed.
                new = transaction.value(
                    load("spool")["note_filing"], entry_id=entry.entry_id, kind=entry.kind,
                    happened_at=entry.happened_at, host=entry.host, filed_by=_this_process(),
                )  # fmt: skip
                if new is not None:
                    _filer(entry.kind)(transaction, entry)
        except FileNotFoundError:
            return  # Somebody else filed it and took it away.
        except _UNFIT as error:
            self._set_aside(path, f"{type(error).__name__}: {error}", connection, filed)
            return
        path.unlink(missing_ok=True)
        if new is not None:
            filed.entries.append(entry)

    def _set_aside(self, path: Path, reason: str, connection: Connection, filed: Filed) -> None:
        reason = one_line(reason, 500)
        self.quarantine.mkdir(exist_ok=True, mode=0o700)
        write_durably((self.quarantine / path.name).with_suffix(".txt"), reason.encode())
        try:
            path.replace(self.quarantine / path.name)
        except FileNotFoundError:
            return  # Somebody else set it aside, and said so.
        filed.quarantined[path.name] = reason
        with connection.transaction(deadline_seconds=FILING_DEADLINE_SECONDS) as transaction:
            transaction.run(
                load("permits")["add_event"], kind="spool_entry_set_aside", level="warning",
                message=f"A record of the spool does not fit and is set aside: {reason}",
                worker=None, job_id=None, provider=None,
                details=json.dumps({"name": path.name, "quarantine": str(self.quarantine)}),
            )  # fmt: skip

    def give_back(self) -> list[str]:
        """Puts what is in quarantine back into the spool, to be tried once more; returns the names."""
        names = list(self.set_aside())
        for name in names:
            (self.quarantine / name).replace(self.directory / name)
            (self.quarantine / name).with_suffix(".txt").unlink(missing_ok=True)
        return names


def open_spool(settings: Settings | None = None) -> Spool:
    """The spool of `RUNBOOK_HOME`; without settings, of those that this process loads."""
    return Spool((settings or load_settings()).runbook_home / "spool")


def _filer(kind: str) -> Filer:
    module, _, name = FILERS[kind].partition(":")
    found: Filer = getattr(importlib.import_module(module), name)
    return found


def _read(path: Path) -> Entry:
    named = _NAME.fullmatch(path.name)
    if named is None:
        raise UsageError("its name is not one of the spool's")
    found = json.loads(_bytes(path))
    if (found["kind"], found["entry_id"]) != (named["kind"], named["entry_id"]):
        raise UsageError("its name and what it holds are of different entries")
    if not isinstance(found["content"], dict):
        raise UsageError("its content is not a mapping")
    happened_at = datetime.fromisoformat(found["happened_at"])
    return Entry(
        found["entry_id"], found["kind"], happened_at, str(found["host"]), found["content"]
    )


def _bytes(path: Path) -> bytes:
    try:
        # Not through a link: whatever it leads to is none of our entries.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"it cannot be read: {error.strerror or error}") from None
    if len(data) > LARGEST_BYTES:
        raise UsageError(f"it is larger than {LARGEST_BYTES:,} bytes")
    return data


def _next_ns() -> int:
    """The time, later with each call: two entries of a process keep their order whatever its clock does."""
    global _newest_ns
    with _order:
        _newest_ns = max(time.time_ns(), _newest_ns + 1)
        return _newest_ns


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, Mapping):
        return {_storable(str(name)): _storable(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(part) for part in value]
    return value


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime | date) else str(value)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return "unknown"


def _this_process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
