"""`runbook db`: starts the server, keeps it, says where it is, lets it go, and migrates."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from runbook_lib.cli import main
from runbook_lib.database import Database, embedded, schema
from runbook_lib.settings import load_settings


class Told(NamedTuple):
    """What a command said, and its exit status."""

    status: int
    output: str
    errors: str


def runbook(*arguments: str, **environment: str) -> Told:
    """The command in this process: the same entry, without the time that a new process takes."""
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        for name, text in environment.items():
            patch.setenv(name, text)
        load_settings.cache_clear()
        with pytest.raises(SystemExit) as ended:
            main(["db", *arguments])
    return Told(int(str(ended.value.code)), output.getvalue(), errors.getvalue())


def answer(*arguments: str, **environment: str) -> dict[str, Any]:
    told = runbook(*arguments, "--json", **environment)
    assert told.status == 0, told.errors
    found: dict[str, Any] = json.loads(told.output)
    return found


@pytest.fixture
def _down(home: Path) -> Iterator[None]:
    yield
    embedded.server(home).let_go()
    assert embedded.server(home).wait_until_stopped(30)


@pytest.mark.usefixtures("_down")
def test_up_keeps_the_server_until_down_and_no_answer_but_url_shows_the_password(
    home: Path,
) -> None:
    # Only so that the first start need not sync a new data folder.
    embedded.acquire(home, server_settings={"fsync": "off"})[1].release()
    assert embedded.server(home).wait_until_stopped(30)
    not_up = runbook("url")
    assert not_up.status == 3
    assert "runbook db up" in not_up.errors
    assert answer("status")["running"] is False

    # A process of its own, which ends: what it started must stay.
    command = [sys.executable, "-m", "runbook_lib.cli", "db", "up"]
    up = subprocess.run(command, capture_output=True, text=True, check=True)
    status = answer("status")
    assert status["running"]
    assert status["kept"]
    assert status["schema_current"]
    assert not embedded.server(home).wait_until_stopped(1.5)
    told = runbook("url")
    password = str(urlsplit(told.output.strip()).password)
    with Database(told.output.strip()).transaction() as transaction:
        assert transaction.value("SELECT count(*) FROM content_jobs") == 0
    shown = up.stdout + up.stderr + json.dumps(status) + runbook("status").output
    assert password not in shown

    # Somebody who uses it keeps it; the last one stops it.
    _, hold = embedded.acquire(home)
    assert answer("down") == {"stopped": False, "was_kept": True, "in_use": True}
    hold.release()
    assert answer("down") == {"stopped": True, "was_kept": False, "in_use": False}
    assert not embedded.server(home).status().running


def test_with_a_database_url_nothing_is_started_or_stopped(database: Database, home: Path) -> None:
    for command in ("up", "down"):
        told = runbook(command, DATABASE_URL=database.url)
        assert told.status == 0
        assert "DATABASE_URL is set" in told.output
    assert not home.exists()
    assert answer("status", DATABASE_URL=database.url)["address"] == database.address
    assert answer("url", DATABASE_URL=database.url)["url"] == database.url
    assert not home.exists()


def test_migrate_says_what_it_did_and_leaves_a_record_of_who(
    new_database: Callable[..., Database],
) -> None:
    empty = new_database(migrated=False)
    before = runbook("status", DATABASE_URL=empty.url)
    assert before.status == 1
    assert "runbook db migrate" in before.output
    environment = {"DATABASE_URL": empty.url, "RUNBOOK_DATABASE_SCHEMA": "workbench"}
    first = answer("migrate", "--actor", "ana", **environment)
    assert first == {"before": None, "after": schema.expected_version(), "changed": True}
    assert answer("migrate", **environment) == {
        "before": schema.expected_version(),
        "after": schema.expected_version(),
        "changed": False,
    }
    assert answer("status", **environment)["schema_current"]
    with Database(empty.url, schema="workbench").transaction() as transaction:
        (action,) = transaction.rows("SELECT actor, action, outcome, after FROM admin_actions")
    assert action == ("ana", "db.migrate", "done", {"version": schema.expected_version()})


def test_printed_statements_need_no_database() -> None:
    told = runbook("migrate", "--sql", RUNBOOK_DATABASE_SCHEMA="workbench")
    assert told.status == 0
    assert told.output.rstrip() == schema.migration_sql("workbench").rstrip()


def test_a_database_that_is_away_is_status_1_and_3_for_what_needs_it() -> None:
    away = {"DATABASE_URL": "postgresql://user:s3cret-pass@127.0.0.1:1/none"}
    status = runbook("status", **away)
    assert status.status == 1
    assert "127.0.0.1:1/none" in status.output
    migrate = runbook("migrate", **away)
    assert migrate.status == 3
    assert "s3cret-pass" not in status.output + migrate.errors + migrate.output


def test_an_address_that_is_none_is_wrong_use_and_not_shown() -> None:
    told = runbook("status", DATABASE_URL="postgresql://user:s3cret/pass@host/db")
    assert told.status == 2
    assert "s3cret" not in told.output + told.errors


def test_grants_are_printed_for_the_tables_owner(database: Database) -> None:
    told = runbook("grants", "Content Worker", DATABASE_URL=database.url)
    assert told.status == 0
    assert (
        'ON FUNCTION public.make_job_runs_partitions(integer) TO "Content Worker";' in told.output
    )
