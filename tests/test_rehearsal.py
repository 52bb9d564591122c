"""Rehearsals: staged for real, told as an alert, compared with the truth, recorded."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fault_server import refused_port
from running_lab import Lab
from running_sandbox import RunningSandbox

from runbook_lib.database import Database
from runbook_lib.errors import NotFoundError
from runbook_lib.pipeline.failures import FAILURE_CLASSES
from runbook_lib.policy import Rehearsals
from runbook_lib.procedures import catalogue as procedures
from runbook_lib.rehearsal import practice, records
from runbook_lib.rehearsal.conduct import done_of, harm_in
from runbook_lib.rehearsal.home import KEPT, Home, State
from runbook_lib.rehearsal.known_proofs import known_proofs
from runbook_lib.rehearsal.outcome import Item, Outcome, Truth, compare
from runbook_lib.rehearsal.practice_cards import CARDS, HEALTHY_CARD, UNKNOWN_CARD
from runbook_lib.rehearsal.repertoire import HEALTHY, UNKNOWN, chosen, practices, surprise
from runbook_lib.settings import PROJECT_DIRECTORY, Settings, read_settings
from runbook_lib.triage.causes import BY_ID

# what can be practised


def test_every_fault_of_the_catalogue_can_be_practised_and_its_alert_gives_nothing_away() -> None:
    assert set(CARDS) == set(BY_ID)
    known = procedures.names(read_settings(None))
    assert {"quota", "login", "worker"} <= set(practices())
    for each in practices().values():
        card = each.card
        assert set(each.truth) <= set(BY_ID)
        for cause in each.truth:
            assert cause not in card.alert
            # Nor the title that triage would print.
            assert BY_ID[cause].title[:25] not in card.alert
        assert card.repaired
        assert card.then
        assert card.procedure in known
        assert set(card.may_end) <= set(FAILURE_CLASSES)
        assert chosen(each.name) == each
        assert chosen(" + ".join(each.truth)).truth == each.truth


def test_no_hint_names_a_cause_that_was_staged() -> None:
    for each in practices().values():
        hints = practice.hints_of(each)
        assert all(layer in hints[0] for layer in each.layers)
        assert not any(cause in " ".join(hints) for cause in each.truth)


def test_a_fault_that_is_not_there_is_refused_with_what_there_is() -> None:
    with pytest.raises(NotFoundError, match="runbook rehearse faults"):
        practice.begin("flood", actor="ana")


def test_a_surprise_is_anything_and_the_same_with_the_same_seed() -> None:
    drawn = [surprise(seed) for seed in range(400)]
    assert [each.name for each in drawn[:20]] == [surprise(seed).name for seed in range(20)]
    kinds = {
        kind: sum(each.kind == kind for each in drawn)
        for kind in ("fault", "compound", HEALTHY, UNKNOWN)
    }
    assert all(count > 5 for count in kinds.values()), kinds
    assert kinds["fault"] > 200
    for each in drawn:
        assert each.card in (HEALTHY_CARD, UNKNOWN_CARD) or set(each.truth) <= set(BY_ID)
        assert (each.kind == UNKNOWN) == (each.truth == (UNKNOWN,))
        assert practice.hints_of(each)


# where it happens


def test_a_practice_knows_nothing_of_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://real")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-real")
    home = Home(tmp_path)
    assert "DATABASE_URL" not in home.environment()
    home.write_settings(
        {"DATABASE_URL": "postgresql://staged"}, {"DATABASE_URL": "postgresql://true"}
    )
    environment = home.environment()
    assert environment["DATABASE_URL"] == "postgresql://staged"
    assert home.environment(KEPT)["DATABASE_URL"] == "postgresql://true"
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
        number, words = practice.hint()
        assert (number, words) == (1, "Look at the layer generate.")
        assert [practice.hint()[0] for _ in range(4)] == [2, 3, 3, 3]
        assert home.read().hints == 3
        assert practice.found("openai-slow").right is False
        with pytest.raises(NotFoundError, match="rehearse causes"):
            practice.found("flood")
    assert practice.under_way() is None


# what was done


def acted(action: str, target: str = "", **given: Any) -> Any:
    return SimpleNamespace(
        **{
            "action": action,
            "target": target,
            "outcome": "done",
            "before": None,
            "after": None,
            "changed": None,
            **given,
        }
    )


UNLIMITED = {"openai": {"concurrency": None}}


@pytest.mark.parametrize(
    ("action", "cause", "limits", "harmful"),
    [
        (acted("sweep", after={"swept": 2}), "openai-slow", UNLIMITED, True),
        (acted("sweep", after={"swept": 0}), "openai-slow", UNLIMITED, False),
        (acted("sweep", after={"swept": 2}), "worker-killed", UNLIMITED, False),
        (acted("jobs.sweep", changed=[{"key": "1"}]), "sweeper-too-eager", UNLIMITED, True),
        (acted("jobs.sweep", outcome="refused", changed=[{"key": "1"}]), "sweeper-too-eager", UNLIMITED, False),
        (acted("limits.set", "openai", after={"concurrency": 9}), "openai-rate-limited", {"openai": {"concurrency": 4}}, True),
        (acted("limits.set", "openai", after={"concurrency": None}), "openai-rate-limited", {"openai": {"concurrency": 4}}, True),
        (acted("limits.set", "openai", after={"concurrency": 4}), "openai-rate-limited", {"openai": {"concurrency": 4}}, False),
        (acted("limits.set", "openai", after={"concurrency": 2}), "openai-rate-limited", UNLIMITED, False),
        (acted("sessions.end", changed=[{"before": {"application": "runbook-worker"}}]), "database-table-locked", UNLIMITED, True),
        (acted("sessions.end", changed=[{"before": {"application": "a forgotten console"}}]), "database-table-locked", UNLIMITED, False),
        (acted("sessions.end_idle", changed=[{"before": {"application": "reports"}}]), "database-table-locked", UNLIMITED, True),
        (acted("sessions.end_idle", changed=[{"before": {"application": "reports"}}]), "database-connections-exhausted", UNLIMITED, False),
        (acted("sessions.end_idle"), "database-table-locked", UNLIMITED, False),
        (acted("test.openai"), "openai-quota-exhausted", UNLIMITED, True),
        (acted("secrets.activate"), "openai-slow", UNLIMITED, True),
        (acted("secrets.activate"), "openai-key-invalid", UNLIMITED, False),
        (acted("posts.trash", changed=[{"key": "1"}]), "wordpress-down", UNLIMITED, True),
        (acted("pause", "openai"), "openai-quota-exhausted", UNLIMITED, False),
    ],
)  # fmt: skip
def test_what_does_harm_in_the_situation_is_named_and_nothing_else(
    action: Any, cause: str, limits: dict[str, Any], harmful: bool
) -> None:
    harm = harm_in(done_of([action]), (cause,), limits)
    assert bool(harm) == harmful
    assert all(words.startswith(action.action) for words in harm)


@pytest.fixture
def staged(tmp_path: Path, database: Database, running_sandbox: RunningSandbox) -> Home:
    """A practice's folder over a system of which only the database and the site are there."""
    home = Home(tmp_path / "practice")
    home.directory.mkdir()
    home.write_settings({}, {"DATABASE_URL": database.url, "WORDPRESS_URL": running_sandbox.url})
    return home


