"""Checklists: every item done by its check or ticked by a person, and a release blocked by what is open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fault_server import refused_port
from month import seed_month

from runbook_lib import cli
from runbook_lib.code_version import last_commit_of
from runbook_lib.database import Database
from runbook_lib.errors import NotFoundError, UsageError
from runbook_lib.health.sources import Sources
from runbook_lib.maintenance import checklists
from runbook_lib.maintenance.checklist_checks import CHECKS
from runbook_lib.maintenance.checklist_review import checklist
from runbook_lib.maintenance.dependencies import LOCK, behind_releases, lock_age


@pytest.fixture
def sources(database: Database, monkeypatch: pytest.MonkeyPatch) -> Sources:
    monkeypatch.setenv("DATABASE_URL", database.url)
    return Sources(database, database)


def tick(sources: Sources, name: str, item: str, **more: object) -> str:
    return checklists.tick(sources.bookkeeping, name, item, actor="ana", note="read it", **more)  # type: ignore[arg-type]


def ran(database: Database, procedure: str, verdict: str, days_ago: float) -> None:
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO notebook_runs (procedure, status, verdict, actor, trigger, host, pid, source_sha256, started_at, ended_at)"
            " VALUES (%(procedure)s, 'succeeded', %(verdict)s, 'ana', 'test', 'h', 1, '', now() - make_interval(days => 1), now() - %(ago)s)",
            procedure=procedure, verdict=verdict, ago=timedelta(days=days_ago),
        )  # fmt: skip


def test_the_written_runbooks_checklists_are_whole() -> None:
    found = checklists.checklists()
    assert {name: len(each.items) for name, each in found.items()} == {
        "pre_deployment": 6, "post_deployment": 5, "monthly_review": 6,
    }  # fmt: skip
    for each in found.values():
        for item in each.items:
            assert (item.check in CHECKS) if item.check else item.how


def test_a_release_is_blocked_until_every_item_is_done_or_ticked(sources: Sources) -> None:
    before = checklist(sources, "pre_deployment")
    assert (before.verdict, before.check.value) == ("critical", 4)
    assert "blocked by tests, migrations, monitoring, backup" in before.check.message
    for item in ("tests", "migrations", "monitoring", "backup"):
        assert f"runbook checklist tick pre_deployment {item} " in repr(before.to_do)
        tick(sources, "pre_deployment", item)
    after = checklist(sources, "pre_deployment")
    # the providers are the sandbox's, which is worth a warning
    assert (after.verdict, after.results()["open"]) == ("warning", [])
    assert after.results()["ticked_by"]["tests"] == "ana"
    assert "ana, " in repr(after.items)


def test_a_tick_counts_for_its_own_version_and_month_only(sources: Sources) -> None:
    chosen = tick(sources, "monthly_review", "documentation")
    assert checklist(sources, "monthly_review").results()["items"]["documentation"] == "ticked"
    other = checklist(sources, "monthly_review", subject="2020-01")
    assert other.results()["items"]["documentation"] == "open"
    assert other.verdict == "warning"
    assert chosen == checklist(sources, "monthly_review").subject


def test_a_tick_is_taken_back_and_stays_on_record(sources: Sources) -> None:
    tick(sources, "pre_deployment", "tests")
    tick(sources, "pre_deployment", "tests", ticked=False)
    assert checklist(sources, "pre_deployment").results()["items"]["tests"] == "open"
    with sources.bookkeeping.transaction(read_only=True) as transaction:
        assert transaction.value("SELECT count(*) FROM checklist_ticks") == 2
        actions = transaction.rows("SELECT action, actor, outcome, target FROM admin_actions ORDER BY acted_at")  # fmt: skip
    assert [(row.action, row.outcome) for row in actions] == [("checklist.tick", "done"), ("checklist.untick", "done")]  # fmt: skip
    assert actions[0].target.startswith("pre_deployment/tests for ")


@pytest.mark.parametrize(("item", "note", "raised"), [("tests", "  ", UsageError), ("test", "x", NotFoundError)])  # fmt: skip
def test_a_tick_without_a_note_or_for_no_item_is_refused(
    sources: Sources, item: str, note: str, raised: type[Exception]
) -> None:
    with pytest.raises(raised):
        checklists.tick(sources.bookkeeping, "pre_deployment", item, actor="ana", note=note)


@pytest.mark.parametrize(("verdict", "days_ago", "state"), [("ok", 3, "done"), ("warning", 3, "done, with a warning"), ("critical", 3, "failed"), ("ok", 40, "open")])  # fmt: skip
def test_a_procedure_that_ran_in_time_takes_its_verdict_with_it(
    sources: Sources, verdict: str, days_ago: float, state: str
) -> None:
    ran(sources.bookkeeping, "monthly/backup_restore", verdict, days_ago)
    assert checklist(sources, "monthly_review").results()["items"]["backup"] == state


def test_what_failed_cannot_be_ticked_away(sources: Sources) -> None:
    ran(sources.bookkeeping, "monthly/backup_restore", "critical", 1)
    tick(sources, "pre_deployment", "backup")
    found = checklist(sources, "pre_deployment")
    assert found.results()["items"]["backup"] == "failed"
    assert "cannot be ticked away" in repr(found.to_do)


def test_the_first_job_counts_from_the_newest_worker_on(sources: Sources) -> None:
    def state() -> str:
        found: str = checklist(sources, "post_deployment").results()["items"]["first_job"]
        return found

    assert state() == "open"
    seed_month(sources.bookkeeping)
    assert state() == "done"
    with sources.bookkeeping.transaction() as transaction:
        transaction.run("UPDATE workers SET started_at = now(), version = '0.2.0'")
    assert state() == "failed"


def test_the_age_of_the_lock_is_told() -> None:
    now = datetime.now(UTC)
    found = [lock_age(days=days, now=now + timedelta(days=400)) for days in (36_500, 35)]
    known = ["ok", "warning"] if last_commit_of(LOCK) else ["not_enough_data"] * 2
    assert [each.verdict for each in found] == known


def test_without_a_package_index_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip itself calls what it could not ask about up to date."""
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{refused_port()}/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    found = behind_releases()
    assert found.packages == ()
    assert found.problem is not None
    assert "index could not be asked" in found.problem


