"""A run's record always ends as what really happened, and the evidence says the same."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from fixture_procedures import CARD, write_procedure

from runbook_lib import known_secrets
from runbook_lib.archive.notebook_files import read_notebook
from runbook_lib.archive.store import open_store
from runbook_lib.cli.procedures import procedures as procedures_command
from runbook_lib.database import Database
from runbook_lib.errors import CouldNotBeDone, NotFoundError, UsageError
from runbook_lib.procedures import catalogue
from runbook_lib.procedures.card import read_card
from runbook_lib.procedures.journal import executed_notebook
from runbook_lib.procedures.parameters import ParametersRefused
from runbook_lib.procedures.records import RunRecord
from runbook_lib.procedures.runner import close_lost_runs, run
from runbook_lib.processes import boot_id
from runbook_lib.settings import Settings

# Never reached: a run that gets here has a fault of its own.
PATIENCE_SECONDS = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "procedures"


@pytest.fixture
def settings(database: Database, home: Path, folder: Path) -> Settings:
    return Settings(database_url=database.url, runbook_home=home, runbook_procedures=folder)


@pytest.fixture
def run_cells(
    folder: Path, database: Database, settings: Settings
) -> Callable[..., tuple[RunRecord, Any]]:
    """Runs a procedure of these cells; returns its record and the archived notebook."""

    def run_them(*cells: str, **options: Any) -> tuple[RunRecord, Any]:
        write_procedure(folder, "fixture/cells", *cells)
        record = run(
            "fixture/cells", actor="tester", database=database, settings=settings, **options
        )
        assert record.archive.notebook is not None
        data = open_store(settings).read(record.archive.notebook)
        return record, read_notebook(data)

    return run_them


def row_of(database: Database, run_id: str) -> Any:
    with database.transaction(read_only=True) as transaction:
        return transaction.row("SELECT * FROM notebook_runs WHERE run_id = %(id)s::uuid", id=run_id)


def cell_statuses(notebook: Any) -> list[str]:
    return [
        cell.metadata.papermill["status"] for cell in notebook.cells if cell.cell_type == "code"
    ]


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(true: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := true()):
        assert time.monotonic() < end, "did not come true"
        time.sleep(0.02)
    return found


def test_a_run_that_ends_well_is_recorded_with_what_it_found(
    folder: Path, database: Database, settings: Settings, tmp_path: Path, monkeypatch: Any
) -> None:
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    witness = tmp_path / "start-up file of the caller was executed"
    (startup / "00.py").write_text(f"open({str(witness)!r}, 'w')")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    path = write_procedure(
        folder, "fixture/good",
        "import os\nfrom runbook_lib import conclude",
        "conclude(results={'days': days, 'cwd': os.getcwd()}, verdict='warning', summary='So so.')",
        parameters="from runbook_lib import parameter\ndays = parameter(7, minimum=1, maximum=30)",
    )  # fmt: skip
    seen = []
    record = run(
        "good", {"days": 9}, "tester", "manual", database=database, settings=settings,
        on_progress=lambda progress: seen.append((progress.number, progress.total, progress.title)),
    )  # fmt: skip

    assert (record.status, record.verdict, record.results["days"]) == ("succeeded", "warning", 9)
    assert seen == [(number, 4, "A fixture") for number in (1, 2, 3, 4)]
    row = row_of(database, record.run_id)
    assert (row.status, row.verdict, row.parameters) == ("succeeded", "warning", {"days": 9})
    assert (row.actor, row.trigger, row.procedure) == ("tester", "manual", "fixture/good")
    assert (row.cells_done, row.cells_total) == (4, 4)
    assert row.ended_at is not None
    assert row.source_sha256 == catalogue.load("fixture/good", path).sha256
    assert row.package_versions["papermill"]
    store = open_store(settings)
    assert row.archive_notebook.startswith("fixture/good/")
    assert b"So so." in store.read(row.archive_html)
    notebook = read_notebook(store.read(row.archive_notebook))
    assert notebook.metadata["runbook_run"]["run_id"] == record.run_id
    assert [cell.source for cell in notebook.cells if cell.cell_type == "code"][1] == "days = 9"
    assert not witness.exists()
    # the private directory, in which the notebook worked, is gone
    assert not Path(record.results["cwd"]).exists()
    assert list((settings.runbook_home / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("raise ValueError('wrong topic')", "Cell 2 of 3 raised ValueError: wrong topic"),
        ("raise SystemExit(0)", "Cell 2 of 3 raised SystemExit: 0"),
    ],
)
def test_a_run_that_did_not_get_through_has_failed(run_cells: Any, cell: str, words: str) -> None:
    """`SystemExit(0)` half-way too, which papermill calls a success."""
    record, notebook = run_cells("print('before')", cell, "print('after')")
    assert (record.status, record.error, record.verdict) == ("failed", words, None)
    assert cell_statuses(notebook) == ["completed", "failed", "not run"]
    assert notebook.cells[1].outputs[0].text == "before\n"
    assert notebook.metadata.papermill["exception"] is True


def test_a_killed_kernel_is_said_to_be_killed(run_cells: Any) -> None:
    """papermill's own file says `completed` for every cell, also for those that never ran."""
    record, notebook = run_cells(
        "print('before')", "import os; os.kill(os.getpid(), 9)", "print('after')"
    )
    assert record.status == "killed"
    assert record.error == "Cell 2 of 3: The kernel died while a cell ran."
    assert (record.cells_done, record.cells_total) == (1, 3)
    assert cell_statuses(notebook) == ["completed", "killed", "not run"]


