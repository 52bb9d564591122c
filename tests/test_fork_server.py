"""Runs are forked from a process that has imported everything, or started plainly; the outcome is the same."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from fixture_procedures import write_procedure

from runbook_lib.archive.store import open_store
from runbook_lib.database import Database
from runbook_lib.procedures import fork_server, kernels
from runbook_lib.procedures.journal import Journal, executed_notebook
from runbook_lib.procedures.runner import close_lost_runs, run
from runbook_lib.processes import SharedProcess
from runbook_lib.settings import Settings

PATIENCE_SECONDS = 180

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forking is done on Linux only")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "procedures"


@pytest.fixture
def settings(database: Database, home: Path, folder: Path) -> Settings:
    return Settings(database_url=database.url, runbook_home=home, runbook_procedures=folder)


def wait_until(true: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := true()):
        assert time.monotonic() < end, "did not come true"
        time.sleep(0.05)
    return found


def server_state(settings: Settings) -> dict[str, Any]:
    return SharedProcess(settings.fork_server, fork_server.MODULE).status().state


def test_a_run_is_forked_and_its_server_is_replaced_when_it_dies(
    folder: Path, database: Database, settings: Settings, tmp_path: Path
) -> None:
    # A server of its own: other tests have runs at the one that they share, which must not be killed.
    settings = settings.model_copy(update={"runbook_fork_server": tmp_path / "own_fork_server"})
    write_procedure(
        folder, "fixture/cells", "import os, sys\nfrom runbook_lib import conclude",
        "conclude({'parents': [os.getppid(), sys.modules['matplotlib'] is not None], 'tz': os.environ.get('TZ')}, 'ok')",
    )  # fmt: skip
    first = run("fixture/cells", actor="x", database=database, settings=settings)
    state = server_state(settings)
    socket = Path(state["socket"])
    assert (first.status, first.results["parents"][1]) == ("succeeded", True)
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    server = psutil.Process(state["server_pid"])
    assert server.num_threads() == 1
    # The one that it listens on, and none that stays.
    wait_until(lambda: [each.type for each in server.net_connections("unix")] == [1])
    server.kill()
    again = run("fixture/cells", actor="x", database=database, settings=settings)
    assert again.status == "succeeded"
    assert server_state(settings)["server_pid"] != state["server_pid"]


def test_a_forked_process_is_as_one_that_was_started(settings: Settings, tmp_path: Path) -> None:
    """Its environment, its directory, its files and its exit status are the caller's."""
    reading, writing = os.pipe()
    outcome = kernels.fork(
        settings.fork_server, "run", {"command": ["run", "no/such", "--json"]},
        environment={"PATH": os.environ["PATH"], "RUNBOOK_HANDED_OVER": "1", "RUNBOOK_ENV_FILE": "",
                     "RUNBOOK_HOME": str(tmp_path)},
        working_directory=tmp_path, files=(writing, writing, writing),
    )  # fmt: skip
    os.close(writing)
    assert Path(f"/proc/{outcome.pid}").exists()
    assert outcome.wait(PATIENCE_SECONDS) == 2
    with os.fdopen(reading) as said:
        assert "There is no procedure 'no/such'" in said.read()


def test_without_a_fork_server_a_run_is_started_plainly(
    folder: Path, database: Database, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    plain = settings.model_copy(update={"runbook_fork_server": tmp_path / "file" / "nowhere"})
    write_procedure(folder, "fixture/cells", "print('plain')", "raise SystemExit(0)")
    record = run("fixture/cells", actor="x", database=database, settings=plain)
    assert (record.status, record.error) == ("failed", "Cell 2 of 2 raised SystemExit: 0")
    assert record.archive.notebook is not None
    assert b"plain" in open_store(settings).read(record.archive.notebook)


def test_changed_code_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    (package / "inner").mkdir(parents=True)
    (package / "inner" / "module.py").write_text("a = 1")
    before = fork_server.code_stamp(package)
    assert fork_server.code_stamp(package) == before
    (package / "inner" / "module.py").write_text("a = 23")
    changed = fork_server.code_stamp(package)
    (package / "new.sql").write_text("SELECT 1")
    assert len({before, changed, fork_server.code_stamp(package)}) == 3


def command(*arguments: str, home: Path, folder: Path, database: Database) -> Any:
    environment = {
        **os.environ, "DATABASE_URL": database.url, "RUNBOOK_HOME": str(home),
        "RUNBOOK_PROCEDURES": str(folder),
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "runbook_lib.cli", *arguments], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_command_is_handed_over_and_ends_with_whoever_typed_it(
    folder: Path, database: Database, settings: Settings, home: Path, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    write_procedure(
        folder, "fixture/cells", "from runbook_lib import conclude\nimport pathlib, time",
        f"pathlib.Path({str(started)!r}).touch()\ntime.sleep(seconds)", "conclude({'a': 1}, 'critical')",
        parameters="seconds = 0",
    )  # fmt: skip
    run("fixture/cells", actor="x", database=database, settings=settings)  # the fork server is up
    place = {"home": home, "folder": folder, "database": database}
    done = command("run", "fixture/cells", "--json", **place)
    answer, said = done.communicate(timeout=PATIENCE_SECONDS)
    found = json.loads(answer)
    assert (done.returncode, found["verdict"]) == (1, "critical"), said
    assert "cell 4 of 4, A fixture" in said
    with database.transaction() as transaction:
        pid = transaction.value(
            "SELECT pid FROM notebook_runs WHERE run_id = %(id)s::uuid", id=found["run_id"]
        )
    assert pid != done.pid

    started.unlink()
    killed = command("run", "fixture/cells", "-p", "seconds=3600", **place)
    wait_until(started.exists)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()

    newest = "SELECT status, error FROM notebook_runs WHERE run_id <> %(id)s::uuid ORDER BY started_at DESC LIMIT 1"

    def ended() -> Any:
        with database.transaction() as transaction:
            row = transaction.row(newest, id=found["run_id"])
        return row if row.status != "running" else None

    row = wait_until(ended)
    assert (row.status, row.error) == ("killed", "Cell 4 of 5: The run was stopped.")
    assert close_lost_runs(database, settings) == []


def test_a_journal_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = write_procedure(tmp_path, "fixture/cells", "print(1)", "print(2)")
    (tmp_path / "notebook.ipynb").write_bytes(path.read_bytes())
    cell = executed_notebook(tmp_path).cells[1]
    cell.outputs = [{"output_type": "stream", "name": "stdout", "text": "1\n"}]
    Journal(tmp_path).cell(1, cell)
    whole = (tmp_path / "journal.jsonl").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "journal.jsonl").write_bytes(whole + whole[:length])
        assert executed_notebook(tmp_path).cells[1].outputs[0].text == "1\n"