TRUTH = Truth("quota", "fault", ("openai-quota-exhausted",), ("generate",), "troubleshooting/openai_errors", ())  # fmt: skip
LONG_AGO = "2026-01-01T00:00:00+00:00"


def ticks(outcome: Outcome) -> dict[str, bool]:
    return {item.name: item.passed for item in outcome.items}


def test_a_check_is_of_what_the_system_says_and_not_of_what_the_person_does(
    staged: Home, database: Database
) -> None:
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO content_jobs (topic, status, error_class) VALUES ('a', 'error', 'openai_overloaded'), ('b', 'pending', NULL)"
        )
        transaction.run(
            "INSERT INTO admin_actions (actor, action, target, outcome, after) VALUES ('ana', 'sweep', 'expired leases', 'done', '{\"swept\": 3}')"
        )
    named = State(
        "quota",
        found=["openai-quota-exhausted"],
        found_at=LONG_AGO,
        alerted_at=LONG_AGO,
        begun_at=LONG_AGO,
        jobs=3,
    )
    outcome = compare(staged, named, TRUTH, 0)
    assert ticks(outcome) == {
        "cause": True, "no harm": False, "repaired": False, "nothing is held up": False, "jobs flow": False,
        "none lost": False, "none doubled": True,
    }  # fmt: skip
    assert outcome.result == "failed"
    assert "3 jobs were taken back" in outcome.harm[0]
    words = {item.name: item.words for item in outcome.items}
    assert "jobs retry --where class=openai_overloaded" in words["none lost"]
    assert "1 are gone" in words["none lost"]


