"""Rehearsals: staged for real, told as an alert, compared with the truth, recorded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.database import Database
from runbook_lib.errors import NotFoundError
from runbook_lib.rehearsal import practice, records
from runbook_lib.rehearsal.catalogue import ALIASES, BY_NAME, CATALOGUE, COMPOUNDS, PRACTICES
from runbook_lib.rehearsal.home import Home, State
from runbook_lib.rehearsal.keeper import practice_environment
from runbook_lib.rehearsal.practice import Item, Outcome
from runbook_lib.settings import PROJECT_DIRECTORY
from runbook_lib.triage.causes import BY_ID


def test_every_fault_names_causes_of_the_catalogue_and_every_practice_tells_an_alert() -> None:
    assert {"quota", "login", "worker"} <= set(PRACTICES)
    for fault in (*CATALOGUE, *COMPOUNDS):
        assert fault.truth
        assert set(fault.truth) <= set(BY_ID)
    for name in PRACTICES:
        fault = BY_NAME[name]
        # The alert gives nothing away.
        assert not any(cause in fault.alert for cause in fault.truth)
        assert fault.repaired
        assert fault.then
    assert {practice.fault_named(alias).name for alias in ALIASES} <= set(PRACTICES)
    with pytest.raises(NotFoundError, match="quota, login, worker"):
        practice.fault_named("flood")


def test_a_practice_knows_nothing_of_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://real")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-real")
    environment = practice_environment(Home(tmp_path))
    assert "DATABASE_URL" not in environment
    assert "OPENAI_API_KEY" not in environment
    assert environment["RUNBOOK_HOME"] == str(tmp_path)


def test_a_practice_is_under_way_for_as_long_as_its_keeper_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runbook_lib.rehearsal.home.HOMES", tmp_path)
    home = Home.make("quota")
    home.write(State("quota"))
    assert practice.under_way() is None
    with home.kept():
        current = practice.under_way()
        assert current is not None
        assert current.directory == home.directory
        assert home.change(found=["openai-slow"]).found == ["openai-slow"]
        assert home.read().found == ["openai-slow"]
    assert practice.under_way() is None


def test_a_record_shows_when_each_procedure_was_last_proven(database: Database) -> None:
    ticks = (Item("cause", True, ""), Item("jobs flow", True, ""))
    outcome = Outcome(
        "quota",
        ("openai-quota-exhausted",),
        ("openai-quota-exhausted",),
        ticks,
        3.0,
        40.0,
        ("resume openai",),
    )
    for actor, result in (("ana", "passed"), ("bo", "failed")):
        records.record(
            database, outcome, result, procedure="emergency/system_down", actor=actor, begun_at="2026-11-26T10:00:00+00:00"
        )  # fmt: skip
    assert [row["actor"] for row in records.newest(database)] == ["bo", "ana"]
    (proven,) = records.last_proven(database).values()
    assert (proven["procedure"], proven["actor"], proven["fault"]) == (
        "emergency/system_down",
        "ana",
        "quota",
    )


def rehearse(environment: dict[str, str], *words: str) -> tuple[int, Any]:
    answer = subprocess.run(
        [sys.executable, "-m", "runbook_lib.cli", "rehearse", *words],
        env=environment, cwd=PROJECT_DIRECTORY, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    last = (answer.stdout.strip().splitlines() or [""])[-1]
    return answer.returncode, json.loads(last) if last.startswith(
        ("{", "[")
    ) else answer.stdout + answer.stderr


@pytest.mark.long
@pytest.mark.parametrize("name", PRACTICES)
def test_a_newcomer_goes_from_the_alert_to_the_record(
    name: str, database: Database, home: Path
) -> None:
    if practice.under_way() is not None:
        pytest.skip("somebody practises here")
    environment = {
        **os.environ,
        "DATABASE_URL": database.url,
        "RUNBOOK_HOME": str(home),
        "RUNBOOK_ENV_FILE": "",
    }
    fault = BY_NAME[name]
    _, begun = rehearse(environment, name, "--json")
    try:
        assert begun["alert"] == fault.alert
        status, told = rehearse(environment, "do", "triage", "--json")
        assert (status, [each["id"] for each in told["causes"]]) == (1, list(fault.truth))
        assert rehearse(environment, "found", "openai-slow", "--json") == (
            1,
            {"right": False, "repaired": None},
        )
        status, run = rehearse(
            environment, "do", "run", "emergency/system_down", "-p", "dry_run=false", "--json"
        )
        assert run["status"] == "succeeded"
        assert rehearse(environment, "found", fault.truth[0], "--json")[0] == 0
        for command in fault.then:
            rehearse(environment, "do", *command.split())
        status, outcome = rehearse(environment, "end", "--actor", "ana", "--json")
        assert (status, outcome["passed"]) == (0, True), outcome
        assert Path(run["archive"]).exists()
    finally:
        if (left := practice.under_way()) is not None:
            practice.take_down(left)
        shutil.rmtree(Path(begun["home"]), ignore_errors=True)
    assert records.last_proven(database)["emergency/system_down"]["actor"] == "ana"