class Index(BaseHTTPRequestHandler):
    """A package index on which everything has a version 99.0, and is not for download."""

    def do_GET(self) -> None:
        name = self.path.strip("/").rpartition("/")[2]
        file = f"{name.replace('-', '_')}-99.0-py3-none-any.whl"
        page = f'<!DOCTYPE html><a href="/files/{file}">{file}</a>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.long
def test_what_is_behind_is_told_where_there_is_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    try:
        found = behind_releases()
    finally:
        server.shutdown()
    assert found.problem is None
    assert {each["newest"] for each in found.packages} == {"99.0"}
    assert "APScheduler" in {each["package"] for each in found.packages}


def test_without_a_database_it_says_so() -> None:
    away = Database("postgresql://runbook:hidden-word@127.0.0.1:1/x")
    found = checklist(Sources(away, away), "pre_deployment")
    assert (found.verdict, found.results()["items"]) == ("not_enough_data", {})
    assert "hidden-word" not in repr(found) + found._repr_html_() + repr(found.items)


def test_on_the_command_line_what_is_open_is_exit_status_1(
    sources: Sources, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["checklist", *words])
        return int(ended.value.code or 0), capsys.readouterr().out

    status, shown = run("show", "pre_deployment", "--json")
    assert (status, json.loads(shown)["verdict"]) == (1, "critical")
    for item in ("tests", "migrations", "monitoring", "backup"):
        status, shown = run("tick", "pre_deployment", item, "--note", "looked", "--actor", "bo")
        assert (status, f"{item} of pre_deployment is ticked" in shown) == (0, True)
    status, shown = run("show", "pre_deployment")
    assert status == 0
    assert "6 of 6 items are done" in shown
    assert run("untick", "pre_deployment", "tests", "--note", "too early")[0] == 0
    assert run("show", "pre_deployment")[0] == 1


def test_a_process_of_its_own_answers_too(sources: Sources, home: Path) -> None:
    environment = {**os.environ, "DATABASE_URL": sources.bookkeeping.url}
    answer = subprocess.run(
        [sys.executable, "-m", "runbook_lib.cli", "checklist", "show", "monthly_review", "--json"],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["checklist"] == "monthly_review"
