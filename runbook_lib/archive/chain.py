"""The chain: each entry commits to all before it, so that no entry can be altered or taken out unseen.

An entry is one line of canonical JSON: keys sorted, no spaces, ASCII with `\\u` escapes, no fractions::

    {"at":"2026-11-24T10:15:00.000000Z","chain":"5f0c…","kind":"run",
     "objects":[{"bytes":81234,"name":"weekly/review/….ipynb","sha256":"…"}, …],
     "previous":"…","record":{"bytes":1820,"name":"weekly/review/….17.run.json","sha256":"…"},
     "rows":[{"name":"notebook_runs/0193…","sha256":"…"}, …],"sequence":17,"subject":"0193…"}

`previous` is the sha256 of the line before it; of the first entry it is 64 zeros. The record says what the
entry is about: for a run its row, with parameters, results and actor. `rows` are that row and those of
`admin_actions` that its cells left, as canonical JSON. Entry and record stand in `archive_entries` and, as files with the same bytes, beside the objects: `sha256sum` is all that is
needed to follow the chain. They are written in the transaction that makes the record true; the files
follow at once, or with the next entry when the archive could not be written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from runbook_lib.archive.store import AlreadyHeld, Store, StoredObject
from runbook_lib.database import Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone, NotFoundError

_SQL = load("archive")
RUN, RUN_FILED_LATE, RECORD_FILED_LATE = "run", "run_filed_late", "record_filed_late"
SIGN_OFF, DELETION, ANCHOR = "sign_off", "deletion", "anchor"
COPIED_AT_ONCE = 500
_NO_HEAD = "The archive's chain has no end: the row of archive_head was removed. Restore it from a backup; an anchor says what it was."


@dataclass(frozen=True)
class Head:
    """The chain's end: what an anchor holds."""

    chain: str
    sequence: int
    sha256: str
    at: datetime

    def as_text(self) -> str:
        """One line for a mail, an alert, a git tag or a file."""
        return f"runbook-archive:{self.chain}:{self.sequence}:{self.sha256}"


@dataclass(frozen=True)
class Entry:
    """One entry as it was appended."""

    sequence: int
    kind: str
    subject: str
    sha256: str
    record: dict[str, Any]


def canonical(value: Any) -> str:
    """A value as the text that is hashed. Times are in UTC with six digits of a second."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False, default=plain
    )  # fmt: skip


def plain(value: Any) -> Any:
    """What JSON does not know, as the text that stands for it in records."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, date | UUID | Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} does not go into a record")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def append(
    transaction: Transaction,
    kind: str,
    subject: str,
    record: Mapping[str, Any],
    *,
    objects: Sequence[Mapping[str, Any]] = (),
    rows: Mapping[str, str] | None = None,
    beside: str | None = None,
) -> Entry:
    """Appends an entry in the caller's transaction; others who append wait until that ends.

    So it comes last in it. `rows` are rows whose alteration verifying shall find: `table/id` and the
    sha256 of what it holds. `beside` is the stem of the record's name in the archive. Follow it with
    `copy_entries` when the transaction is committed.
    """
    head = transaction.row(_SQL["lock_head"])
    if head is None:
        raise CouldNotBeDone(_NO_HEAD)
    sequence = head.sequence + 1
    text = canonical(record)
    stem = beside or name_of_entry(head.chain, sequence).removesuffix(".json")
    entry = canonical(
        {
            "at": head.at,
            "chain": head.chain,
            "kind": kind,
            "objects": [dict(each) for each in objects],
            "previous": head.sha256,
            "record": {"name": f"{stem}.{sequence}.{kind}.json", "sha256": sha256(text), "bytes": len(text)},
            "rows": [{"name": name, "sha256": row} for name, row in (rows or {}).items()],
            "sequence": sequence,
            "subject": subject,
        }
    )  # fmt: skip
    transaction.run(
        _SQL["append_entry"], sequence=sequence, entry=entry, record=text, sha256=sha256(entry), at=head.at
    )  # fmt: skip
    return Entry(sequence, kind, subject, sha256(entry), json.loads(text))


