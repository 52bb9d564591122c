"""Runs are found again by what they were and what they found, and compared."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest
from click.testing import CliRunner
from fixture_procedures import write_procedure

from benchmarks.archived_runs import add_run, file_run
from runbook_lib.archive.diff import compare
from runbook_lib.archive.entries import find_entry
from runbook_lib.archive.notebook_files import notebook_bytes
from runbook_lib.archive.search import Query, condition, read_time, search, search_all, series
from runbook_lib.archive.store import open_store
from runbook_lib.cli.archive import archive as archive_command
from runbook_lib.cli.procedures import run as run_command
from runbook_lib.database import Database
from runbook_lib.errors import NotFoundError, UsageError
from runbook_lib.settings import Settings

FIRST = datetime(2026, 11, 1, 8, tzinfo=UTC)


def at(day: int) -> datetime:
    return FIRST + timedelta(days=day - 1)


@pytest.fixture
def runs(database: Database) -> dict[str, str]:
    """Five runs, by what is special about them."""
    with database.connect() as connection:
        return {
            "ok": add_run(connection, started_at=at(1), results={"failed_percent": 3.5, "queue": {"pending": 9}}),
            "critical": add_run(
                connection, started_at=at(2), verdict="critical", actor="ana", incident="INC-7",
                parameters={"days": 30, "model": "gpt-4o"}, results={"failed_percent": 31, "queue": {"pending": 120}},
            ),
            "failed": add_run(connection, started_at=at(3), status="failed", verdict=None),
            "newest": add_run(connection, started_at=at(4), results={"failed_percent": "unknown", "notes": ["Refunds"]}),
            "other": add_run(connection, procedure="daily/check", started_at=at(5)),
        }  # fmt: skip


QUERIES: list[tuple[dict[str, Any], str]] = [
    ({}, "other newest failed critical ok"),
    ({"limit": 2}, "other newest"),
    ({"procedure": "weekly/review", "verdict": "critical"}, "critical"),
    ({"procedure": "check"}, "other"),
    ({"status": "failed"}, "failed"),
    ({"actor": "ana"}, "critical"),
    ({"incident": "INC-7"}, "critical"),
    ({"since": at(2), "until": at(4)}, "failed critical"),
    ({"well": True, "procedure": "weekly/review"}, "newest ok"),
    ({"text": "refund"}, "newest"),
    ({"conditions": ["failed_percent>3"]}, "critical ok"),
    ({"conditions": ["failed_percent>=31"]}, "critical"),
    ({"conditions": ["failed_percent=unknown"]}, "newest"),
    ({"conditions": ["queue.pending<100"]}, "ok"),
    ({"conditions": ["queue.pending!=9", "failed_percent<50"]}, "critical"),
    ({"conditions": ["notes.0~fund"]}, "newest"),
    ({"conditions": ["nothing=1"]}, ""),
    ({"parameters": ["days=30", "model~GPT"]}, "critical"),
]


def test_runs_are_found_by_what_they_were_and_found(
    database: Database, runs: dict[str, str]
) -> None:
    for asked, expected in QUERIES:
        query = {**asked}
        query["conditions"] = tuple(
            [condition(each) for each in query.get("conditions", ())]
            + [condition(each, "parameter") for each in query.pop("parameters", ())]
        )
        found = [run["run_id"] for run in search(database, Query(**query))]
        assert found == [runs[name] for name in expected.split()], asked
    assert [run["run_id"] for run in search_all(database, Query(limit=2))] == [
        run["run_id"] for run in search(database, Query())
    ]


@pytest.mark.parametrize("text", ["", "x", ">3", "a b=1"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no condition"):
        condition(text)


ADDRESSES = {
    "weekly/review@latest": "newest",
    "review@latest-ok": "newest",
    "review@2026-11-03": "critical",
    "review@2026-11-01": "ok",
    "review@2026-11-02T07:00Z": "ok",
    "check@latest": "other",
}


def test_an_address_stays_and_leads_to_the_run(database: Database, runs: dict[str, str]) -> None:
    for address, expected in ADDRESSES.items():
        assert find_entry(database, address)["run_id"] == runs[expected], address
    for address in ("review@2020-01-01", "nothing@latest"):
        with pytest.raises(NotFoundError):
            find_entry(database, address)
    assert [each["value"] for each in series(database, "review", "queue.pending")] == [
        9,
        120,
        None,
        None,
    ]


def test_an_address_that_fits_two_procedures_is_refused(
    database: Database, runs: dict[str, str]
) -> None:
    file_run(database, procedure="monthly/review")
    with pytest.raises(UsageError, match="monthly/review, weekly/review"):
        find_entry(database, "review@latest")
    with pytest.raises(UsageError, match="is no time"):
        find_entry(database, "check@yesterday")


def test_a_time_without_a_zone_is_utc() -> None:
    assert read_time("2026-11-01T10:00") == datetime(2026, 11, 1, 10, tzinfo=UTC)


def notebook(days: int, answer: str) -> bytes:
    made = nbformat.v4.new_notebook()
    output = nbformat.v4.new_output(
        "stream", name="stdout", text=f"\x1b[31m{answer}\x1b[0m\nsame\n"
    )
    made.cells = [
        nbformat.v4.new_code_cell(f"days = {days}", metadata={"tags": ["injected-parameters"]}),
        nbformat.v4.new_code_cell("look()", id="look", outputs=[output]),
        nbformat.v4.new_code_cell("same()", id="same"),
    ]
    return notebook_bytes(made)


def test_two_runs_are_compared_by_verdict_figures_and_cells(
    database: Database, settings: Settings
) -> None:
    store = open_store(settings)
    a = file_run(
        database, store, notebook=notebook(7, "few"), results={"n": 4, "same": 1, "old": 1},
        parameters={"days": 7},
    )  # fmt: skip
    b = file_run(
        database, store, notebook=notebook(8, "many"), verdict="critical", parameters={"days": 8},
        results={"n": 6, "same": 1, "new": {"x": 2}},
    )  # fmt: skip
    found = compare(store, find_entry(database, a), find_entry(database, b))
    assert [(each.name, each.a, each.b) for each in found.answer] == [("verdict", "ok", "critical")]
    assert [(each.name, each.a, each.b, each.percent) for each in found.figures] == [
        ("n", 4, 6, 50.0), ("old", 1, None, None), ("new.x", None, 2, None)
    ]  # fmt: skip
    assert [(each.name, each.a, each.b) for each in found.parameters] == [("days", 7, 8)]
    cells = [(cell.cell, cell.what) for cell in found.cells or ()]
    assert cells == [("the run's parameters", "source"), ("look", "output")]
    assert (found.cells or [])[1].lines[-3:] == ["-few", "+many", " same"]
    assert compare(store, find_entry(database, a), find_entry(database, a)).same
    store.remove(find_entry(database, b)["archive_notebook"])
    gone = compare(store, find_entry(database, a), find_entry(database, b))
    assert gone.cells is None
    assert "holds no" in str(gone.missing)


def test_the_commands_search_compare_and_draw(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert settings.database_url is not None
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
    with database.connect() as connection:
        a = add_run(connection, results={"n": 4}, parameters={"days": 7}, started_at=at(1))
        b = add_run(connection, results={"n": 8}, started_at=at(2))

    def call(*arguments: str) -> Any:
        return CliRunner().invoke(archive_command, list(arguments), standalone_mode=False)

    found = call("list", "-r", "n>5", "--since", "2026-11-01", "--json")
    assert [run["run_id"] for run in json.loads(found.stdout)] == [b]
    assert [run["run_id"] for run in json.loads(call("list", "-p", "days=7", "--json").stdout)] == [
        a
    ]
    compared = call("diff", a, "review@latest", "--json")
    assert compared.return_value == 1
    assert json.loads(compared.stdout)["figures"][0] == {
        "name": "n",
        "a": 4,
        "b": 8,
        "percent": 100.0,
    }
    assert "+100 %" in call("diff", a, b).stdout
    chart = tmp_path / "chart.png"
    drawn = call("figure", "review", "n", "--chart", str(chart), "--json")
    assert [each["value"] for each in json.loads(drawn.stdout)] == [4, 8]
    assert chart.read_bytes().startswith(b"\x89PNG")
    assert isinstance(call("figure", "review", "nothing").exception, NotFoundError)
    assert json.loads(call("show", "review@latest", "--json").stdout)["entries"][0]["sequence"] == 2


def test_a_run_is_run_again_with_its_parameters_and_changed_ones(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert settings.database_url is not None
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("RUNBOOK_PROCEDURES", str(tmp_path / "procedures"))
    declared = (
        "from runbook_lib import parameter\n"
        'day = parameter("2026-01-01", kind="date", help="x")\n'
        'days = parameter(5, minimum=1, maximum=99, unit="days", help="x")'
    )
    write_procedure(tmp_path / "procedures", "fixture/again", "day, days", parameters=declared)
    earlier = file_run(
        database, procedure="fixture/again", parameters={"day": "2026-03-04", "days": 7}
    )

    def call(*arguments: str) -> Any:
        return CliRunner().invoke(run_command, list(arguments), standalone_mode=False)

    done = call("--like", earlier, "-p", "days=8", "--incident", "INC-9", "--json")
    assert done.exception is None, done.exception
    entry = find_entry(database, json.loads(done.stdout)["run_id"])
    assert (entry["parameters"], entry["incident"]) == ({"day": "2026-03-04", "days": 8}, "INC-9")
    assert entry["status"] == "succeeded"
    assert isinstance(call("other/one", "--like", earlier).exception, UsageError)
    assert call().return_value == UsageError.exit_code  # with the command's help
