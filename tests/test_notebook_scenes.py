"""Every notebook in every scene: ends with a verdict and words, never a traceback, and changes nothing by itself.

Run as the runner runs them, forked, with their default parameters. The short form is an empty database and a
seeded month; the rest is long.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import Server
from fault_server import refused_port
from foreign_pipeline import BARE, NO_HISTORY, UUID_KEYS, Shape, as_role
from month import seed_month
from notebook_files import NOTEBOOKS, card_of, code_cells, execute_notebook, name_of
from running_sandbox import RunningSandbox

from runbook_lib.database import Database
from runbook_lib.procedures.evidence import Finding
from runbook_lib.procedures.recorder import VERDICTS
from runbook_lib.settings import PROJECT_DIRECTORY, Settings

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
WITH_EFFECTS = [path for path in NOTEBOOKS if not card_of(path).read_only]
each_with_effects = pytest.mark.parametrize("path", WITH_EFFECTS, ids=name_of)
# What a procedure with default parameters must leave as it is.
KEPT = ("content_jobs", "job_runs", "articles", "provider_pauses", "provider_limits")
IN_NBVAL = ("daily/health_check", "emergency/high_failure_rate", "weekly/performance_review")

_OBJECTS = """
    SELECT md5(string_agg(line, '|' ORDER BY line)) FROM (
        SELECT format('%%s %%s %%s', c.relname, c.relkind, a.attname || ' ' || format_type(a.atttypid, a.atttypmod)) AS line
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped AND a.attnum > 0
        WHERE c.relnamespace = 'public'::regnamespace
        UNION ALL SELECT 'function ' || oid::regprocedure || prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT 'constraint ' || conname || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT 'grant ' || relname || coalesce(relacl::text, '') FROM pg_class WHERE relnamespace = 'public'::regnamespace
    ) AS objects
"""  # fmt: skip


@pytest.fixture(scope="module")
def empty_database(server: Server, _template: str) -> Iterator[Database]:
    """One empty, migrated database for all notebooks: none of them changes what another one reads."""
    with server.new_database(_template) as name:
        yield Database(server.address(name))


@pytest.fixture(scope="module")
def month(server: Server, _template: str) -> Iterator[Database]:
    """One database with the seeded month, which stays as it is."""
    with server.new_database(_template) as name:
        database = Database(server.address(name))
        seed_month(database)
        yield database


@pytest.fixture
def run(
    settings: Settings, running_sandbox: RunningSandbox, tmp_path: Path
) -> Callable[..., tuple[Finding, str]]:
    """Runs a notebook against a database, with the sandbox's OpenAI and WordPress unless told otherwise."""
    providers = {
        "OPENAI_API_KEY": running_sandbox.api_key,
        "OPENAI_BASE_URL": f"{running_sandbox.url}/v1",
        "WORDPRESS_URL": running_sandbox.url,
        "WORDPRESS_USER": running_sandbox.user,
        "WORDPRESS_APP_PASSWORD": running_sandbox.app_password,
    }

    def run(path: Path, url: str, environment: dict[str, str] | None = None, **options: Any) -> tuple[Finding, str]:  # fmt: skip
        return execute_notebook(
            path,
            tmp_path / uuid.uuid4().hex,
            {**os.environ, **providers, "DATABASE_URL": url, **(environment or {})},
            fork_server=settings.fork_server,
            **options,
        )

    return run


def ends_with_words(finding: Finding, shown: str) -> None:
    assert (finding.status, finding.error) == ("succeeded", None)
    assert finding.verdict in VERDICTS
    assert len(finding.summary) > 10
    assert "Traceback (most recent call last)" not in shown
    assert "could not record the results" not in shown


def kept(database: Database) -> dict[str, Any]:
    """The rows that must stay, and every object of the schema."""
    with database.transaction(read_only=True) as transaction:
        found = {
            table: transaction.value(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} AS t")
            for table in KEPT
        }  # fmt: skip
        return {**found, "objects": transaction.value(_OBJECTS)}


@each_notebook
def test_on_an_empty_database_it_ends_with_a_verdict_and_words(
    path: Path, empty_database: Database, run: Callable[..., tuple[Finding, str]]
) -> None:
    ends_with_words(*run(path, empty_database.url))


@each_notebook
def test_with_its_defaults_it_succeeds_on_a_month_and_changes_nothing(
    path: Path, month: Database, run: Callable[..., tuple[Finding, str]]
) -> None:
    before = kept(month)
    finding, shown = run(path, month.url)
    ends_with_words(finding, shown)
    assert finding.results
    assert kept(month) == before


