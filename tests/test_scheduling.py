"""Each due time is dealt with exactly once: run, or recorded as missed or skipped, by policy."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fixture_procedures import write_procedure

from runbook_lib.cli.schedule import schedule as schedule_command
from runbook_lib.database import Database
from runbook_lib.errors import NotFoundError, UsageError
from runbook_lib.processes import boot_id
from runbook_lib.scheduling.clock import Scheduler
from runbook_lib.scheduling.schedules import Schedule, load_schedules
from runbook_lib.settings import Settings

PATIENCE_SECONDS = 60


@pytest.fixture
def settings(database: Database, home: Path, tmp_path: Path) -> Settings:
    folder = tmp_path / "procedures"
    write_procedure(
        folder, "fixture/quick", "from runbook_lib import conclude; conclude(verdict='ok')"
    )
    write_procedure(folder, "fixture/takes", "days", parameters="days = 7")
    return Settings(database_url=database.url, runbook_home=home, runbook_procedures=folder)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "schedules").mkdir()
    return tmp_path / "schedules"


def write(directory: Path, name: str, text: str = "", **fields: str) -> None:
    given = {"id": name, "procedure": "fixture/quick", "cron": '"0 6 * * mon"', **fields}
    lines = "".join(f"{field}: {value}\n" for field, value in given.items() if value)
    (directory / f"{name}.yaml").write_text(text or lines)


def quick(**fields: Any) -> Schedule:
    return Schedule(
        **{"id": "quick", "procedure": "fixture/quick", "cron": "*/10 * * * *", **fields}
    )


# --- reading


def test_a_bad_file_harms_no_other(directory: Path, settings: Settings) -> None:
    """Ten files: seven run, three are reported."""
    for number in range(7):
        write(directory, f"good_{number}")
    write(directory, "malformed", "id: [unclosed")
    write(directory, "bad_zone", timezone="Mars/Olympus")
    write(directory, "no_notebook", procedure="weekly/nothing_here")
    found = load_schedules(settings, directory)
    assert sorted(found.schedules) == [f"good_{number}" for number in range(7)]
    assert sorted(found.problems) == ["bad_zone", "malformed", "no_notebook"]
    assert "Mars/Olympus" in found.problems["bad_zone"]
    assert "weekly/nothing_here" in found.problems["no_notebook"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cron": '"0 6 * * 1"'}, "name weekdays"),
        ({"cron": '"0 6 * *"'}, "five fields"),
        ({"cron": '"0 25 * * *"'}, "cron '0 25"),
        ({"cron": '"0 6 1 * mon"'}, "a day and a weekday"),
        ({"cron": '"0 6 31 2 *"'}, "never comes due"),
        ({"cron": ""}, "cron is missing"),
        ({"crom": '"0 6 * * *"'}, "did you mean cron"),
        ({"id": "other"}, "must be the file's name"),
        ({"catch_up": "twice"}, "once, each, none"),
        ({"overlap": "kill"}, "skip, queue"),
        ({"deadline_minutes": "0"}, "deadline_minutes"),
        ({"parameters": "{dais: 3}", "procedure": "fixture/takes"}, "did you mean days"),
        ({"parameters": "{days: many}", "procedure": "fixture/takes"}, "a whole number"),
        ({"procedure": "quick"}, "procedure must be fixture/quick"),
        ({"paused": "yes"}, "paused must be a mapping"),
        ({"paused": "{reason: r, until: soon}"}, "not a time"),
        ({"allow_changes": "everything"}, "a list of names"),
    ],
)
def test_a_schedule_that_does_not_fit_is_refused_in_words(
    directory: Path, settings: Settings, fields: dict[str, str], words: str
) -> None:
    write(directory, "one", **fields)
    assert words in load_schedules(settings, directory).problems["one"]


def test_a_key_that_stands_twice_is_refused(directory: Path, settings: Settings) -> None:
    write(directory, "one", "id: one\nid: one\nprocedure: fixture/quick\ncron: '0 6 * * *'\n")
    assert "stands twice" in load_schedules(settings, directory).problems["one"]


def test_local_hours_that_daylight_saving_time_touches_are_warned_of(
    directory: Path, settings: Settings
) -> None:
    write(directory, "night", cron='"30 2 * * *"', timezone="Europe/Berlin")
    write(directory, "day", cron='"30 6 * * *"', timezone="Europe/Berlin")
    found = load_schedules(settings, directory).schedules
    assert "daylight saving" in found["night"].warnings[0]
    assert found["day"].warnings == ()


def test_an_unknown_schedule_is_named_with_the_nearest(directory: Path, settings: Settings) -> None:
    write(directory, "weekly_review")
    write(directory, "broken", cron="never")
    found = load_schedules(settings, directory)
    with pytest.raises(NotFoundError, match="did you mean weekly_review"):
        found.get("weekly_reviw")
    with pytest.raises(UsageError, match="quarantined"):
        found.get("broken")


# --- rules


@pytest.mark.parametrize(
    "zone", ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]
)
def test_a_daily_schedule_comes_due_once_a_day_for_a_year(zone: str) -> None:
    daily = quick(cron="30 6 * * *", timezone=zone)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    due = list(daily.due_times(start, start + timedelta(days=365)))
    assert len(due) == 365
    assert due == sorted(set(due))


def test_due_times_do_not_depend_on_when_one_looks() -> None:
    """Looking at odd moments finds the same times as looking once."""
    often = quick(cron="*/7 * * * *", timezone="Europe/Berlin")
    start = datetime(2026, 10, 24, 20, tzinfo=UTC)
    end = start + timedelta(hours=30)
    at_once, bit_by_bit, moment = list(often.due_times(start, end)), [], start
    while moment < end:
        until = min(end, moment + timedelta(minutes=3, seconds=41))
        bit_by_bit += list(often.due_times(moment, until))
        moment = until
    assert bit_by_bit == at_once


def outcomes(schedule: Schedule, *ages_minutes: int) -> list[str]:
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    due = [now - timedelta(minutes=age) for age in ages_minutes]
    return [decision.outcome for decision in decide(schedule, due, now)]


@pytest.mark.parametrize(
    ("policy", "ages_minutes", "expected"),
    [
        ("once", (30, 20, 10), ["missed", "missed", "started"]),
        ("each", (30, 20, 10), ["started", "started", "started"]),
        ("none", (30, 20, 10), ["missed", "missed", "missed"]),
        ("none", (20, 10, 0), ["missed", "missed", "started"]),
        ("once", (), []),
    ],
)
def test_what_was_not_run_in_time_is_caught_up_by_the_policy(
    policy: str, ages_minutes: tuple[int, ...], expected: list[str]
) -> None:
    assert outcomes(quick(catch_up=policy), *ages_minutes) == expected


def test_a_pause_skips_until_it_ends() -> None:
    noon = datetime(2026, 11, 24, 12, tzinfo=UTC)
    paused = quick(paused_reason="site moves", paused_until=noon + timedelta(hours=1))
    assert outcomes(paused, 10, 0) == ["skipped", "skipped"]
    over = quick(paused_reason="site moved", paused_until=noon - timedelta(hours=1))
    assert outcomes(over, 0) == ["started"]
    assert outcomes(quick(paused_reason="for good"), 0) == ["skipped"]


# --- dealing with due times


def last_dealt_with(database: Database, schedule_id: str, minutes_ago: int) -> None:
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO schedule_runs (schedule_id, due_at, claimed_by, outcome) "
            "VALUES (%(id)s, now() - make_interval(mins => %(ago)s), 'earlier', 'ran')",
            id=schedule_id, ago=minutes_ago,
        )  # fmt: skip


def dealt_with(database: Database) -> list[Any]:
    with database.transaction(read_only=True) as transaction:
        return transaction.rows(
            "SELECT * FROM schedule_runs WHERE claimed_by <> 'earlier' ORDER BY due_at"
        )


def runs(database: Database) -> list[Any]:
    with database.transaction(read_only=True) as transaction:
        return transaction.rows("SELECT * FROM notebook_runs ORDER BY started_at")


def test_two_schedulers_run_a_due_time_once_and_record_the_missed_ones(
    database: Database, settings: Settings
) -> None:
    last_dealt_with(database, "quick", minutes_ago=35)
    said: list[dict[str, Any]] = []
    schedulers = [Scheduler(database, settings, [quick()], said.append) for _ in range(2)]
    threads = [threading.Thread(target=each.look, args=(quick(),)) for each in schedulers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row.outcome for row in dealt_with(database)] in (
        ["missed", "missed", "ran"],
        ["missed", "missed", "missed", "ran"],
    )
    (run,) = runs(database)
    assert (run.status, run.verdict, run.schedule_id) == ("succeeded", "ok", "quick")
    assert run.due_at == dealt_with(database)[-1].due_at
    assert str(dealt_with(database)[-1].run_id) == str(run.run_id)
    assert (run.actor, run.trigger) == ("schedule quick", "schedule")
    assert {event["event"] for event in said} == {"missed", "begins", "ran"}


def test_a_schedule_that_is_seen_for_the_first_time_has_nothing_to_catch_up(
    database: Database, settings: Settings
) -> None:
    Scheduler(database, settings, [quick()], print).look(quick())
    assert dealt_with(database) == []


@pytest.mark.parametrize(("overlap", "expected"), [("skip", ["skipped"]), ("queue", [])])
def test_what_comes_due_while_a_run_goes_on_is_skipped_or_waits(
    database: Database, settings: Settings, overlap: str, expected: list[str]
) -> None:
    last_dealt_with(database, "quick", minutes_ago=11)
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO notebook_runs (procedure, actor, trigger, host, pid, boot_id, source_sha256, schedule_id, due_at) "
            "VALUES ('fixture/quick', 'x', 'schedule', %(host)s, %(pid)s, %(boot)s, '', 'quick', now() - interval '11 min')",
            host=socket.gethostname(), pid=os.getpid(), boot=boot_id(),
        )  # fmt: skip
    going_on = quick(overlap=overlap)
    Scheduler(database, settings, [going_on], lambda event: None).look(going_on)
    found = {row.outcome for row in dealt_with(database)}
    assert found == set(expected)
    assert len(runs(database)) == 1


def test_a_refused_parameter_is_recorded_and_not_tried_again(
    database: Database, settings: Settings
) -> None:
    last_dealt_with(database, "quick", minutes_ago=11)
    changed = quick(procedure="fixture/takes", parameters={"dais": 3})
    scheduler = Scheduler(database, settings, [changed], lambda event: None)
    scheduler.look(changed)
    scheduler.look(changed)
    assert dealt_with(database)[-1].outcome == "refused"
    assert "did you mean days" in dealt_with(database)[-1].note
    assert [run.status for run in runs(database)] == ["refused"]


def test_a_due_time_whose_scheduler_vanished_is_settled_and_not_run_again(
    database: Database, settings: Settings
) -> None:
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO schedule_runs (schedule_id, due_at, claimed_by, claimed_at) "
            "VALUES ('quick', now(), 'gone', now() - interval '1 hour'), "
            "('other', now(), 'gone', now() - interval '1 hour'), ('fresh', now(), 'alive', now())"
        )
        transaction.run(
            "INSERT INTO notebook_runs (procedure, status, actor, trigger, host, pid, source_sha256, ended_at, schedule_id, due_at) "
            "SELECT 'a/b', 'succeeded', 'x', 'schedule', 'h', 1, '', now(), 'other', due_at FROM schedule_runs WHERE schedule_id = 'other'"
        )
    Scheduler(database, settings, [quick()], lambda event: None).look(quick())
    found = {row.schedule_id: row.outcome for row in dealt_with(database)}
    assert found == {"quick": "failed", "other": "ran", "fresh": "started"}


def test_a_database_that_is_away_is_said_and_looked_for_again(settings: Settings) -> None:
    said: list[dict[str, Any]] = []
    away = Database("postgresql://runbook:hidden-word@127.0.0.1:1/x")
    Scheduler(away, settings, [quick()], said.append).look(quick())
    assert [event["event"] for event in said] == ["problem"]
    assert "No connection" in said[0]["message"]
    assert "hidden-word" not in json.dumps(said, default=str)


# --- commands


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    assert settings.database_url is not None
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("RUNBOOK_PROCEDURES", str(settings.runbook_procedures))

    def call(*arguments: str) -> Any:
        return CliRunner().invoke(schedule_command, list(arguments), standalone_mode=False)

    return call


def test_the_projects_own_schedules_fit(command: Any) -> None:
    answer = command("check", "--json")
    assert answer.return_value == 0
    weekly = next(
        each for each in json.loads(answer.stdout) if each["id"] == "weekly_performance_review"
    )
    times = [datetime.fromisoformat(text) for text in weekly["next_times"]]
    assert [time.strftime("%a %H:%M") for time in times] == ["Mon 06:00"] * 5


def test_check_reports_each_file_and_fails_for_a_bad_one(command: Any, directory: Path) -> None:
    write(directory, "good")
    write(directory, "bad", cron='"0 6 * * 7"')
    answer = command("check", "--directory", str(directory), "--json")
    found = {
        each["id"]: (each["ok"], len(each["next_times"])) for each in json.loads(answer.stdout)
    }
    assert (answer.return_value, found) == (1, {"good": (True, 5), "bad": (False, 0)})


def test_list_says_what_comes_next_and_what_became_of_the_last(
    command: Any, directory: Path, database: Database
) -> None:
    write(directory, "good")
    write(directory, "resting", paused="{reason: moving}")
    last_dealt_with(database, "good", minutes_ago=60)
    found = {
        each["id"]: each
        for each in json.loads(command("list", "--directory", str(directory), "--json").stdout)
    }
    assert (found["good"]["outcome"], found["good"]["next"] is not None) == ("ran", True)
    assert (found["resting"]["paused"], found["resting"]["next"]) == ("moving", None)


def test_a_scheduler_that_is_asked_twice_ends_its_run_and_archives_it_as_killed(
    database: Database, settings: Settings
) -> None:
    assert settings.runbook_procedures is not None
    write_procedure(settings.runbook_procedures, "fixture/long", "import time; time.sleep(3600)")
    last_dealt_with(database, "quick", minutes_ago=11)
    stop, end_runs = threading.Event(), threading.Event()
    scheduler = Scheduler(database, settings, [quick(procedure="fixture/long")], lambda event: None)
    serving = threading.Thread(target=scheduler.serve, args=(stop, end_runs))
    serving.start()
    end = time.monotonic() + PATIENCE_SECONDS
    while not runs(database):
        assert time.monotonic() < end
        time.sleep(0.1)
    stop.set()
    serving.join(0.5)
    assert serving.is_alive()  # asked once: the run may end by itself
    end_runs.set()
    serving.join(PATIENCE_SECONDS)
    assert not serving.is_alive()
    assert [(run.status, run.error) for run in runs(database)] in (
        [("killed", "Cell 1 of 1: The run was stopped.")],
    )
    assert dealt_with(database)[-1].outcome == "failed"


def test_the_scheduler_process_runs_what_is_due_and_stops_when_asked(
    database: Database, settings: Settings, directory: Path
) -> None:
    write(directory, "quick", cron='"*/10 * * * *"')
    write(directory, "bad", cron="never")
    last_dealt_with(database, "quick", minutes_ago=11)
    environment = {
        **os.environ, "DATABASE_URL": database.url, "RUNBOOK_HOME": str(settings.runbook_home),
        "RUNBOOK_PROCEDURES": str(settings.runbook_procedures),
    }  # fmt: skip
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "runbook_lib.cli", "schedule", "start", "--json", "--directory", str(directory)],
        env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + PATIENCE_SECONDS
        while not any(row.outcome == "ran" for row in dealt_with(database)):
            assert time.monotonic() < end
            assert scheduler.poll() is None
            time.sleep(0.1)
    finally:
        scheduler.send_signal(signal.SIGTERM)
        output, _ = scheduler.communicate(timeout=PATIENCE_SECONDS)
    events = [json.loads(line) for line in output.splitlines()]
    assert scheduler.returncode == 0
    assert [event["event"] for event in events[:2]] == ["quarantined", "waits"]
    assert [event["event"] for event in events][-2:] == ["begins", "ran"]