def test_a_cell_that_hangs_is_ended_at_its_deadline(run_cells: Any) -> None:
    record, notebook = run_cells("import time\ntime.sleep(3600)", cell_deadline_seconds=1)
    assert record.status == "timed_out"
    assert cell_statuses(notebook) == ["timed out"]


def test_a_run_is_ended_at_its_deadline_however_far_it_is(run_cells: Any) -> None:
    record, _ = run_cells("import time\ntime.sleep(3600)", deadline_seconds=1)
    assert record.status == "timed_out"
    assert "did not end within its deadline of 1 s" in record.error


def test_a_run_can_be_ended_whatever_its_processes_do(run_cells: Any, tmp_path: Path) -> None:
    """The kernel is inside C code and hears no signal but SIGKILL; the engine is frozen."""
    pid_file, stop, kernels = tmp_path / "pid", threading.Event(), []

    def stop_once_the_engine_is_frozen() -> None:
        kernels.append(int(wait_until(lambda: pid_file.exists() and pid_file.read_text())))
        engine = psutil.Process(kernels[0]).parent()
        assert engine is not None
        wait_until(lambda: engine.status() == psutil.STATUS_STOPPED)
        stop.set()

    threading.Thread(target=stop_once_the_engine_is_frozen).start()
    record, notebook = run_cells(
        f"import os, pathlib\npathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))",
        "import re, signal\nos.kill(os.getppid(), signal.SIGSTOP)\nre.match('(a+)+b', 'a' * 64)",
        stop=stop,
    )
    assert record.status == "killed"
    assert cell_statuses(notebook) == ["completed", "killed"]
    wait_until(lambda: gone(kernels[0]))


def test_a_run_that_is_stopped_keeps_what_there_is(run_cells: Any, settings: Settings) -> None:
    """What is saved on the way holds no secret either."""
    stop, saved = threading.Event(), []

    def stop_once_it_is_saved() -> None:
        def read() -> bytes:
            (file,) = (settings.runbook_home / "runs").glob("*/journal.jsonl")
            data = file.read_bytes()
            return data if b"the first part" in data else b""

        saved.append(wait_until(read))
        stop.set()

    record, notebook = run_cells(
        "print('the first part sk-proj-abcdefghij' + 'klmnop1234', flush=True)",
        "import time\ntime.sleep(3600)",
        stop=stop,
        on_progress=lambda progress: (
            progress.number == 2 and threading.Thread(target=stop_once_it_is_saved).start()
        ),
    )
    assert (record.status, record.error) == ("killed", "Cell 2 of 2: The run was stopped.")
    assert notebook.cells[1].outputs[0].text == "the first part [masked]\n"
    assert cell_statuses(notebook) == ["completed", "killed"]
    assert b"abcdefghijklmnop1234" not in saved[0]


def test_output_is_cut_with_a_notice(run_cells: Any, settings: Settings) -> None:
    record, notebook = run_cells("for _ in range(300): print('x' * 20_000)")
    assert record.status == "succeeded"
    size = len(open_store(settings).read(record.archive.notebook))
    assert size < 1_200_000
    assert "The output is cut" in notebook.cells[1].outputs[-1].text