@pytest.mark.long
@each_notebook
def test_a_role_without_privileges_is_told_so(
    path: Path, new_database: Callable[..., Database], run: Callable[..., tuple[Finding, str]]
) -> None:
    database, role = new_database(), f"nobody_{uuid.uuid4().hex[:8]}"
    with database.transaction() as transaction:
        transaction.run(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'")
    try:
        ends_with_words(*run(path, as_role(database, role)))
    finally:
        with database.transaction() as transaction:
            transaction.run(f"DROP ROLE {role}")


@pytest.mark.long
@each_notebook
@pytest.mark.parametrize("shape", [UUID_KEYS, BARE, NO_HISTORY], ids=["uuid", "bare", "no-history"])
def test_a_pipeline_that_is_not_ours_is_read_and_never_written(
    shape: Shape, path: Path, new_database: Callable[..., Database], database: Database, tmp_path: Path,
    run: Callable[..., tuple[Finding, str]],
) -> None:  # fmt: skip
    theirs = shape.make(new_database)
    written = "SELECT format('%%s', array_agg((relname, n_tup_ins, n_tup_upd, n_tup_del)::text ORDER BY relname)) FROM pg_stat_user_tables"
    with theirs.transaction(read_only=True) as transaction:
        before = transaction.value(written)
    environment = {
        "RUNBOOK_MAPPING": str(shape.write_mapping(tmp_path)),
        "RUNBOOK_DATABASE_URL": database.url,
    }
    values = {} if card_of(path).read_only else {"dry_run": False}
    ends_with_words(*run(path, theirs.url, environment, values=values))
    with theirs.transaction(read_only=True) as transaction:
        assert transaction.value(written) == before


@pytest.mark.long
@each_notebook
def test_with_the_database_down_it_ends_with_words(
    path: Path, run: Callable[..., tuple[Finding, str]]
) -> None:
    url = f"postgresql://runbook:secret-word@127.0.0.1:{refused_port()}/runbook"
    finding, shown = run(path, url)
    ends_with_words(finding, shown)
    assert finding.verdict != "ok" or path.stem == "which_procedure"
    assert "No connection to the database at 127.0.0.1" in shown
    assert "secret-word" not in shown


@pytest.mark.long
@each_notebook
@pytest.mark.parametrize("provider", ["openai", "wordpress"])
def test_with_a_provider_down_it_ends_with_words(
    provider: str, path: Path, month: Database, run: Callable[..., tuple[Finding, str]]
) -> None:
    address = f"http://127.0.0.1:{refused_port()}"
    down = {"OPENAI_BASE_URL": f"{address}/v1"} if provider == "openai" else {"WORDPRESS_URL": address}  # fmt: skip
    before = kept(month)
    ends_with_words(*run(path, month.url, down))
    assert kept(month) == before


# --- what stands against a change, put into the notebook before it is applied
_ALTERED = {
    "drifted": "UPDATE changes SET digest = 'another'",
    "beyond its limit": "UPDATE changes SET row_limit = 0",
}
_ALTER = """
with workplace.database.transaction() as transaction:
    transaction.run({statement!r})
"""
_FAILED_GUARD = """
from dataclasses import replace
proposal = replace(proposal, against=["a guard is critical"])
"""


def _before_apply(source: str) -> Callable[[Any], None]:
    def change(notebook: Any) -> None:
        place = next(n for n, cell in enumerate(notebook.cells) if cell.cell_type == "code" and ".apply(" in cell.source)  # fmt: skip
        notebook.cells.insert(place, nbformat.v4.new_code_cell(source))

    return change


@pytest.mark.long
@each_with_effects
@pytest.mark.parametrize("against", [*_ALTERED, "a failed guard"])
def test_a_change_that_something_stands_against_changes_nothing(
    against: str, path: Path, new_database: Callable[..., Database], run: Callable[..., tuple[Finding, str]]
) -> None:  # fmt: skip
    if "proposal.apply(" not in "\n".join(code_cells(path)):
        pytest.skip("it has a way of its own, which its own tests cover")
    database = new_database()
    seed_month(database)
    before = kept(database)
    statement = _ALTERED.get(against)
    source = _ALTER.format(statement=statement) if statement else _FAILED_GUARD
    finding, shown = run(path, database.url, values={"dry_run": False}, change=_before_apply(source))  # fmt: skip
    ends_with_words(finding, shown)
    assert re.search(r"refused|nothing to do|There is nothing to change", shown)
    assert kept(database) == before


@pytest.mark.long
@each_with_effects
def test_a_second_apply_changes_nothing_more(
    path: Path, new_database: Callable[..., Database], run: Callable[..., tuple[Finding, str]]
) -> None:
    """As when somebody presses "run all" twice, or runs the cell again."""
    if "proposal.apply(" not in "\n".join(code_cells(path)):
        pytest.skip("it has a way of its own, which its own tests cover")
    database = new_database()
    seed_month(database)
    again = """
applied = proposal.apply(dry_run=False)
print("second:", applied.outcome)
"""

    def change(notebook: Any) -> None:
        place = next(n for n, cell in enumerate(notebook.cells) if cell.cell_type == "code" and ".apply(" in cell.source)  # fmt: skip
        notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(again))

    finding, shown = run(path, database.url, values={"dry_run": False}, change=change)
    ends_with_words(finding, shown)
    assert re.search(r"second: (refused|nothing_to_do)", shown)


def nbval(database: Database, paths: list[Path]) -> None:
    environment = {**os.environ, "DATABASE_URL": database.url}
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-x", "-q", "-p", "no:cacheprovider",
         "-c", os.devnull, "--rootdir", str(PROJECT_DIRECTORY), *map(str, paths)],
        env=environment, cwd=PROJECT_DIRECTORY, capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout[-3000:]
    cells = sum(len(code_cells(path)) for path in paths)
    assert re.search(rf"\b{cells} passed", answer.stdout), answer.stdout[-500:]


def test_nbval_runs_notebooks_as_they_stand(database: Database) -> None:
    nbval(database, [path for path in NOTEBOOKS if name_of(path) in IN_NBVAL])


@pytest.mark.long
def test_nbval_runs_every_notebook_as_it_stands(month: Database) -> None:
    before = kept(month)
    nbval(month, NOTEBOOKS)
    assert kept(month) == before
