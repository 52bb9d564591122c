"""The procedures keep their form, run as they stand, and say what the history holds."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import pytest
from history import EXPECTED, EXPECTED_DAYS, EXPECTED_DURATIONS, LAST_DAY, seed_history

import runbook_lib
from runbook_lib.archive.notebook_files import notebook_bytes, read_notebook
from runbook_lib.archive.store import open_store
from runbook_lib.database import Database
from runbook_lib.procedures import evidence
from runbook_lib.procedures.catalogue import load
from runbook_lib.procedures.execution import Request, environment_for, execute
from runbook_lib.procedures.journal import executed_notebook
from runbook_lib.procedures.runner import run
from runbook_lib.settings import PROJECT_DIRECTORY, Settings

NOTEBOOKS = sorted((PROJECT_DIRECTORY / "notebooks").glob("*/*.ipynb"))
REVIEW = PROJECT_DIRECTORY / "notebooks" / "weekly" / "performance_review.ipynb"
# The order of the parts; report notebooks have these, those with effects have more between them.
HEADINGS = ["Symptoms and impact", "Operator's note", "Parameters", "Setup", "Look",
            "What to expect, and the verdict", "Related, and escalation"]  # fmt: skip
SQL_WORDS = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|FROM|WHERE)\b")
MOST_CELLS, MOST_LINES = 25, 6
HEAVY = ("pandas", "matplotlib", "alembic", "papermill", "nbformat", "sqlalchemy", "numpy")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def notebook_at(path: Path) -> Any:
    notebook = json.loads(path.read_text("utf-8"))
    nbformat.validate(notebook)
    return notebook


def code_cells(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook_at(path)["cells"] if cell["cell_type"] == "code"]  # fmt: skip


def prose(path: Path) -> str:
    cells = notebook_at(path)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


@each_notebook
def test_the_card_that_is_shown_is_the_one_in_the_metadata(path: Path) -> None:
    first = "".join(notebook_at(path)["cells"][0]["source"])
    card = load(f"{path.parent.name}/{path.stem}", path).card
    assert first == card.markdown()
    assert card.next_review > card.reviewed_on


@each_notebook
def test_the_parts_stand_in_their_order(path: Path) -> None:
    found = [heading for heading in re.findall(r"^## (.+)$", prose(path), re.MULTILINE) if heading in HEADINGS]  # fmt: skip
    assert found == HEADINGS
    assert code_cells(path)[-1].startswith("conclude(")


@each_notebook
def test_cells_are_few_and_short_and_hold_no_logic(path: Path) -> None:
    assert len(notebook_at(path)["cells"]) <= MOST_CELLS
    for source in code_cells(path):
        lines = [line for line in source.splitlines() if line.strip()]
        assert 1 <= len(lines) <= MOST_LINES, source
        forbidden = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.If, ast.Try,
                     ast.With, ast.ListComp, ast.DictComp, ast.GeneratorExp, ast.Assert)  # fmt: skip
        assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, forbidden)]
        assert not SQL_WORDS.search(source), source
        assert "input(" not in source


@each_notebook
def test_a_notebook_is_kept_without_outputs_for_any_environment(path: Path) -> None:
    notebook = notebook_at(path)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"].keys() == {"kernelspec", "runbook"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    identifiers = [cell["id"] for cell in notebook["cells"]]
    assert len(set(identifiers)) == len(identifiers)
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@each_notebook
def test_only_names_that_notebooks_may_use_are_imported(path: Path) -> None:
    for source in code_cells(path):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom):
                assert node.module == "runbook_lib"
                assert {name.name for name in node.names} <= runbook_lib.NOTEBOOK_NAMES.keys()
            assert not isinstance(node, ast.Import)


@each_notebook
def test_the_first_answer_comes_early_and_each_figure_is_explained(path: Path) -> None:
    cells = notebook_at(path)["cells"]
    kinds = [cell["cell_type"] for cell in cells]
    look = next(index for index, cell in enumerate(cells) if "## Look" in "".join(cell["source"]))
    assert kinds[:look].count("code") <= 2
    for index, cell in enumerate(cells):
        if "_chart()" in "".join(cell["source"]):
            assert kinds[index - 1] == kinds[index + 1] == "markdown"


@each_notebook
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", prose(path)):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("name", runbook_lib.NOTEBOOK_NAMES)
def test_every_name_that_notebooks_may_use_exists(name: str) -> None:
    assert callable(getattr(runbook_lib, name))
    assert name in dir(runbook_lib)


def test_a_name_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(AttributeError, match="notebooks may use parameter"):
        _ = runbook_lib.performance_revue  # type: ignore[attr-defined]


def test_a_worker_imports_nothing_that_only_reports_need() -> None:
    found = "import sys, runbook_lib.pipeline.worker; print(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", found], capture_output=True, text=True, check=True
    )
    assert set(HEAVY) & {name.split(".")[0] for name in answer.stdout.split()} == set()


def test_the_review_of_a_known_history_has_every_figure_right(
    database: Database, settings: Settings
) -> None:
    seed_history(database)
    record = run(
        "weekly/performance_review",
        {"last_day": LAST_DAY},
        "tester",
        database=database,
        settings=settings,
    )
    assert (record.status, record.verdict, record.error) == ("succeeded", "warning", None)
    assert {name: record.results[name] for name in EXPECTED} == EXPECTED
    for stage, figures in EXPECTED_DURATIONS.items():
        assert record.results["durations"][stage] == pytest.approx(figures)
    days = {
        day["day"]: (day["completed"], day["error"], day["lost"], day["released"], day["left_out"],
                     day["failures_percent"])
        for day in record.results["days"]
    }  # fmt: skip
    assert days == EXPECTED_DAYS
    assert record.archive.html is not None
    page = open_store(settings).read(record.archive.html).decode()
    assert page.count("<img") == 2
    assert "16 of 136 attempts" in page.split("<main>")[0]


def test_the_review_of_an_empty_database_is_not_enough_data_on_the_command_line(
    database: Database, home: Path
) -> None:
    """Also the keys of the answer that other programs rely on."""
    environment = {**os.environ, "DATABASE_URL": database.url, "RUNBOOK_HOME": str(home)}
    answer = subprocess.run(
        [sys.executable, "-m", "runbook_lib.cli", "run", "performance_review", "-p", "days=3", "--json"],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert {"run_id", "status", "verdict", "results", "archive"} <= found.keys()
    assert (found["status"], found["verdict"]) == ("succeeded", "not_enough_data")
    assert len(found["results"]["days"]) == 3
    assert Path(found["archive"]).is_file()
    assert "cell 4 of 12, Look" in answer.stderr


@each_notebook
def test_with_the_database_down_it_ends_with_words(
    path: Path, settings: Settings, tmp_path: Path
) -> None:
    notebook = read_notebook(path.read_bytes())
    evidence.prepare(notebook, {})
    (tmp_path / "notebook.ipynb").write_bytes(notebook_bytes(notebook))
    environment = environment_for(
        os.environ, tmp_path, DATABASE_URL="postgresql://runbook:secret-word@127.0.0.1:1/runbook"
    )
    ending = execute(
        Request(tmp_path, environment, 300, 300, settings.fork_server),
        stop=threading.Event(), on_progress=lambda progress: None, on_look=lambda ending: None,
    )  # fmt: skip
    executed = executed_notebook(tmp_path)
    finding = evidence.judge(executed, ending)
    # To a report it is no figures; to a health check it is what is wrong.
    verdict = "critical" if path.stem == "health_check" else "not_enough_data"
    assert (finding.status, finding.verdict) == ("succeeded", verdict)
    assert "No connection to the database at 127.0.0.1:1" in finding.summary
    assert b"secret-word" not in notebook_bytes(executed)


def test_nbval_runs_every_notebook_as_it_stands(database: Database, home: Path) -> None:
    environment = {**os.environ, "DATABASE_URL": database.url, "RUNBOOK_HOME": str(home)}
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-x", "-q", "-p", "no:cacheprovider",
         "-c", os.devnull, "--rootdir", str(PROJECT_DIRECTORY), *map(str, NOTEBOOKS)],
        env=environment, cwd=PROJECT_DIRECTORY, capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout[-3000:]
    cells = sum(len(code_cells(path)) for path in NOTEBOOKS)
    assert re.search(rf"\b{cells} passed", answer.stdout), answer.stdout[-500:]


def test_the_review_counts_days_of_the_calendar(database: Database) -> None:
    """Whole days up to now: the first one begins at midnight, not at this hour a week ago."""
    from runbook_lib.health.performance import performance_review
    from runbook_lib.health.sources import Sources

    window = performance_review(Sources(database, database), days=1).window
    assert window is not None
    assert window.since == datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
