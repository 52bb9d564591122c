"""What happens while the database is away is kept, and filed once, in order, marked as late."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from fixture_procedures import write_procedure

from runbook_lib import known_secrets
from runbook_lib.archive.store import open_store
from runbook_lib.changes import admin_action
from runbook_lib.cli.spool import spool as spool_command
from runbook_lib.database import Database
from runbook_lib.errors import CouldNotBeDone, DatabaseUnreachable, UsageError
from runbook_lib.procedures.catalogue import find
from runbook_lib.procedures.evidence import Finding
from runbook_lib.procedures.parameters import ParametersRefused
from runbook_lib.procedures.records import ArchivedAs, Origin, Record
from runbook_lib.procedures.runner import run
from runbook_lib.sandbox.proxy import NetworkProxy
from runbook_lib.settings import Settings
from runbook_lib.spool import Spool, open_spool

NOBODY_LISTENS = "postgresql://runbook:hidden-word@127.0.0.1:1/runbook"
CONCLUDES = "from runbook_lib import conclude; conclude({'found': 3}, verdict='ok')"
CHANGES = """from runbook_lib import open_workplace
from runbook_lib.changes import admin_action
with admin_action(open_workplace().database, actor="ana", action="test.effect"):
    raise AssertionError("it must not begin")
"""


@pytest.fixture
def settings(database: Database, home: Path, tmp_path: Path) -> Settings:
    folder = tmp_path / "procedures"
    write_procedure(folder, "fixture/reads", CONCLUDES, parameters="days = 7")
    write_procedure(folder, "fixture/changes", CHANGES, changes="the jobs that it names")
    return Settings(database_url=database.url, runbook_home=home, runbook_procedures=folder)


@pytest.fixture
def away() -> Database:
    """A database that nobody serves."""
    return Database(NOBODY_LISTENS)


@pytest.fixture
def cut_off(database: Database) -> Iterator[tuple[Database, NetworkProxy]]:
    """The test's database behind a link that can be cut."""
    place = urlsplit(database.url)
    assert place.hostname is not None
    with NetworkProxy(place.hostname, place.port or 5432) as proxy:
        there = f"{place.username}:{place.password}@127.0.0.1:{proxy.port}"
        yield Database(f"postgresql://{there}{place.path}"), proxy


def rows(database: Database, table: str) -> list[Any]:
    order = {"notebook_runs": "started_at", "admin_actions": "acted_at"}.get(table, "1")
    with database.transaction(read_only=True) as transaction:
        return transaction.rows(f"SELECT * FROM {table} ORDER BY {order}")


def opened(spool: Spool, run_id: str, **changed: Any) -> Path:
    """Keeps the opening of a run in the spool."""
    content = {
        "run_id": run_id, "procedure": "fixture/reads", "parameters": "{}", "actor": "ana",
        "trigger": "manual", "schedule_id": None, "due_at": None, "started_at": datetime.now(UTC),
        "host": "h", "pid": 1, "boot_id": "b", "source_sha256": "", "code_commit": None,
        "database_identity": "x", "package_versions": "{}", "cells_total": 1,
    }  # fmt: skip
    return spool.put("run_opened", {**content, **changed})


def closed(spool: Spool, run_id: str, **changed: Any) -> Path:
    """Keeps how a run ended in the spool."""
    content = {
        "run_id": run_id, "status": "succeeded", "verdict": "ok", "results": "{}", "cells_done": 1,
        "cells_total": 1, "error": None, "archive_notebook": None, "archive_html": None,
        "archive_sha256": None, "ended_at": datetime.now(UTC),
    }  # fmt: skip
    return spool.put("run_closed", {**content, **changed})


# --- keeping


