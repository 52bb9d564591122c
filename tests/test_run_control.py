"""Runs that are cancelled, stepped through, resumed, or kept from running beside each other."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fixture_procedures import write_procedure

from runbook_lib.archive.notebook_files import read_notebook
from runbook_lib.archive.store import open_store
from runbook_lib.cli import runbook
from runbook_lib.cli.procedures import cancel as cancel_command
from runbook_lib.cli.stepping import as_text
from runbook_lib.database import Database
from runbook_lib.errors import NotFoundError, UsageError
from runbook_lib.procedures import claims
from runbook_lib.procedures.execution import Progress
from runbook_lib.procedures.pulse import request_cancel
from runbook_lib.procedures.records import RunRecord, new_run_id
from runbook_lib.procedures.runner import run
from runbook_lib.settings import Settings

PATIENCE_SECONDS = 120


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "procedures"


@pytest.fixture
def settings(database: Database, home: Path, folder: Path) -> Settings:
    return Settings(database_url=database.url, runbook_home=home, runbook_procedures=folder)


@pytest.fixture
def start(database: Database, settings: Settings) -> Callable[..., RunRecord]:
    def start_it(procedure: str = "fixture/cells", **options: Any) -> RunRecord:
        return run(procedure, actor="tester", database=database, settings=settings, **options)

    return start_it


def rows(database: Database, statement: str, **values: Any) -> list[Any]:
    with database.transaction() as transaction:
        return transaction.rows(statement, **values)


def wait_until(true: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := true()):
        assert time.monotonic() < end, "did not come true"
        time.sleep(0.05)
    return found


def archived(settings: Settings, record: RunRecord) -> Any:
    assert record.archive.notebook is not None
    return read_notebook(open_store(settings).read(record.archive.notebook))


def statuses(notebook: Any) -> list[str]:
    return [
        cell.metadata.papermill["status"] for cell in notebook.cells if cell.cell_type == "code"
    ]


def test_a_run_is_cancelled_from_anywhere_and_shows_how_far_it_is(
    folder: Path, database: Database, settings: Settings, start: Any, monkeypatch: Any
) -> None:
    write_procedure(folder, "fixture/cells", "print('done')", "import time\ntime.sleep(3600)")
    monkeypatch.setenv("DATABASE_URL", database.url)

    def cancel_once_it_is_shown() -> None:
        running = (
            "SELECT run_id::text, cell_title, cells_done FROM notebook_runs WHERE cell_number = 2"
        )
        (row,) = wait_until(lambda: rows(database, running))
        shown.append((row.cell_title, row.cells_done))
        answers.append(
            CliRunner().invoke(
                cancel_command, [row.run_id[:13], "--actor", "ines"], standalone_mode=False
            )
        )

    shown: list[Any] = []
    answers: list[Any] = []
    thread = threading.Thread(target=cancel_once_it_is_shown)
    thread.start()
    record = start()
    thread.join()
    assert answers[0].return_value == 0, answers[0].output
    assert shown == [("A fixture", 1)]
    assert (record.status, record.error) == (
        "killed", "Cell 2 of 2: The run was cancelled by ines.",
    )  # fmt: skip
    assert statuses(archived(settings, record)) == ["completed", "killed"]
    with pytest.raises(UsageError, match="has ended already: killed"):
        request_cancel(database, record.run_id, "ines")
    with pytest.raises(NotFoundError):
        request_cancel(database, "00000000", "ines")


def test_a_run_is_cancelled_where_it_is_while_the_database_is_away(
    folder: Path, settings: Settings, monkeypatch: Any
) -> None:
    write_procedure(folder, "fixture/cells", "import time\ntime.sleep(3600)")
    address = "postgresql://runbook:secret-word@127.0.0.1:1/runbook"
    monkeypatch.setenv("DATABASE_URL", address)

    def cancel_once_it_runs(progress: Progress) -> None:
        (directory,) = (settings.runbook_home / "runs").iterdir()
        answers.append(
            CliRunner().invoke(
                cancel_command, [directory.name, "--actor", "ines"], standalone_mode=False
            )
        )

    answers: list[Any] = []
    record = run(
        "fixture/cells", actor="tester", database=Database(address), settings=settings,
        on_progress=cancel_once_it_runs,
    )  # fmt: skip
    assert answers[0].return_value == 0, answers[0].output
    assert (record.status, record.error) == (
        "killed", "Cell 1 of 1: The run was cancelled by ines.",
    )  # fmt: skip


def test_a_procedure_with_effects_is_run_by_one_at_a_time(
    folder: Path, database: Database, settings: Settings, start: Any
) -> None:
    write_procedure(folder, "fixture/cells", "print(1)", changes="the jobs")
    other = new_run_id()
    claims.claim(database, "fixture/cells", other, "somebody else")
    with pytest.raises(claims.ProcedureBusy, match=rf"by somebody else on .* run {other}"):
        start()
    assert claims.renew(database, "fixture/cells", other)
    refused = rows(database, "SELECT status, error FROM notebook_runs")
    assert [row.status for row in refused] == ["refused"]
    # whoever vanished keeps it for one lease, by the database's clock
    rows(
        database, "UPDATE procedure_claims SET expires_at = now() - interval '1 second' RETURNING 1"
    )
    assert start().status == "succeeded"
    assert not claims.renew(database, "fixture/cells", other)
    assert rows(database, "SELECT 1 FROM procedure_claims") == []


def test_a_run_goes_on_from_one_that_failed(
    folder: Path, database: Database, settings: Settings, start: Any, tmp_path: Path
) -> None:
    """Everything runs again, since its memory is gone; only a cell that says so shows what it showed."""
    repaired = tmp_path / "repaired"
    write_procedure(
        folder, "fixture/cells", "import pathlib\nprint('first', days)",
        f"print('slow')\nlooks = pathlib.Path({str(tmp_path / 'looks')!r})\nlooks.write_text(looks.read_text() + 'x' if looks.exists() else 'x')",
        f"assert pathlib.Path({str(repaired)!r}).exists()", "print('last')",
        parameters="days = 7", tags={2: ["not-again-when-resumed"]},
    )  # fmt: skip
    failed = start(parameters={"days": 9})
    assert failed.status == "failed"
    repaired.touch()
    record = start(resume=failed.run_id[:13])
    assert (record.status, record.cells_done) == ("succeeded", 6)
    notebook = archived(settings, record)
    assert statuses(notebook) == [
        "completed", "completed", "completed", "carried over", "completed", "completed",
    ]  # fmt: skip
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.outputs[0].text for cell in code if cell.outputs] == [
        "first 9\n", "slow\n", "last\n",
    ]  # fmt: skip
    assert (tmp_path / "looks").read_text() == "x"
    linked = "SELECT resumed_from::text AS id, resumed_at_cell AS cell, parameters FROM notebook_runs WHERE run_id = %(id)s::uuid"
    (row,) = rows(database, linked, id=record.run_id)
    assert (row.id, row.cell, row.parameters) == (failed.run_id, 5, {"days": 9})
    with pytest.raises(UsageError, match="succeeded; only failed"):
        start(resume=record.run_id)
    write_procedure(folder, "fixture/cells", "print('another version')")
    with pytest.raises(UsageError, match="another version"):
        start(resume=failed.run_id)


class Says:
    """Decides by a list of words, and notes what it was asked and what had run."""

    def __init__(self, *words: str) -> None:
        self.words = list(words)
        self.asked: list[int] = []
        self.outputs: list[int] = []

    def begin(self, directory: Path) -> None:
        self.directory = directory

    def decide(self, progress: Progress, index: int) -> str:
        self.asked.append(progress.number)
        return self.words.pop(0)

    def ran(self, index: int) -> None:
        self.outputs.append(index)


@pytest.mark.parametrize(
    ("words", "status", "error", "cells"),
    [
        (("run", "skip", "run"), "failed", "Only 2 of 3 cells ran. Skipped by hand: cell 2.",
         ["completed", "skipped", "completed"]),
        (("skip", "run", "quit"), "killed",
         "Cell 3 of 3: It was ended by whoever stepped through it. Skipped by hand: cell 1.",
         ["skipped", "completed", "not run"]),
        (("run", "run", "run"), "succeeded", None, ["completed"] * 3),
    ],
)  # fmt: skip
def test_what_was_stepped_over_is_on_record(
    folder: Path, settings: Settings, start: Any, words: Any, status: str, error: str, cells: Any
) -> None:
    write_procedure(folder, "fixture/cells", "print(1)", "print(2)", "print(3)")
    says = Says(*words)
    record = start(steps=says)
    assert (record.status, record.error) == (status, error)
    assert statuses(archived(settings, record)) == cells
    assert says.asked == [1, 2, 3]


def test_a_procedure_is_walked_through_in_a_terminal(
    folder: Path, database: Database, home: Path, settings: Settings
) -> None:
    write_procedure(folder, "fixture/cells", "word = 'shown'", "print(word)", "print('never')")
    environment = {
        **os.environ, "DATABASE_URL": database.url, "RUNBOOK_HOME": str(home),
        "RUNBOOK_PROCEDURES": str(folder),
    }  # fmt: skip
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "runbook_lib.cli", "run", "fixture/cells", "--step", "--json"],
        env=environment, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(terminal)
    os.write(controller, b"\n\nq\n")
    answer, said = process.communicate(timeout=PATIENCE_SECONDS * 3)
    os.close(controller)
    found = json.loads(answer)
    assert process.returncode == 3
    assert found["status"] == "killed"
    assert "Cell 3 of 3" in found["error"]
    assert "cell 2 of 3\n    print(word)\n" in said
    assert "\nshown\n" in said
    assert "A fixture" in said


def test_markdown_reads_as_text() -> None:
    assert as_text("**Bold** [page](https://a.b/c)\x1b]0;x\x07") == "Bold page (https://a.b/c)]0;x"


def test_a_procedure_says_on_the_command_line_and_for_a_form_what_it_takes(
    folder: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("RUNBOOK_PROCEDURES", str(folder))
    write_procedure(
        folder, "fixture/cells", "1",
        parameters="from runbook_lib import parameter\n"
        "days = parameter(7, minimum=1, maximum=30, unit='days', help='How far back.')\n"
        "since = parameter('2026-01-01', kind='date')\nsite = parameter('main', choices=['main', 'blog'])",
    )  # fmt: skip
    shown = CliRunner().invoke(runbook, ["run", "fixture/cells", "--help"])
    assert shown.exit_code == 0
    assert "a whole number from 1 to 30 days" in shown.output
    assert "How far back." in shown.output
    answer = CliRunner().invoke(runbook, ["procedures", "fixture/cells", "--json"])
    days, since, site = json.loads(answer.stdout)["parameters"]
    assert days == {
        "name": "days", "kind": "int", "optional": False, "minimum": 1, "maximum": 30, "default": 7,
        "choices": None, "unit": "days", "help": "How far back.",
        "takes": "a whole number from 1 to 30 days",
    }  # fmt: skip
    assert since["default"] == "2026-01-01"
    assert site["choices"] == ["main", "blog"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"days\nimport os; os.abort()": 1},
        {"days": "1\n2"},
        {"__class__": 1},
        {"days": "sk-proj-abcdefghijklmnop1234"},
    ],
)
def test_names_and_values_are_refused_before_a_kernel(
    folder: Path, settings: Settings, start: Any, parameters: Any
) -> None:
    write_procedure(folder, "fixture/cells", "print(days)", parameters="days = 7")
    with pytest.raises(UsageError) as refusal:
        start(parameters=parameters)
    assert "abcdefghijklmnop1234" not in str(refusal.value)
    assert not (settings.runbook_home / "runs").exists()


@pytest.mark.parametrize("run_id", ["..", "../../etc", "/etc/passwd", "a\0b", "runs-secret", "%"])
def test_a_run_id_is_nothing_but_a_run_id(
    folder: Path, start: Any, database: Database, run_id: str
) -> None:
    write_procedure(folder, "fixture/cells", "print(1)")
    with pytest.raises(UsageError):
        start(resume=run_id)
    with pytest.raises(UsageError):
        request_cancel(database, run_id, "x")
