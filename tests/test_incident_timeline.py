"""Every cell that somebody executes by hand is in the timeline, whatever becomes of its kernel or the database."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fixture_procedures import write_procedure

from benchmarks.incident_scene import Kernel, running_kernel
from runbook_lib.archive.entries import find_entry
from runbook_lib.archive.store import open_store
from runbook_lib.archive.verification import verify_archive
from runbook_lib.database import Database
from runbook_lib.health.context import Context
from runbook_lib.health.sources import Sources
from runbook_lib.incidents import copies, records
from runbook_lib.incidents.closing import close_incident
from runbook_lib.incidents.timeline import cells_by_hand, read_timeline
from runbook_lib.policy import Policy
from runbook_lib.sandbox.proxy import NetworkProxy
from runbook_lib.settings import Settings
from runbook_lib.spool import open_spool

SECRET = "correct-horse-battery-staple-77"
LOOKS = (
    "from runbook_lib import conclude\nfrom runbook_lib.health.checks import Check",
    f"print('{SECRET}'); Check('queue.age', 'warning', 'It waits.')",
    "raise ValueError('password={SECRET}')",
    "conclude({'jobs': 3}, verdict='critical', summary='Three jobs wait.')",
)
# Somebody pauses a provider from a cell.
PAUSES = (
    "from runbook_lib.changes import admin_action\nfrom runbook_lib.database import open_database\n"
    "from runbook_lib.settings import current_actor, load_settings\n"
    "with admin_action(open_database(load_settings()), actor=current_actor(), action='pause_provider') as done:\n"
    "    done.before, done.after = {'paused': False}, {'paused': True}"
)
DIES = (PAUSES, "%reset -f", "import os; os.kill(os.getpid(), 9)", "1 + 1")


@pytest.fixture
def settings(database: Database, home: Path, tmp_path: Path) -> Settings:
    folder = tmp_path / "procedures"
    write_procedure(folder, "fixture/looks", *LOOKS, parameters="days = 7")
    write_procedure(folder, "fixture/dies", *DIES)
    return Settings(
        database_url=database.url, runbook_home=home, runbook_procedures=folder, runbook_actor="eve"
    )


def environment(settings: Settings, address: str | None = None) -> dict[str, str]:
    """What a lab's kernels have in theirs."""
    assert settings.database_url is not None
    return {
        "DATABASE_URL": address or settings.database_url.get_secret_value(),
        "RUNBOOK_HOME": str(settings.runbook_home),
        "RUNBOOK_PROCEDURES": str(settings.runbook_procedures),
        "RUNBOOK_ACTOR": "eve",
        "OPENAI_API_KEY": SECRET,
        "RUNBOOK_SANDBOX": "wordpress",
    }


def opened(database: Database, settings: Settings, *people: str) -> tuple[str, list[Path]]:
    """An incident with a folder for each of these people."""
    incident = records.new_incident("Nothing goes out", "critical", people[0], people[0])
    records.open_incident(database, open_spool(settings), incident)
    made = [copies.make_copies(settings, incident.incident, person) for person in people]
    return incident.incident, [each.folder for each in made]


def cells(database: Database, incident: str) -> list[dict[str, Any]]:
    return [each for each in read_timeline(database, incident) if each["kind"] == "cell"]


def test_every_executed_cell_is_in_the_timeline_of_two_people_and_a_killed_kernel(
    database: Database, settings: Settings
) -> None:
    incident, (ana, ben) = opened(database, settings, "ana", "Ben Ó")
    with ExitStack() as stack:
        looks, dies, health = (
            stack.enter_context(running_kernel(path, environment(settings), named=named))
            for path, named in ((ana / "fixture/looks.ipynb", False), (ben / "fixture/dies.ipynb", True),
                                (ben / "daily/health_check.ipynb", True))
        )  # fmt: skip
        assert [looks.execute(number) for number in (1, 2, 3, 4, 5)] == ["ok", "ok", "ok", "error", "ok"]  # fmt: skip
        assert [dies.execute(number) for number in (1, 2, 3)] == ["ok", "ok", "died"]
        assert health.execute(1) == "ok"
    found = cells(database, incident)
    assert [(each["actor"], each["notebook"], each["cell_number"], each["status"], each["verdict"])
            for each in found] == [
        ("ana", "fixture/looks", 1, "succeeded", None),
        ("ana", "fixture/looks", 2, "succeeded", None),
        ("ana", "fixture/looks", 3, "succeeded", "warning"),
        ("ana", "fixture/looks", 4, "failed", None),
        ("ana", "fixture/looks", 5, "succeeded", "critical"),
        ("Ben Ó", "fixture/dies", 1, "succeeded", None),
        ("Ben Ó", "fixture/dies", 2, "succeeded", None),
        ("Ben Ó", "fixture/dies", 3, "lost", None),
        ("Ben Ó", "daily/health_check", 1, "succeeded", None),
    ]  # fmt: skip
    assert found[3]["error"] == "ValueError"
    assert found[4]["said"] == "Three jobs wait."
    assert found[7]["error"] == "The kernel ended before the cell did."
    assert all(each["seconds"] is not None for each in found if each["status"] != "lost")
    assert SECRET not in json.dumps(found, default=str)
    assert not open_spool(settings).waiting()
    _closes_well(database, settings, incident)