def test_who_names_one_cause_after_the_other_has_not_found_it(staged: Home) -> None:
    guesses = ["openai-slow", "openai-stalled", "dns-failure", "openai-quota-exhausted"]
    guessed = State("quota", found=guesses, found_at=LONG_AGO, alerted_at=LONG_AGO)
    assert ticks(compare(staged, guessed, TRUTH, 0))["cause"] is False
    guessed.found = guesses[1:]
    assert ticks(compare(staged, guessed, TRUTH, 0))["cause"] is True
    guessed.found, guessed.found_at = ["openai-slow"], None
    (said,) = [
        item.words for item in compare(staged, guessed, TRUTH, 0).items if item.name == "cause"
    ]
    assert "quota" not in said


def test_a_healthy_system_is_to_be_left_alone(staged: Home, database: Database) -> None:
    truth = Truth("backlog", HEALTHY, (HEALTHY,), (), "daily/health_check", ())
    state = State("backlog", found=[HEALTHY], found_at=LONG_AGO, alerted_at=LONG_AGO)
    assert compare(staged, state, truth, 0).passed
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO admin_actions (actor, action, target, outcome) VALUES ('ana', 'pause', 'openai', 'done')"
        )
    assert ticks(compare(staged, state, truth, 0))["left alone"] is False


# records


def outcome_of(*ran: str, passed: bool = True) -> Outcome:
    items = (Item("cause", True, ""), Item("jobs flow", passed, ""))
    truth = ("openai-quota-exhausted",)
    return Outcome(
        "quota", truth, truth, items, 3.0, 40.0, ("resume openai",), procedures=ran, hints=1
    )


def test_a_record_proves_the_procedures_that_were_run_in_a_practice_that_passed(
    database: Database,
) -> None:
    for actor, outcome in (
        ("ana", outcome_of("emergency/system_down", "troubleshooting/openai_errors")),
        ("bo", outcome_of("emergency/system_down")),
        ("cy", outcome_of("emergency/system_down", passed=False)),
        ("di", outcome_of()),
    ):
        records.record(database, outcome, procedure="troubleshooting/openai_errors", actor=actor, begun_at="2026-11-26T10:00:00+00:00")  # fmt: skip
    newest = records.newest(database)
    assert [row["actor"] for row in newest] == ["di", "cy", "bo", "ana"]
    assert [row["result"] for row in newest] == ["passed", "failed", "passed", "passed"]
    assert newest[-1]["procedures"] == ["emergency/system_down", "troubleshooting/openai_errors"]
    assert newest[-1]["hints"] == 1
    proven = records.last_proven(database)
    assert {name: row["actor"] for name, row in proven.items()} == {
        "emergency/system_down": "bo",
        "troubleshooting/openai_errors": "ana",
    }


def test_a_procedure_is_due_when_nobody_has_proven_it_for_long_and_the_policy_wants_it(
    database: Database,
) -> None:
    policy = Rehearsals(due_days=30, chapters=("emergency",))
    for days, name in (
        (10, "emergency/stuck_jobs"),
        (40, "emergency/system_down"),
        (400, "daily/health_check"),
    ):
        records.record(database, outcome_of(name), procedure=name, actor="ana", begun_at=LONG_AGO)
        with database.transaction() as transaction:
            transaction.run(
                "UPDATE rehearsals SET ended_at = now() - make_interval(days => %(days)s) WHERE procedure = %(name)s",
                days=days,
                name=name,
            )
    names = (
        "emergency/stuck_jobs",
        "emergency/system_down",
        "emergency/bad_content",
        "daily/health_check",
        "daily/failure_rate",
    )
    known = known_proofs(names, Settings(database_url=database.url))
    assert known["emergency/system_down"].standing == "proven"
    found = records.proofs(database, names, policy)
    assert [found[name].standing for name in names] == [
        "proven",
        "overdue",
        "never",
        "proven",
        "routine",
    ]
    assert [found[name].is_due for name in names] == [False, True, True, False, False]
    assert "by ana on a staged fault (quota)" in found["emergency/stuck_jobs"].words
    assert "overdue" in found["emergency/system_down"].brief


