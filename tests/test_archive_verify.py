"""Verifying names what was altered, removed, cut off, swapped, back-dated, put in or renamed, and nothing else."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.archived_runs import add_run, file_run
from benchmarks.tampering import TAMPERINGS, Archive, Finding, overwrite
from runbook_lib.archive import chain
from runbook_lib.archive.export import export
from runbook_lib.archive.store import FolderStore, open_store
from runbook_lib.archive.verification import read_anchors, verify_archive
from runbook_lib.database import Database
from runbook_lib.errors import UsageError
from runbook_lib.settings import Settings


@pytest.fixture
def archive(database: Database, settings: Settings, tmp_path: Path) -> Archive:
    store = open_store(settings)
    assert isinstance(store, FolderStore)
    with database.connect() as connection:
        for number in range(1, 13):
            add_run(
                connection, store, verdict="critical", results={"n": number}, actions=number == 3,
                notebook=b'{"cells": [], "n": %d}' % number, page=b"<html>%d</html>" % number,
            )  # fmt: skip
    chain.copy_entries(database, store)
    return Archive(database, store, tmp_path / "spare", chain.head(database))


def named_in(findings: list[dict[str, Any]]) -> set[Finding]:
    return {(each["entry"], each["kind"]) for each in findings}


def test_every_tampering_is_named_and_nothing_else(
    archive: Archive, settings: Settings, tmp_path: Path
) -> None:
    """By the command, and by the `verify.py` of an export."""
    archive.keep()
    anchors, missed = [archive.anchor.as_text()], {}
    for tampering in TAMPERINGS:
        tampering.do(archive)
        found = verify_archive(archive.database, archive.store, settings, anchors=anchors)
        if (named := named_in(found.findings)) != tampering.findings(archive):
            missed[tampering.name] = named
        zipped = tmp_path / f"{len(missed)}-{tampering.name}.zip"
        exported = export(
            archive.database, archive.store, "all", zipped, actor="ana", anchors=anchors
        )
        if named_in(exported.findings) != named:
            missed[f"{tampering.name}, exported"] = named_in(exported.findings)
        if tampering.needs_anchor:
            assert verify_archive(archive.database, archive.store, settings).findings == []
        archive.restore()
    assert missed == {}
    assert verify_archive(archive.database, archive.store, settings, anchors=anchors).findings == []


def test_an_empty_archive_has_no_findings(database: Database, settings: Settings) -> None:
    found = verify_archive(database, open_store(settings), settings)
    assert (found.entries, found.findings, found.head.sequence) == (0, [], 0)


def test_a_run_under_way_is_no_finding(database: Database, settings: Settings) -> None:
    store = open_store(settings)
    file_run(database, store)
    with database.transaction() as transaction:
        run_id = transaction.value(
            "INSERT INTO notebook_runs (procedure, actor, trigger, host, pid, source_sha256) "
            "VALUES ('weekly/review', 'ana', 'manual', 'h', 1, '') RETURNING run_id::text"
        )
    store.write(f"weekly/review/now-{run_id}.ipynb", b"{}")
    assert verify_archive(database, store, settings).findings == []


def test_an_entry_that_does_not_stand_beside_the_objects_yet_is_no_finding(
    database: Database, settings: Settings
) -> None:
    store = open_store(settings)
    file_run(database, store)
    file_run(database)
    found = verify_archive(database, store, settings)
    assert (found.findings, found.not_beside) == ([], 1)


def test_a_run_that_is_ended_anew_is_compared_with_its_latest_entry(
    database: Database, settings: Settings
) -> None:
    store = open_store(settings)
    run_id = file_run(database, store, status="lost", verdict=None)
    with database.transaction() as transaction:
        transaction.run("UPDATE notebook_runs SET status = 'succeeded', verdict = 'ok'")
        chain.append_run(transaction, run_id)
    chain.copy_entries(database, store)
    assert verify_archive(database, store, settings).findings == []


def test_two_databases_may_file_into_one_folder(
    new_database: Callable[..., Database], settings: Settings
) -> None:
    store = open_store(settings)
    ours, theirs = new_database(), new_database()
    with theirs.transaction() as transaction:  # one template made both
        transaction.run("UPDATE archive_head SET chain = 'abcdefabcdef'")
    file_run(ours, store)
    file_run(theirs, store)
    found = verify_archive(ours, store, settings)
    assert found.findings == []
    assert found.other_chains == {chain.head(theirs).chain: 3}
    with pytest.raises(UsageError, match="its chain was replaced"):
        verify_archive(ours, store, settings, anchors=[chain.head(theirs).as_text()])


def test_writers_at_work_raise_no_false_alarm(database: Database, settings: Settings) -> None:
    store = open_store(settings)
    done = threading.Event()

    def write() -> None:
        for _ in range(25):
            file_run(database, store)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    looks = [verify_archive(database, store, settings)]
    while not done.is_set():
        looks.append(verify_archive(database, store, settings))
    writer.join()
    assert [look.findings for look in looks if look.findings] == []
    assert verify_archive(database, store, settings).entries == 25


def test_an_anchor_is_found_in_whatever_holds_it(database: Database) -> None:
    file_run(database)
    text = chain.head(database).as_text()
    head = chain.head(database)
    assert read_anchors([f"Subject: weekly\n\n> {text}\n-- \nana"]) == [
        (head.chain, 1, head.sha256)
    ]
    with pytest.raises(UsageError, match="There is no anchor in 'nothing'"):
        read_anchors(["nothing"])


def test_an_object_that_is_no_text_or_no_entry_breaks_nothing(
    archive: Archive, settings: Settings
) -> None:
    archive.keep()
    for text in (b"\xff\xfe", b"[]", b"{}", json.dumps({"sequence": "x"}).encode(), b"[" * 9_000):
        overwrite(archive.beside(4), text)
        found = verify_archive(archive.database, archive.store, settings)
        assert named_in(found.findings) == {(4, "altered")}
        archive.restore()
