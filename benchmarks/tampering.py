"""Ways to tamper with an archive or its rows, each with what verifying must say of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.archived_runs import add_run
from runbook_lib.archive import chain
from runbook_lib.archive.chain import Head, canonical, sha256
from runbook_lib.archive.store import FolderStore
from runbook_lib.database import Database

# Table → the columns that are not generated.
KEPT_TABLES = {
    "archive_entries": "sequence, entry, record, copied_at",
    "archive_head": "",
    "notebook_runs": "",
    "admin_actions": "",
}
Finding = tuple[int | None, str]


@dataclass
class Archive:
    """An archive of at least ten entries, each a run with objects; run 3 has an action.

    `anchor` was taken from its end.
    """

    database: Database
    store: FolderStore
    spare: Path
    anchor: Head

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """As the owner, who can put triggers aside."""
        with self.database.transaction() as transaction:
            transaction.run("ALTER TABLE archive_entries DISABLE TRIGGER USER")
            found = transaction.rows(statement, **values)
            transaction.run("ALTER TABLE archive_entries ENABLE TRIGGER USER")
        return found

    def entry(self, sequence: int) -> dict[str, Any]:
        text = self.sql("SELECT entry FROM archive_entries WHERE sequence = %(n)s", n=sequence)[0]
        found: dict[str, Any] = json.loads(text.entry)
        return found

    def object(self, sequence: int, number: int = 0) -> Path:
        return self.store.path(self.entry(sequence)["objects"][number]["name"])

    def beside(self, sequence: int) -> Path:
        return self.store.path(chain.name_of_entry(self.anchor.chain, sequence))

    def keep(self) -> None:
        """Keeps everything as it is, for `restore`."""
        shutil.copytree(self.store.root, self.spare, symlinks=True)
        self.sql(";".join(f"CREATE TABLE spare_{table} AS TABLE {table}" for table in KEPT_TABLES))

    def restore(self) -> None:
        """Takes back whatever was done since `keep`."""
        shutil.rmtree(self.store.root)
        shutil.copytree(self.spare, self.store.root, symlinks=True)
        self.sql(
            ";".join(
                f"DELETE FROM {table}; INSERT INTO {table} ({columns}) SELECT {columns} FROM spare_{table}"
                if columns
                else f"DELETE FROM {table}; INSERT INTO {table} SELECT * FROM spare_{table}"
                for table, columns in KEPT_TABLES.items()
            )
        )


def flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    overwrite(path, bytes(data))


def overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o640)
    path.write_bytes(data)


def swap(one: Path, other: Path) -> None:
    between = one.with_name("between")
    one.rename(between)
    other.rename(one)
    between.rename(other)


def alter_in_table(archive: Archive, n: int) -> None:
    archive.sql("UPDATE archive_entries SET entry = replace(entry, '\"kind\":\"run\"', '\"kind\":\"ran\"') WHERE sequence = %(n)s", n=n)  # fmt: skip


def alter_in_file(archive: Archive, n: int) -> None:
    path = archive.beside(n)
    overwrite(path, path.read_bytes().replace(b'"kind":"run"', b'"kind":"ran"'))


def swap_in_table(archive: Archive) -> None:
    archive.sql(
        "UPDATE archive_entries AS entry SET entry = other.entry, record = other.record "
        "FROM archive_entries AS other WHERE (entry.sequence, other.sequence) IN ((4, 5), (5, 4))"
    )


def cut_table(archive: Archive) -> None:
    last = archive.anchor.sequence
    digest = archive.entry(last)["previous"]
    run_id = archive.entry(last)["subject"]
    archive.sql("DELETE FROM archive_entries WHERE sequence = %(n)s", n=last)
    archive.sql("UPDATE archive_head SET sequence = sequence - 1, sha256 = %(d)s", d=digest)
    archive.sql("DELETE FROM notebook_runs WHERE run_id = %(id)s::uuid", id=run_id)


def cut_everything(archive: Archive) -> None:
    last = archive.anchor.sequence
    entry = archive.entry(last)
    for each in [*entry["objects"], entry["record"]]:
        archive.store.path(each["name"]).unlink()
    archive.beside(last).unlink()
    cut_table(archive)


def rewrite_from(archive: Archive, first: int) -> None:
    """What an administrator of both could do: another verdict, and everything after it made to fit."""
    entry = archive.entry(first)
    archive.sql("UPDATE notebook_runs SET verdict = 'ok' WHERE run_id = %(id)s::uuid", id=entry["subject"])  # fmt: skip
    record = canonical({**json.loads(archive.store.read(entry["record"]["name"])), "verdict": "ok"})
    path = archive.store.path(entry["record"]["name"])
    overwrite(path, record.encode())
    archive.sql("UPDATE archive_entries SET record = %(r)s WHERE sequence = %(n)s", r=record, n=first)  # fmt: skip
    previous = entry["previous"]
    for n in range(first, archive.anchor.sequence + 1):
        entry = archive.entry(n)
        if n == first:
            entry["record"].update(sha256=sha256(record), bytes=len(record))
            entry["rows"][0]["sha256"] = sha256(record)
        text = canonical({**entry, "previous": previous})
        archive.sql("UPDATE archive_entries SET entry = %(e)s WHERE sequence = %(n)s", e=text, n=n)
        overwrite(archive.beside(n), text.encode())
        previous = sha256(text)
    archive.sql("UPDATE archive_head SET sha256 = %(d)s", d=previous)


def append_back_dated(archive: Archive) -> None:
    with archive.database.connect() as connection:
        add_run(connection, archive.store, started_at=datetime.now(UTC) - timedelta(days=30))
    chain.copy_entries(archive.database, archive.store)


def link_elsewhere(path: Path) -> None:
    copy = path.with_name("copy.of")
    path.rename(copy)
    os.symlink(copy.name, path)


def of_run(archive: Archive, n: int, change: str) -> None:
    archive.sql(f"UPDATE notebook_runs SET {change} WHERE run_id = %(id)s::uuid", id=archive.entry(n)["subject"])  # fmt: skip


def unentered_row(archive: Archive) -> None:
    archive.sql(
        "INSERT INTO notebook_runs (procedure, status, actor, trigger, ended_at, host, pid, source_sha256) "
        "VALUES ('weekly/review', 'succeeded', 'ana', 'manual', now(), 'h', 1, '')"
    )


def swap_rows(archive: Archive) -> None:
    archive.sql(
        "UPDATE notebook_runs AS run SET results = other.results, verdict = other.verdict FROM notebook_runs AS other "
        "WHERE (run.run_id, other.run_id) IN ((%(a)s::uuid, %(b)s::uuid), (%(b)s::uuid, %(a)s::uuid))",
        a=archive.entry(4)["subject"], b=archive.entry(5)["subject"],
    )  # fmt: skip


@dataclass(frozen=True)
class Tampering:
    """One way to tamper, and the findings (entry, kind) that verifying must come to, no more and no less."""

    name: str
    do: Callable[[Archive], Any]
    findings: Callable[[Archive], set[Finding]]
    needs_anchor: bool = False


def _at(n: int, *kinds: str) -> Callable[[Archive], set[Finding]]:
    return lambda archive: {(n, kind) for kind in kinds}


def _last(kind: str, offset: int = 0) -> Callable[[Archive], set[Finding]]:
    return lambda archive: {(archive.anchor.sequence + offset, kind)}


TAMPERINGS = (
    Tampering("a byte of a notebook flipped", lambda a: flip_byte(a.object(3)), _at(3, "altered")),
    Tampering("a page cut short", lambda a: overwrite(a.object(3, 1), a.object(3, 1).read_bytes()[:-9]), _at(3, "altered")),
    Tampering("a notebook removed", lambda a: a.object(3).unlink(), _at(3, "removed")),
    Tampering("a notebook renamed", lambda a: a.object(3).rename(a.object(3).with_name("other.ipynb")), _at(3, "renamed")),
    Tampering("two notebooks swapped", lambda a: swap(a.object(4), a.object(5)), lambda a: {(4, "swapped"), (5, "swapped")}),
    Tampering("a notebook put in", lambda a: a.object(3).with_name("planted.ipynb").write_bytes(b"{}"), lambda a: {(None, "inserted")}),
    Tampering("a notebook replaced by a link", lambda a: link_elsewhere(a.object(3)), lambda a: {(3, "altered"), (None, "inserted")}),
    Tampering("a verdict altered", lambda a: of_run(a, 3, "verdict = 'ok'"), _at(3, "altered")),
    Tampering("a run back-dated", lambda a: of_run(a, 3, "started_at = started_at - interval '9 days'"), _at(3, "back_dated")),
    Tampering("a run's row removed", lambda a: a.sql("DELETE FROM notebook_runs WHERE run_id = %(id)s::uuid", id=a.entry(3)["subject"]), _at(3, "removed")),
    Tampering("a run's row put in", unentered_row, lambda a: {(None, "inserted")}),
    Tampering("two rows' answers swapped", swap_rows, lambda a: {(4, "altered"), (5, "altered")}),
    Tampering("an action's before altered", lambda a: a.sql("UPDATE admin_actions SET before = '{}'"), _at(3, "altered")),
    Tampering("an action removed", lambda a: a.sql("DELETE FROM admin_actions"), _at(3, "removed")),
    Tampering("a record altered in the table", lambda a: a.sql("UPDATE archive_entries SET record = '{}' WHERE sequence = 3"), _at(3, "altered")),
    Tampering("a record removed from the table", lambda a: a.sql("UPDATE archive_entries SET record = NULL WHERE sequence = 3"), _at(3, "removed")),
    Tampering("an entry altered in the table", lambda a: alter_in_table(a, 3), _at(3, "altered")),
    Tampering("an entry altered beside the objects", lambda a: alter_in_file(a, 3), _at(3, "altered")),
    Tampering("the last entry altered in the table", lambda a: alter_in_table(a, a.anchor.sequence), _last("altered")),
    Tampering("an entry removed from the table", lambda a: a.sql("DELETE FROM archive_entries WHERE sequence = 3"), _at(3, "removed")),
    Tampering("an entry removed beside the objects", lambda a: a.beside(3).unlink(), _at(3, "removed")),
    Tampering("two entries swapped in the table", swap_in_table, lambda a: {(4, "swapped"), (5, "swapped")}),
    Tampering("two entries swapped beside the objects", lambda a: swap(a.beside(4), a.beside(5)), lambda a: {(4, "swapped"), (5, "swapped")}),
    Tampering("the table's tail cut off", cut_table, lambda a: {(a.anchor.sequence, "cut_off"), (a.anchor.sequence, "removed")}),
    Tampering("the files' tail cut off", lambda a: a.beside(a.anchor.sequence).unlink(), _last("cut_off")),
    Tampering("the end's row set back", lambda a: a.sql("UPDATE archive_head SET sequence = 2"), lambda a: {(3, "cut_off"), (2, "altered")}),
    Tampering("a run entered with an old time", append_back_dated, _last("back_dated", 1)),
    Tampering("the tail cut off everywhere", cut_everything, _last("cut_off"), needs_anchor=True),
    Tampering("all of it rewritten to fit", lambda a: rewrite_from(a, 3), _last("rewritten"), needs_anchor=True),
)  # fmt: skip
