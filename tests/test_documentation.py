"""The pages say what is true: their commands, links and states exist."""

from __future__ import annotations

import re
import shlex
from itertools import product
from pathlib import Path

import click
import psycopg2
import pytest

from runbook_lib.cli import COMMANDS, runbook
from runbook_lib.database import Database
from runbook_lib.settings import PROJECT_DIRECTORY, Settings

PAGES = sorted(
    path
    for folder in (".", "docs", "notebooks")
    for path in (PROJECT_DIRECTORY / folder).glob("*.md")
)
STATUSES = ("pending", "processing", "completed", "error")


def page_text(page: Path) -> str:
    return page.read_text("utf-8")


def commands(text: str) -> list[list[str]]:
    """Every `runbook …` of a page, from code blocks and code spans."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(
        r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    )
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    found = [line.removeprefix(".venv/bin/") for line in [*lines, *spans]]
    return [shlex.split(line)[1:] for line in found if line.startswith("runbook ")]


def require_command(words: list[str]) -> None:
    """Fails unless the words name a command, its subcommands and its options."""
    command: click.Command = runbook
    for position, word in enumerate(words):
        if command.context_settings.get("ignore_unknown_options"):
            # `demo` and `rehearse do` run any command over another place.
            inner = words[position + 1 :] if word == "do" else words[position:]
            if inner and inner[0] in COMMANDS:
                require_command(inner)
            return
        if not isinstance(command, click.Group):
            options = {option for parameter in command.params for option in parameter.opts}
            unknown = {word for word in words[position:] if word.startswith("-")} - options
            assert not unknown, f"runbook {' '.join(words)}: no option {unknown}"
            return
        found = command.get_command(click.Context(command), word)
        assert found is not None, f"runbook {' '.join(words)}: no command {word!r}"
        command = found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    for words in commands(page_text(page)):
        require_command(words)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_in_the_list_can_be_called(name: str) -> None:
    require_command([name, "--help"][:1])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page_text(page)):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    # RUNBOOK_ENV_FILE names the file that the others are read from.
    settings = {name.upper() for name in Settings.model_fields} | {"RUNBOOK_ENV_FILE"}
    named = set(re.findall(r"`((?:RUNBOOK|OPENAI|WORDPRESS)_[A-Z_]*[A-Z])", page_text(page)))
    assert named <= settings


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    makefile = (PROJECT_DIRECTORY / "Makefile").read_text()
    targets = makefile.split(".PHONY:")[1].splitlines()[0].split()
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", page_text(page), re.MULTILINE)) <= set(targets)


def documented_transitions() -> set[tuple[str, str]]:
    text = page_text(PROJECT_DIRECTORY / "docs" / "job_states.md")
    return {
        (before, after)
        for before, after in re.findall(r"^\| (\w+) \| (\w+) \|", text, re.MULTILINE)
        if before in STATUSES
    }


def test_the_schema_allows_exactly_the_transitions_that_are_drawn(database: Database) -> None:
    allowed = {
        (before, after)
        for before, after in product(STATUSES, STATUSES)
        if before != after and is_allowed(database, before, after)
    }
    assert allowed == documented_transitions()


def is_allowed(database: Database, before: str, after: str) -> bool:
    in_status = {
        "pending": "status = 'pending', worker = NULL, lease_until = NULL",
        "processing": "status = 'processing', attempt = attempt + 1, worker = 'w', lease_until = now()",
        "completed": "status = 'completed', worker = NULL, lease_until = NULL, completed_at = now()",
        "error": "status = 'error', worker = NULL, lease_until = NULL",
    }
    ways = {
        "pending": [],
        "processing": ["processing"],
        "completed": ["processing", "completed"],
        "error": ["error"],
    }
    with database.connect() as connection:
        with connection.transaction() as transaction:
            job_id = transaction.value(
                "INSERT INTO content_jobs (topic) VALUES ('x') RETURNING job_id"
            )
            for status in ways[before]:
                transaction.run(
                    "UPDATE content_jobs SET " + in_status[status] + " WHERE job_id = %(job_id)s",
                    job_id=job_id,
                )
        try:
            with connection.transaction() as transaction:
                transaction.run(
                    "UPDATE content_jobs SET " + in_status[after] + " WHERE job_id = %(job_id)s",
                    job_id=job_id,
                )
        except psycopg2.errors.CheckViolation as error:
            if error.diag.constraint_name != "content_jobs_transition":
                raise
            return False
    return True


def test_the_run_statuses_that_are_described_are_the_schemas(database: Database) -> None:
    text = (
        page_text(PROJECT_DIRECTORY / "docs" / "job_states.md")
        .split("## An attempt")[1]
        .split("##")[0]
    )
    described = set(re.findall(r"^\| (\w+) \|", text, re.MULTILINE)) - {"status"}
    with database.transaction() as transaction:
        check = transaction.value(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'job_runs_status_check'"
        )
    assert set(re.findall(r"'(\w+)'", check)) == described