def _closes_well(database: Database, settings: Settings, incident: str) -> None:
    """The copies go to the archive, with what a cell changed under its person's name."""
    with Context(settings, Policy(), Sources(database, database)) as context:
        closed = close_incident(context, incident, "ana", "The worker was started again.")
    runs = [find_entry(database, run_id) for run_id in closed.runs]
    assert [(run["procedure"], run["actor"], run["status"]) for run in runs] == [
        ("fixture/looks", "ana", "failed"),
        ("fixture/dies", "Ben Ó", "killed"),
        ("daily/health_check", "Ben Ó", "failed"),
    ]
    assert [run["verdict"] for run in runs] == ["critical", None, None]
    with database.transaction(read_only=True) as transaction:
        (action,) = transaction.rows(
            "SELECT action_id, run_id::text, actor, outcome FROM admin_actions"
        )
        entered = transaction.value(
            "SELECT entry FROM archive_entries WHERE subject = %(run)s", run=action.run_id
        )
    assert (action.run_id, action.actor, action.outcome) == (runs[1]["run_id"], "Ben Ó", "done")
    assert f"admin_actions/{action.action_id}" in entered
    assert SECRET not in closed.post_mortem.read_text()
    assert verify_archive(database, open_store(settings), settings).findings == []


@pytest.fixture
def cut_off(database: Database) -> Iterator[tuple[str, NetworkProxy]]:
    """The address of the test's database behind a link that can be cut."""
    place = urlsplit(database.url)
    assert place.hostname is not None
    with NetworkProxy(place.hostname, place.port or 5432) as proxy:
        there = f"{place.username}:{place.password}@127.0.0.1:{proxy.port}"
        yield f"postgresql://{there}{place.path}", proxy


def test_cells_executed_while_the_database_is_away_are_filed_afterwards_each_once(
    database: Database, settings: Settings, cut_off: tuple[str, NetworkProxy]
) -> None:
    address, proxy = cut_off
    incident, (ana, ben) = opened(database, settings, "ana", "ben")
    spool = open_spool(settings)
    with ExitStack() as stack:
        kernels: list[Kernel] = [
            stack.enter_context(running_kernel(folder / "fixture/looks.ipynb", environment(settings, address)))
            for folder in (ana, ben)
        ]  # fmt: skip
        assert [kernel.execute(1) for kernel in kernels] == ["ok", "ok"]
        proxy.set_fault("reset")
        assert [kernel.execute(number) for number in (2, 3, 4) for kernel in kernels] == [
            "ok", "ok", "ok", "ok", "error", "error",
        ]  # fmt: skip
        assert len(spool.waiting()) == 12
        proxy.clear_fault()
    assert len(cells(database, incident)) == 2
    spool.file(database)
    spool.file(database)
    found = cells(database, incident)
    assert Counter((each["actor"], each["cell_number"]) for each in found) == {
        (actor, number): 1 for actor in ("ana", "ben") for number in (1, 2, 3, 4)
    }
    assert [each["filed_late"] for each in found if each["cell_number"] == 1] == [False, False]
    assert all(each["filed_late"] for each in found if each["cell_number"] != 1)
    assert {each["status"] for each in found} == {"succeeded", "failed"}
    assert not spool.waiting()
    assert not spool.set_aside()
    assert verify_archive(database, open_store(settings), settings).findings == []


def test_a_procedure_opened_where_it_is_kept_is_recorded_too_and_a_run_is_not_recorded_twice(
    database: Database, settings: Settings
) -> None:
    assert settings.runbook_procedures is not None
    path, of_a_run = (
        settings.runbook_procedures / "fixture/looks.ipynb",
        {"RUNBOOK_RUN_ID": str(uuid.uuid4())},
    )
    with (
        running_kernel(path, environment(settings), named=False) as kernel,
        running_kernel(path, {**environment(settings), **of_a_run}) as runner,
    ):
        for number in (1, 2, 3):
            assert kernel.execute(number, save=False) == "ok"
            assert runner.execute(number, save=False) == "ok"
    found = cells_by_hand(database)
    assert [(each["actor"], each["notebook"], each["cell_number"]) for each in found] == [
        ("eve", "fixture/looks", number) for number in (3, 2, 1)
    ]
    assert [each["verdict"] for each in found] == ["warning", None, None]
