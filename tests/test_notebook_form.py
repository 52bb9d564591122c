"""The form of every notebook: card, order, length, no logic, no output, early answer, figures, verify and undo."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from notebook_files import (
    NOTEBOOKS,
    card_of,
    cells_of,
    code_cells,
    name_of,
    notebook_at,
    prose,
    section,
)

import runbook_lib
from runbook_lib.pipeline.error_guide import SCENARIOS
from runbook_lib.settings import PROJECT_DIRECTORY

# The order of the parts; those that change something have more between them.
HEADINGS = ["Symptoms and impact", "Operator's note", "Parameters", "Setup", "Look",
            "What to expect, and the verdict", "Related, and escalation"]  # fmt: skip
OF_EFFECTS = ["Preview", "Decide", "Apply", "Verify", "Undo"]
WITH_EFFECTS = [*HEADINGS[:-1], *OF_EFFECTS, HEADINGS[-1]]
SQL_WORDS = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|FROM|WHERE)\b")
MOST_CELLS, MOST_LINES = 25, 6
# So many cells, the first answer among them, are on the first screen and a half.
FIRST_ANSWER_CELL = 9
CHAPTER_AND_NAME = re.compile(
    r"\"((?:access|daily|emergency|monthly|release|start|troubleshooting|weekly)/[a-z_]+)\""
)
HEAVY = ("pandas", "matplotlib", "alembic", "papermill", "nbformat", "sqlalchemy", "numpy")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
each_with_effects = pytest.mark.parametrize(
    "path", [path for path in NOTEBOOKS if not card_of(path).read_only], ids=name_of
)


@each_notebook
def test_the_card_that_is_shown_is_the_one_in_the_metadata(path: Path) -> None:
    card = card_of(path)
    assert cells_of(path)[0] == ("markdown", card.markdown())
    assert card.next_review > card.reviewed_on


@each_notebook
def test_the_parts_stand_in_their_order(path: Path) -> None:
    expected = HEADINGS if card_of(path).read_only else WITH_EFFECTS
    found = [heading for heading in re.findall(r"^## (.+)$", prose(path), re.MULTILINE) if heading in WITH_EFFECTS]  # fmt: skip
    assert found == expected
    assert code_cells(path)[-1].startswith("conclude(")


@each_notebook
def test_cells_are_few_and_short_and_hold_no_logic(path: Path) -> None:
    assert len(cells_of(path)) <= MOST_CELLS
    for source in code_cells(path):
        lines = [line for line in source.splitlines() if line.strip()]
        assert 1 <= len(lines) <= MOST_LINES, source
        forbidden = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.If, ast.IfExp, ast.Try,
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
    cells = cells_of(path)
    kinds = [kind for kind, _ in cells]
    look = next(index for index, (_, text) in enumerate(cells) if "## Look" in text)
    answer = kinds.index("code", look)
    assert answer + 1 <= FIRST_ANSWER_CELL
    assert kinds[:look].count("code") <= 2
    for index, (_, text) in enumerate(cells):
        if "_chart()" in text:
            assert kinds[index - 1] == kinds[index + 1] == "markdown"


@each_notebook
def test_the_prose_says_what_to_expect_in_figures(path: Path) -> None:
    assert re.search(r"\b[Ee]xpect", section(path, "Look"))
    expected = section(path, "What to expect, and the verdict")
    assert len(expected) > 80
    assert re.search(r"\d|\bone\b|\bnone\b|\bno\b|\bevery\b|\bhalf\b", expected), (
        "no figure to expect"
    )


@each_notebook
def test_the_end_says_who_takes_over_at_each_level(path: Path) -> None:
    kind, last = cells_of(path)[-1]
    assert kind == "markdown"
    assert last.startswith("## Related, and escalation")
    assert [level for level in (1, 2, 3) if not re.search(rf"\b[Ll]evel {level}\b", last)] == []


@each_notebook
def test_only_one_that_says_so_changes_anything_and_is_dry_unless_told(path: Path) -> None:
    source = "\n".join(code_cells(path))
    applies = [node for node in ast.walk(ast.parse(source)) if _is_call(node, "apply")]
    if card_of(path).read_only:
        assert applies == []
        return
    assert re.search(r"^dry_run = parameter\(True,", source, re.MULTILINE)
    assert applies
    for each in applies:
        assert isinstance(each, ast.Call)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in each.keywords}
        assert "dry_run" in given.get("dry_run", ""), ast.unparse(each)


@each_with_effects
def test_a_change_is_verified_and_says_how_it_is_taken_back(path: Path) -> None:
    cells = cells_of(path)
    applied = max(index for index, (kind, text) in enumerate(cells) if kind == "code" and ".apply(" in text)  # fmt: skip
    verify = next(index for index, (_, text) in enumerate(cells) if "## Verify" in text)
    assert applied < verify
    assert cells[verify + 1][0] == "code"
    assert len(section(path, "Undo").strip()) > 30
    assert len(section(path, "Decide").strip()) > 30


@each_notebook
def test_every_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", prose(path)):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


@each_notebook
def test_it_is_within_its_review(path: Path) -> None:
    """Judged on the day it was reviewed, so that no test fails by the calendar; the console warns instead."""
    card = card_of(path)
    assert not card.overdue(card.reviewed_on)
    assert card.overdue(date(card.next_review.year + 1, 1, 1))


def test_every_procedure_is_found_from_the_page_and_from_another_procedure() -> None:
    page = (PROJECT_DIRECTORY / "notebooks" / "README.md").read_text("utf-8")
    linked = {
        (path.parent / target).resolve()
        for path in NOTEBOOKS for target in re.findall(r"\]\(([^)#]+)", prose(path))
    }  # fmt: skip
    assert [name_of(path) for path in NOTEBOOKS if f"]({name_of(path)}.ipynb)" not in page] == []
    assert [name_of(path) for path in NOTEBOOKS if path.resolve() not in linked] == []


def test_every_procedure_that_the_code_names_is_there() -> None:
    """What a check, the error guide, an alert or a schedule leads to."""
    named = {scenario.procedure for scenario in SCENARIOS}
    for file in (PROJECT_DIRECTORY / "runbook_lib").rglob("*.py"):
        named |= set(CHAPTER_AND_NAME.findall(file.read_text("utf-8")))
    assert named - {name_of(path) for path in NOTEBOOKS} == set()


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


def _is_call(node: ast.AST, method: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method  # fmt: skip
