"""The chain: whoever appends, however many, its entries follow one another and stand in two places."""

from __future__ import annotations

import hashlib
import json
import threading
from typing import Any

import psycopg2
import pytest

from benchmarks.archived_runs import add_run, file_run
from runbook_lib.archive import chain
from runbook_lib.archive.store import FolderStore, open_store
from runbook_lib.database import Database
from runbook_lib.errors import NotFoundError
from runbook_lib.settings import Settings


@pytest.fixture
def store(settings: Settings) -> FolderStore:
    found = open_store(settings)
    assert isinstance(found, FolderStore)
    return found


def entries(database: Database) -> list[Any]:
    with database.transaction(read_only=True) as transaction:
        return transaction.rows("SELECT * FROM archive_entries ORDER BY sequence")


def test_the_chain_can_be_followed_with_sha256_alone(
    database: Database, store: FolderStore
) -> None:
    for number in range(3):
        file_run(database, store, results={"n": number, "share": 0.1, "large": 1e22, "zero": -0.0})
    previous = "0" * 64
    for number, row in enumerate(entries(database), start=1):
        entry = json.loads(row.entry)
        assert (entry["sequence"], entry["previous"]) == (number, previous)
        beside = store.read(chain.name_of_entry(entry["chain"], number))
        assert beside == row.entry.encode()
        previous = hashlib.sha256(beside).hexdigest()
        record = store.read(entry["record"]["name"])
        assert hashlib.sha256(record).hexdigest() == entry["record"]["sha256"]
        assert json.loads(record)["results"]["n"] == number - 1
        for each in entry["objects"]:
            assert hashlib.sha256(store.read(each["name"])).hexdigest() == each["sha256"]
    head = chain.head(database)
    assert (head.sequence, head.sha256) == (3, previous)
    assert head.as_text() == f"runbook-archive:{head.chain}:3:{previous}"


def test_writers_at_once_make_one_chain_without_gaps(
    database: Database, store: FolderStore
) -> None:
    def write() -> None:
        with database.connect() as connection:
            for _ in range(5):
                add_run(connection)
        chain.copy_entries(database, store)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chain.copy_entries(database, store)
    found = entries(database)
    assert [row.sequence for row in found] == list(range(1, 31))
    previous = "0" * 64
    for row in found:
        assert json.loads(row.entry)["previous"] == previous
        previous = chain.sha256(row.entry)
        assert row.copied_at is not None
    times = [json.loads(row.entry)["at"] for row in found]
    assert times == sorted(times)


def test_an_archive_that_takes_nothing_gets_its_entries_with_the_next_one(
    database: Database, store: FolderStore
) -> None:
    store.root.parent.mkdir(parents=True, exist_ok=True)
    store.root.write_text("in the way")
    file_run(database)
    assert "does not take" in (chain.copy_entries(database, store) or "")
    assert [row.copied_at for row in entries(database)] == [None]
    store.root.unlink()
    file_run(database, store)
    assert None not in [row.copied_at for row in entries(database)]
    assert len([name for name in store.names() if name.startswith("chain/")]) == 2


def test_a_run_that_has_not_ended_gets_no_entry(database: Database) -> None:
    with (
        pytest.raises(NotFoundError, match="that ended"),
        database.transaction() as transaction,
    ):
        chain.append_run(transaction, "00000000-0000-0000-0000-000000000000")
    assert entries(database) == []


@pytest.mark.parametrize(
    "statement",
    ["UPDATE archive_entries SET entry = '{}'", "UPDATE archive_entries SET record = '{}'",
     "DELETE FROM archive_entries", "TRUNCATE archive_entries"],
)  # fmt: skip
def test_an_entry_is_not_changed_by_mistake(database: Database, statement: str) -> None:
    file_run(database)
    with (
        pytest.raises(psycopg2.Error, match="neither changed nor removed"),
        database.transaction() as transaction,
    ):
        transaction.run(statement)


def test_what_is_filed_late_says_so(database: Database, store: FolderStore) -> None:
    with database.transaction() as transaction:
        entry = chain.append_late(transaction, "an action", {"action": "jobs.retry", "n": 2})
    assert chain.copy_entries(database, store) is None
    assert entry.kind == "record_filed_late"
    assert json.loads(entries(database)[0].record) == {"action": "jobs.retry", "n": 2}