def test_no_secret_reaches_file_page_or_row(
    run_cells: Any, settings: Settings, database: Database
) -> None:
    secret = "correct horse/battery 42"
    known_secrets.register(secret, "a canary")
    record, _ = run_cells(
        "from runbook_lib import conclude\nimport sys\nkey = 'sk-proj-abcdefghijklmnop1234'",
        f"sys.stdout.write({secret[:9]!r}); sys.stdout.flush(); sys.stdout.write({secret[9:]!r})",
        f"conclude(results={{'key': key, 'also': {secret!r}}}, verdict='ok', summary=key)",
        f"raise ValueError({secret!r} + key)",
    )
    store = open_store(settings)
    written = store.read(record.archive.notebook) + store.read(record.archive.html)
    row = row_of(database, record.run_id)
    written += json.dumps([row.results, row.error, row.parameters]).encode()
    assert known_secrets.found_in(written) == []
    assert b"abcdefghijklmnop1234" not in written
    assert b"[masked]" in written


def test_a_refused_parameter_starts_no_kernel_and_is_recorded(
    folder: Path, database: Database, settings: Settings
) -> None:
    write_procedure(folder, "fixture/takes", "print(days)", parameters="days = 7")
    with pytest.raises(ParametersRefused, match="did you mean days"):
        run("fixture/takes", {"dais": 3}, "tester", database=database, settings=settings)
    with pytest.raises(ParametersRefused, match="secrets are never parameters"):
        run("fixture/takes", {"days": "sk-proj-abcdefghijklmnop1234"}, "tester", database=database, settings=settings)  # fmt: skip
    with database.transaction() as transaction:
        rows = transaction.rows("SELECT status, error, ended_at, parameters FROM notebook_runs")
    assert [row.status for row in rows] == ["refused", "refused"]
    assert not any("abcdefghijklmnop" in row.error for row in rows)
    assert not (settings.runbook_home / "archive").exists()