def test_what_is_proven_is_not_waited_for_where_no_database_answers(tmp_path: Path) -> None:
    assert known_proofs(["emergency/stuck_jobs"], Settings(runbook_home=tmp_path)) == {}
    away = Settings(
        runbook_home=tmp_path, database_url=f"postgresql://a:b@127.0.0.1:{refused_port()}/c"
    )
    assert known_proofs(["emergency/stuck_jobs"], away) == {}
    assert not (tmp_path / "postgres" / "data").exists()


# end to end


def rehearse(environment: dict[str, str], *words: str) -> tuple[int, Any]:
    answer = subprocess.run(
        [sys.executable, "-m", "runbook_lib.cli", "rehearse", *words],
        env=environment, cwd=PROJECT_DIRECTORY, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    last = (answer.stdout.strip().splitlines() or [""])[-1]
    return answer.returncode, json.loads(last) if last.startswith(
        ("{", "[")
    ) else answer.stdout + answer.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["quota", "login", "worker", "db-table-locked", "category", "no-worker", "quota+login"]
)
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
    chosen_one = chosen(name)
    status, begun = rehearse(environment, name, "--json")
    assert status == 0, begun
    try:
        assert begun["alert"]
        status, told = rehearse(environment, "do", "triage", "--json")
        assert (status, {each["id"] for each in told["causes"]}) == (1, set(chosen_one.truth))
        wrong = {"right": False, "complete": False, "repaired": None, "then": []}
        assert rehearse(environment, "found", "openai-slow", "--json") == (1, wrong)
        status, run = rehearse(
            environment, "do", "run", "emergency/system_down", "-p", "dry_run=false", "--json"
        )
        assert run["status"] == "succeeded"
        for cause in chosen_one.truth:
            assert rehearse(environment, "found", cause, "--json")[0] == 0
        for command in chosen_one.card.then:
            rehearse(environment, "do", *command.split())
        status, outcome = rehearse(environment, "end", "--actor", "ana", "--json")
        assert (status, outcome["passed"]) == (0, True), outcome
        assert Path(run["archive"]).exists()
    finally:
        if (left := practice.under_way()) is not None:
            practice.take_down(left)
        shutil.rmtree(Path(begun["home"]), ignore_errors=True)
    assert records.last_proven(database)["emergency/system_down"]["actor"] == "ana"


@pytest.mark.long
def test_the_notebooks_of_a_practice_are_stepped_through_in_jupyterlab_over_its_system(
    home: Path,
) -> None:
    """As an engineer does it: the lab of the practice, a kernel, and the cell that asks triage."""
    if practice.under_way() is not None:
        pytest.skip("somebody practises here")
    environment = {**os.environ, "RUNBOOK_HOME": str(home), "RUNBOOK_ENV_FILE": ""}
    status, begun = rehearse(environment, "quota", "--json")
    assert status == 0, begun
    command = [sys.executable, "-m", "runbook_lib.cli", "rehearse", "do", "lab", "--no-browser", "--port", "18889"]  # fmt: skip
    with subprocess.Popen(command, cwd=PROJECT_DIRECTORY, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # fmt: skip
        try:
            opened = Lab(Settings(runbook_home=Path(begun["home"])))
            notebook = json.loads(
                (PROJECT_DIRECTORY / "notebooks/emergency/system_down.ipynb").read_text()
            )
            cells = [each for each in notebook["cells"] if each["cell_type"] == "code"]
            source = "\n".join("".join(each["source"]) for each in cells[:3])
            shown = opened.execute("notebooks/emergency/system_down.ipynb", cells[0]["id"], source)
            assert "openai-quota-exhausted" in shown
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            if (left := practice.under_way()) is not None:
                practice.take_down(left)
            shutil.rmtree(Path(begun["home"]), ignore_errors=True)