def test_an_entry_is_kept_whole_in_order_and_only_for_its_owner(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    paths = [closed(spool, str(uuid.uuid4())) for _ in range(20)]
    assert spool.waiting() == [path.name for path in paths]
    assert stat.S_IMODE(spool.directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
    assert sorted(os.listdir(spool.directory)) == spool.waiting()  # nothing half written is left


def test_an_entry_is_redacted_before_it_is_written(tmp_path: Path) -> None:
    known_secrets.register("the-very-secret-word", "a test's secret")
    spool = Spool(tmp_path / "spool")
    path = closed(spool, str(uuid.uuid4()), error="login the-very-secret-word\x00\ud800 failed",
                  results=json.dumps({"key": "sk-proj-abcdefghijklmnop"}))  # fmt: skip
    assert known_secrets.found_in(path.read_bytes()) == []
    assert b"sk-proj-a" not in path.read_bytes()
    assert "[masked]" in json.loads(path.read_text())["content"]["error"]


def test_a_disk_that_takes_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file stands where the folder should be")
    with pytest.raises(CouldNotBeDone, match="Neither the database nor the spool"):
        closed(Spool(tmp_path / "spool"), str(uuid.uuid4()))


def test_an_unknown_kind_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes run_opened"):
        Spool(tmp_path).put("poem", {})


# --- runs


def test_a_procedure_that_only_reads_runs_without_a_database_and_is_filed_later(
    away: Database, database: Database, settings: Settings
) -> None:
    said: list[str] = []
    record = run("fixture/reads", {"days": 3}, "ana", database=away, settings=settings, on_notice=said.append)  # fmt: skip
    assert (record.status, record.verdict, record.results) == ("succeeded", "ok", {"found": 3})
    assert str(settings.runbook_home / "spool") in said[0]
    assert record.notice is not None
    assert "hidden-word" not in said[0]
    assert record.archive.html is not None
    page = open_store(settings).read(record.archive.html).decode()
    assert "kept in the spool, filed late" in page
    assert len(open_spool(settings).waiting()) == 2

    # The next run has a database, and files it before anything else.
    run("fixture/reads", {}, "ben", database=database, settings=settings)
    late, in_time = rows(database, "notebook_runs")
    assert (str(late.run_id), late.status, late.verdict) == (record.run_id, "succeeded", "ok")
    assert (late.actor, late.parameters, late.results) == ("ana", {"days": 3}, {"found": 3})
    assert (late.filed_late, in_time.filed_late) == (True, False)
    assert late.archive_sha256 == record.archive.sha256
    assert late.started_at <= late.ended_at < in_time.started_at
    assert open_spool(settings).waiting() == []


def test_a_procedure_with_effects_runs_without_a_database_and_changes_nothing(
    away: Database, database: Database, settings: Settings
) -> None:
    said: list[str] = []
    run("fixture/changes", {}, "ana", database=away, settings=settings, on_notice=said.append)
    assert "nothing can be changed" in said[0]
    with pytest.raises(ParametersRefused):
        run("fixture/reads", {"dais": 3}, "ana", database=away, settings=settings)
    assert open_spool(settings).file(database).problem is None
    found = [(row.procedure, row.status, row.filed_late) for row in rows(database, "notebook_runs")]
    assert found == [("fixture/changes", "failed", True), ("fixture/reads", "refused", True)]
    (action,) = rows(database, "admin_actions")
    assert (action.actor, action.action, action.outcome) == ("ana", "test.effect", "refused")


def test_a_run_that_began_with_a_database_may_end_without_one(
    cut_off: tuple[Database, NetworkProxy], database: Database, settings: Settings
) -> None:
    behind, link = cut_off
    spool, procedure = open_spool(settings), find("fixture/reads", settings)
    begun = Record.open(behind, procedure, {}, Origin("ana", "manual"), 1, spool=spool)
    record = Record(behind, spool, begun.run_id, begun.started_at, close_tries_seconds=0)
    link.stop()
    record.close(Finding("failed", "Cell 1 of 1", 0, 1), ArchivedAs())
    assert rows(database, "notebook_runs")[0].status == "running"
    assert record.notice is not None
    assert spool.file(database).problem is None
    (row,) = rows(database, "notebook_runs")
    assert (row.status, row.error, row.filed_late) == ("failed", "Cell 1 of 1", True)


def test_a_run_that_began_without_a_database_ends_with_one(
    away: Database, database: Database, settings: Settings
) -> None:
    spool, procedure = open_spool(settings), find("fixture/reads", settings)
    begun = Record.open(away, procedure, {}, Origin("ana", "manual"), 1, spool=spool)
    record = Record(database, spool, begun.run_id, begun.started_at)
    record.notice = begun.notice
    record.close(Finding("succeeded", None, 1, 1, verdict="ok"), ArchivedAs())
    (row,) = rows(database, "notebook_runs")
    assert (row.status, row.filed_late) == ("succeeded", True)
    assert spool.waiting() == []


# --- actions


def test_an_action_without_a_database_is_refused_and_recorded_later(
    away: Database, database: Database
) -> None:
    with (
        pytest.raises(DatabaseUnreachable, match=r"jobs\.pause was not done"),
        admin_action(away, actor="ana", action="jobs.pause", target="openai", reason="quota"),
    ):
        pytest.fail("it must not begin")
    assert open_spool().file(database).problem is None
    (row,) = rows(database, "admin_actions")
    assert (row.actor, row.action, row.target, row.reason) == ("ana", "jobs.pause", "openai", "quota")  # fmt: skip
    assert (row.outcome, row.filed_late) == ("refused", True)
    assert "hidden-word" not in row.error


@pytest.mark.parametrize("raises", [False, True])
def test_an_action_whose_database_goes_away_is_closed_later(
    cut_off: tuple[Database, NetworkProxy], database: Database, raises: bool
) -> None:
    behind, link = cut_off
    try:
        with admin_action(behind, actor="ana", action="posts.trash") as action:
            action.after = {"trashed": 3}
            link.stop()
            if raises:
                raise ValueError("the site said no")
    except ValueError:
        pass
    assert rows(database, "admin_actions")[0].outcome == "started"
    open_spool().file(database)
    (row,) = rows(database, "admin_actions")
    assert row.filed_late
    assert (row.outcome, row.after) == (("failed", None) if raises else ("done", {"trashed": 3}))


def test_a_closing_from_the_spool_does_not_undo_one_that_was_committed(database: Database) -> None:
    with admin_action(database, actor="ana", action="jobs.retry") as action:
        pass
    open_spool().put("admin_action_closed", {
        "action_id": action.action_id, "outcome": "failed", "before": "null", "after": "null",
        "error": "The connection broke.",
    })  # fmt: skip
    open_spool().file(database)
    (row,) = rows(database, "admin_actions")
    assert (row.outcome, row.error, row.filed_late) == ("done", None, False)


# --- filing


def test_what_does_not_fit_is_set_aside_and_harms_no_other(
    database: Database, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool")
    run_ids = [str(uuid.uuid4()) for _ in range(3)]
    opened(spool, run_ids[0])
    (spool.directory / "0-torn.json").write_text("{")
    opened(spool, run_ids[1], pid="not a number")
    closed(spool, run_ids[1])  # its opening did not fit, so there is nothing to close
    opened(spool, "../../etc/passwd")
    torn = opened(spool, run_ids[2])
    torn.write_bytes(torn.read_bytes()[:100])
    os.symlink("/etc/passwd", spool.directory / torn.name.replace("0", "1", 1))
    later = torn.name.replace("run_opened", "poem")
    (spool.directory / later).write_text("{}")
    closed(spool, run_ids[0])
    filed = spool.file(database)
    assert [entry.content["run_id"] for entry in filed.entries] == [run_ids[0]] * 2
    assert len(filed.quarantined) == 6
    assert filed.problem is None
    assert [row.status for row in rows(database, "notebook_runs")] == ["succeeded"]
    assert spool.set_aside().keys() == filed.quarantined.keys()
    assert {row.kind for row in rows(database, "events")} == {"spool_entry_set_aside"}
    assert spool.waiting() == []
    assert (spool.directory / later).exists()  # of a later version: it waits for one
    assert len(filed.words) == 7
    assert len(spool.give_back()) == len(spool.waiting()) == 6


def test_filing_without_a_database_leaves_everything(away: Database, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    opened(spool, str(uuid.uuid4()))
    filed = spool.file(away)
    assert filed.problem is not None
    assert (filed.entries, len(spool.waiting())) == ([], 1)


FILER = """
import os
import sys
from pathlib import Path
from runbook_lib.cli.spool import spool as spool_command
from runbook_lib.database import Database
from runbook_lib.spool import Spool
print("ready", flush=True)
sys.stdin.readline()
spool = Spool(Path(sys.argv[1]))
while spool.waiting():
    spool.file(Database(os.environ["URL"]))
"""


def test_many_filers_that_are_killed_file_everything_once_and_in_order(
    database: Database, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool")
    run_ids = [str(uuid.uuid4()) for _ in range(40)]
    for run_id in run_ids:
        opened(spool, run_id)
        closed(spool, run_id)
    command = [sys.executable, "-c", FILER, str(spool.directory)]
    environment = {**os.environ, "URL": database.url}
    filers = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    for filer in filers:
        assert filer.stdout is not None
        filer.stdout.readline()
    for filer in filers:
        assert filer.stdin is not None
        filer.stdin.write(b"\n")
        filer.stdin.close()
    for number, filer in enumerate(filers[:2], start=1):
        # Each is killed at some moment in the middle; the last one is left to finish.
        while len(spool.waiting()) > 80 - 25 * number:
            time.sleep(0.001)
        filer.send_signal(signal.SIGKILL)
    assert filers[2].wait(60) == 0
    for filer in filers:
        filer.wait(60)
        assert filer.stdout is not None
        filer.stdout.close()
    assert spool.waiting() == []
    assert spool.set_aside() == {}
    found = rows(database, "notebook_runs")
    assert sorted(str(row.run_id) for row in found) == sorted(run_ids)
    assert {(row.status, row.filed_late) for row in found} == {("succeeded", True)}
    assert len(rows(database, "spool_filings")) == 80


def test_an_entry_that_was_filed_before_a_kill_is_not_filed_again(
    database: Database, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool")
    path = opened(spool, str(uuid.uuid4()))
    kept = path.read_bytes()
    spool.file(database)
    with database.transaction() as transaction:
        transaction.run("DELETE FROM notebook_runs")
    path.write_bytes(kept)  # as after a kill between the commit and taking the file away
    assert spool.file(database).entries == []
    assert rows(database, "notebook_runs") == []
    assert not path.exists()


def test_threads_of_one_process_keep_their_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    names: dict[int, list[str]] = {0: [], 1: []}

    def keep(number: int) -> None:
        for _ in range(30):
            names[number].append(closed(spool, str(uuid.uuid4())).name)

    threads = [threading.Thread(target=keep, args=(number,)) for number in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found == sorted(found) for found in names.values())
    assert len(spool.waiting()) == 60


def test_the_command_lists_and_files(
    database: Database, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url)
    opened(open_spool(), str(uuid.uuid4()))
    opened(open_spool(), "no id")

    def call(*arguments: str) -> Any:
        return CliRunner().invoke(spool_command, [*arguments, "--json"], standalone_mode=False)

    assert len(json.loads(call("list").stdout)["waiting"]) == 2
    filed = call("file")
    assert (filed.return_value, json.loads(filed.stdout)["filed"]) == (1, 1)
    listed = call("list")
    assert (listed.return_value, len(json.loads(listed.stdout)["set_aside"])) == (1, 1)
    assert json.loads(call("file", "--again").stdout)["filed"] == 0
    assert len(rows(database, "notebook_runs")) == 1