def test_what_the_archive_does_not_take_stays_and_is_said(
    folder: Path, database: Database, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    unusable = settings.model_copy(update={"runbook_archive": str(tmp_path / "file")})
    write_procedure(folder, "fixture/cells", "print(1)")
    with pytest.raises(CouldNotBeDone, match="stays at") as refusal:
        run("fixture/cells", actor="tester", database=database, settings=unusable)
    kept = Path(str(refusal.value).split("stays at ")[1].rstrip("."))
    assert executed_notebook(kept).cells[1].outputs[0].text == "1\n"
    with database.transaction() as transaction:
        row = transaction.row("SELECT status, error FROM notebook_runs")
    assert row.status == "failed"
    assert "does not take" in row.error


RUN_IN_A_PROCESS = """
import os
import sys
from pathlib import Path
from runbook_lib.database import Database
from runbook_lib.procedures.runner import run
from runbook_lib.settings import Settings
url, (home, folder) = os.environ["URL"], sys.argv[1:]
settings = Settings(database_url=url, runbook_home=Path(home), runbook_procedures=Path(folder))
run("fixture/cells", actor="somebody", database=Database(url), settings=settings)
"""


def test_a_killed_runner_leaves_no_kernel_and_its_record_is_closed_as_lost(
    folder: Path, database: Database, settings: Settings, home: Path, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    write_procedure(
        folder, "fixture/cells", "print('the first part')",
        f"import os, pathlib, time\npathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))\ntime.sleep(3600)",
    )  # fmt: skip
    runner = subprocess.Popen(
        [sys.executable, "-c", RUN_IN_A_PROCESS, str(home), str(folder)],
        env={**os.environ, "URL": database.url},
    )
    kernel = int(wait_until(lambda: pid_file.exists() and pid_file.read_text()))
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    wait_until(lambda: gone(kernel))

    assert len(close_lost_runs(database, settings)) == 1
    assert close_lost_runs(database, settings) == []
    with database.transaction() as transaction:
        row = transaction.row("SELECT * FROM notebook_runs")
    assert (row.status, row.cells_done, row.actor) == ("lost", 1, "somebody")
    notebook = read_notebook(open_store(settings).read(row.archive_notebook))
    assert cell_statuses(notebook) == ["completed", "lost"]
    assert notebook.cells[1].outputs[0].text == "the first part\n"


def test_a_run_that_is_alive_is_not_closed_as_lost(database: Database, settings: Settings) -> None:
    insert = """
        INSERT INTO notebook_runs (procedure, actor, trigger, host, pid, boot_id, source_sha256, heartbeat_at)
        VALUES ('a/b', 'x', 'x', %(host)s, %(pid)s, %(boot)s, '', now() - make_interval(secs => %(silent)s))
    """
    here = {"host": socket.gethostname(), "pid": os.getpid(), "boot": boot_id()}
    with database.transaction() as transaction:
        transaction.run(insert, **here, silent=60)
        transaction.run(insert, host="elsewhere", pid=1, boot="x", silent=60)
    assert close_lost_runs(database, settings) == []
    with database.transaction() as transaction:
        transaction.run(insert, **{**here, "boot": "before the restart"}, silent=1)
        transaction.run(insert, host="elsewhere", pid=1, boot="x", silent=3600)
    assert len(close_lost_runs(database, settings)) == 2


def test_a_lost_run_that_left_nothing_usable_is_closed_all_the_same(
    database: Database, settings: Settings
) -> None:
    with database.transaction() as transaction:
        run_id = transaction.value(
            "INSERT INTO notebook_runs (procedure, actor, trigger, host, pid, boot_id, source_sha256) "
            "VALUES ('a/b', 'x', 'x', %(host)s, 1, 'before the restart', '') RETURNING run_id::text",
            host=socket.gethostname(),
        )
    left = settings.runbook_home / "runs" / run_id
    left.mkdir(parents=True)
    (left / "notebook.ipynb").write_text('{"cells": [')
    assert close_lost_runs(database, settings) == [run_id]
    row = row_of(database, run_id)
    assert (row.status, row.archive_notebook) == ("lost", None)
    assert "not archived: notebook is not a notebook" in row.error
    assert left.exists()


def test_a_procedure_is_found_by_its_bare_name_if_that_is_unique(
    folder: Path, settings: Settings
) -> None:
    write_procedure(folder, "daily/only_here", "1")
    write_procedure(folder, "daily/twice", "1")
    write_procedure(folder, "weekly/twice", "1")
    assert catalogue.find("only_here", settings).name == "daily/only_here"
    assert catalogue.find("weekly/twice", settings).name == "weekly/twice"
    with pytest.raises(UsageError, match="daily/twice and weekly/twice"):
        catalogue.find("twice", settings)
    with pytest.raises(NotFoundError, match="did you mean only_here"):
        catalogue.find("only_her", settings)


@pytest.mark.parametrize("name", ["../secrets", "/etc/passwd", "daily/../../x", "daily\0x", ""])
def test_a_name_cannot_lead_out_of_the_folders(name: str, settings: Settings) -> None:
    with pytest.raises(NotFoundError):
        catalogue.find(name, settings)


def test_a_notebook_that_is_no_procedure_harms_no_other(
    folder: Path, settings: Settings, monkeypatch: Any
) -> None:
    from click.testing import CliRunner

    write_procedure(folder, "fixture/good", "1")
    write_procedure(folder, "fixture/cardless", "1", level=7)
    (folder / "fixture" / "torn.ipynb").write_text('{"cells": [')
    monkeypatch.setenv("RUNBOOK_PROCEDURES", str(folder))
    answer = CliRunner().invoke(procedures_command, ["--json"], standalone_mode=False)
    listed = {each["name"]: each.get("problem") for each in json.loads(answer.stdout)}
    assert answer.return_value == 1
    assert listed["fixture/good"] is None
    assert "level must be 1, 2 or 3" in str(listed["fixture/cardless"])
    assert "is not a notebook" in str(listed["fixture/torn"])


def test_a_card_that_does_not_fit_is_refused_with_every_fault() -> None:
    wrong = {**CARD, "level": 4, "next_review": "soon", "colour": "red"}
    del wrong["owner"]
    with pytest.raises(UsageError) as refusal:
        read_card({"runbook": wrong}, "a/b")
    for words in ("owner is missing", "colour is unknown", "level must be", "next_review must be"):
        assert words in str(refusal.value)