def append_run(transaction: Transaction, run_id: str) -> Entry:
    """Appends a run as its row says it, in the transaction that ended it.

    Its objects are those in the row's `archive_objects`. A run that is ended anew (taken for lost, and
    put right) gets another entry. Raises `NotFoundError` for a run that is not ended.
    """
    row = transaction.row(_SQL["record_of_run"], run_id=run_id)
    if row is None:
        raise NotFoundError(f"There is no run {run_id} that ended.")
    record = row._asdict()
    rows = {f"notebook_runs/{run_id}": sha256(canonical(record))}
    for each in transaction.rows(_SQL["actions_of_run"], run_id=run_id):
        rows[f"admin_actions/{each.action_id}"] = sha256(canonical(each._asdict()))
    return append(
        transaction, RUN_FILED_LATE if row.filed_late else RUN, run_id, record,
        objects=row.archive_objects, rows=rows, beside=stem_of_run(row.procedure, row.started_at, run_id),
    )  # fmt: skip


def append_late(transaction: Transaction, subject: str, record: Mapping[str, Any]) -> Entry:
    """Appends something else that is filed late from the spool: an action, a line of a timeline."""
    return append(transaction, RECORD_FILED_LATE, subject, record)


def stem_of_run(procedure: str, started_at: datetime, run_id: str) -> str:
    """The beginning of the names under which a run stands in the archive."""
    return f"{procedure}/{started_at.astimezone(UTC):%Y-%m-%dT%H%M%SZ}-{run_id}"


def name_of_entry(chain: str, sequence: int) -> str:
    """The name under which an entry stands beside the objects."""
    return f"chain/{chain}/{sequence // 1000:06d}/{sequence:012d}.json"


def head(database: Database) -> Head:
    """The chain's end now. It proves nothing about what is in front of it; `archive verify` does."""
    with database.transaction(read_only=True) as transaction:
        return read_head(transaction)


def read_head(transaction: Transaction) -> Head:
    row = transaction.row(_SQL["head"])
    if row is None:
        raise CouldNotBeDone(_NO_HEAD)
    return Head(**row._asdict())


def copy_entries(database: Database, store: Store) -> str | None:
    """Writes entries and records beside the objects, those of earlier processes too.

    Never raises for the archive: what it does not take now follows with the next entry, and what
    this returns says why.
    """
    with database.connect() as connection:
        while True:
            copied: list[int] = []
            problem = None
            with connection.transaction() as transaction:
                found = transaction.rows(_SQL["not_copied"], limit=COPIED_AT_ONCE)
                try:
                    for each in found:
                        _copy(store, each)
                        copied.append(each.sequence)
                except CouldNotBeDone as error:
                    problem = str(error)
                if copied:
                    transaction.run(_SQL["note_copied"], sequences=copied)
            if problem or len(found) < COPIED_AT_ONCE:
                return problem


def _copy(store: Store, row: Any) -> None:
    entry = json.loads(row.entry)
    _write_unless_there(store, name_of_entry(entry["chain"], row.sequence), row.entry)
    if row.record is not None:
        _write_unless_there(store, entry["record"]["name"], row.record)


def _write_unless_there(store: Store, name: str, text: str) -> None:
    try:
        store.write(name, text.encode("ascii"))
    except AlreadyHeld:
        pass  # By a process that ended before it could note it. Something else in its place is for verify to name.


def objects_as_json(objects: Sequence[StoredObject]) -> str:
    """Stored objects as `archive_objects` takes them."""
    return canonical([{"name": each.name, "sha256": each.sha256, "bytes": each.size_bytes} for each in objects])  # fmt: skip


def head_as_record(found: Head) -> dict[str, Any]:
    """A head as plain values."""
    return {**asdict(found), "text": found.as_text()}
