"""Each due time is dealt with exactly once: run, or recorded as missed or skipped, by policy."""

from __future__ import annotations

import json
import os
import re
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

from runbook_lib.changes.actions import admin_action, allowed_changes
from runbook_lib.changes.catalogue import KIND_MODULES, OTHER_ACTIONS
from runbook_lib.cli.schedule import schedule as schedule_command
from runbook_lib.database import Database
from runbook_lib.errors import NotFoundError, PlanRefused, UsageError
from runbook_lib.health.context import open_context
from runbook_lib.health.survey import survey
from runbook_lib.processes import boot_id
from runbook_lib.scheduling import pauses
from runbook_lib.scheduling.clock import Scheduler
from runbook_lib.scheduling.decisions import decide
from runbook_lib.scheduling.ledger import Ledger
from runbook_lib.scheduling.schedules import Schedule, load_schedules
from runbook_lib.settings import PROJECT_DIRECTORY, Settings, load_settings
from runbook_lib.spool import open_spool

PATIENCE_SECONDS = 240


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
        ({"cron": '"0 25 * * *"'}, "hour '25'"),
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


def test_a_change_that_nothing_is_called_is_warned_of(directory: Path, settings: Settings) -> None:
    write(directory, "typed", allow_changes="[jobs.retyr, schedule.pause]")
    (warning,) = load_schedules(settings, directory).schedules["typed"].warnings
    assert "'jobs.retyr'" in warning
    assert "did you mean jobs.retry?" in warning


def test_every_action_that_is_recorded_can_be_allowed_by_name() -> None:
    sources = (PROJECT_DIRECTORY / "runbook_lib").rglob("*.py")
    named = {
        name
        for source in sources
        for name in re.findall(r'\baction="([\w.]+)"', source.read_text("utf-8"))
    }
    assert named - {*KIND_MODULES, *OTHER_ACTIONS} == set()


def test_an_unknown_schedule_is_named_with_the_nearest(directory: Path, settings: Settings) -> None:
    write(directory, "weekly_review")
    write(directory, "broken", cron="never")
    found = load_schedules(settings, directory)
    with pytest.raises(NotFoundError, match="did you mean weekly_review"):
        found.get("weekly_reviw")
    with pytest.raises(UsageError, match="quarantined"):
        found.get("broken")


# --- rules


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


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [("queue", ["missed", "started", "started"]), ("skip", ["missed", "missed", "started"])],
)
def test_what_waited_for_a_run_is_not_late_where_it_may_queue(
    overlap: str, expected: list[str]
) -> None:
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    due = [now - timedelta(minutes=age) for age in (30, 20, 10)]
    found = decide(quick(overlap=overlap), due, now, queued_since=now - timedelta(minutes=25))
    expected = ["started", *expected[1:]] if overlap == "queue" else expected
    assert [decision.outcome for decision in found] == expected


# --- dealing with due times


class Scene:
    """A scheduler over a directory of files, without its clock: it looks when it is told to."""

    def __init__(self, database: Database, settings: Settings, directory: Path) -> None:
        self.said: list[dict[str, Any]] = []
        self.scheduler = Scheduler(database, settings, self.said.append, directory)
        self.scheduler.read_files()

    def look(self, schedule_id: str = "quick") -> None:
        self.scheduler.look(schedule_id)

    def events(self) -> list[str]:
        return [event["event"] for event in self.said]


@pytest.fixture
def scene(database: Database, settings: Settings, directory: Path) -> Callable[..., Scene]:
    """Writes the file of `quick` and makes a scheduler that has read it.

    It came due five minutes ago, and each hour before that: not again while a test runs.
    """
    hourly = f"'{(datetime.now(UTC) - timedelta(minutes=5)).minute} * * * *'"

    def make(*, database: Database = database, **fields: str) -> Scene:
        write(directory, "quick", **{"cron": hourly, **fields})
        return Scene(database, settings, directory)

    return make


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


def run_goes_on(database: Database, schedule_id: str) -> None:
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO notebook_runs (procedure, actor, trigger, host, pid, boot_id, source_sha256, schedule_id, due_at) "
            "VALUES ('fixture/quick', 'x', 'schedule', %(host)s, %(pid)s, %(boot)s, '', %(id)s, now() - interval '11 min')",
            host=socket.gethostname(), pid=os.getpid(), boot=boot_id(), id=schedule_id,
        )  # fmt: skip


def test_two_schedulers_run_a_due_time_once_and_record_the_missed_ones(
    database: Database, scene: Callable[..., Scene]
) -> None:
    last_dealt_with(database, "quick", minutes_ago=150)
    scenes = [scene(), scene()]
    threads = [threading.Thread(target=each.look) for each in scenes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row.outcome for row in dealt_with(database)] == ["missed", "missed", "ran"]
    (run,) = runs(database)
    assert (run.status, run.verdict, run.schedule_id) == ("succeeded", "ok", "quick")
    assert run.due_at == dealt_with(database)[-1].due_at
    assert str(dealt_with(database)[-1].run_id) == str(run.run_id)
    assert (run.actor, run.trigger) == ("schedule quick", "schedule")
    assert {*scenes[0].events(), *scenes[1].events()} == {"waits", "missed", "begins", "ran"}


def test_a_schedule_that_is_seen_for_the_first_time_has_nothing_to_catch_up(
    database: Database, scene: Callable[..., Scene]
) -> None:
    scene().look()
    assert dealt_with(database) == []


@pytest.mark.parametrize(("overlap", "expected"), [("skip", {"overlapped"}), ("queue", set())])
def test_what_comes_due_while_a_run_goes_on_is_recorded_or_waits(
    database: Database, scene: Callable[..., Scene], overlap: str, expected: set[str]
) -> None:
    last_dealt_with(database, "quick", minutes_ago=30)
    run_goes_on(database, "quick")
    scene(overlap=overlap).look()
    assert {row.outcome for row in dealt_with(database)} == expected
    assert len(runs(database)) == 1


def test_a_refused_parameter_is_recorded_and_not_tried_again(
    database: Database, settings: Settings, scene: Callable[..., Scene]
) -> None:
    last_dealt_with(database, "quick", minutes_ago=30)
    found = scene(procedure="fixture/takes", parameters="{days: 3}")
    assert settings.runbook_procedures is not None
    write_procedure(settings.runbook_procedures, "fixture/takes", "hours", parameters="hours = 7")
    found.look()
    found.look()
    assert dealt_with(database)[-1].outcome == "refused"
    assert "days" in dealt_with(database)[-1].note
    assert [run.status for run in runs(database)] == ["refused"]


def test_a_due_time_whose_scheduler_vanished_is_settled_and_not_run_again(
    database: Database, scene: Callable[..., Scene]
) -> None:
    """By its run where it made one; a scheduler that lives settles its own."""
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO schedulers (scheduler, host, pid, boot_id, version, directory, heartbeat_at) "
            "VALUES ('gone', 'elsewhere', 1, '', '', '', now() - interval '1 hour'), "
            "('killed', %(host)s, 4194304, %(boot)s, '', '', now()), "
            "('alive', 'elsewhere', 1, '', '', '', now())",
            host=socket.gethostname(), boot=boot_id(),
        )  # fmt: skip
        transaction.run(
            "INSERT INTO schedule_runs (schedule_id, due_at, claimed_by, claimed_at) "
            "VALUES ('quick', now(), 'gone', now() - interval '1 hour'), ('other', now(), 'killed', now()), "
            "('unknown', now(), 'never seen', now() - interval '1 hour'), ('fresh', now(), 'alive', now())"
        )
        transaction.run(
            "INSERT INTO notebook_runs (procedure, status, actor, trigger, host, pid, source_sha256, ended_at, schedule_id, due_at) "
            "SELECT 'a/b', 'succeeded', 'x', 'schedule', 'h', 1, '', now(), 'other', due_at FROM schedule_runs WHERE schedule_id = 'other'"
        )
    found = scene()
    found.scheduler.tidy()
    outcomes = {row.schedule_id: row.outcome for row in dealt_with(database)}
    assert outcomes == {"quick": "failed", "other": "ran", "unknown": "failed", "fresh": "started"}
    assert found.events().count("abandoned") == 3


def test_without_a_database_what_only_reads_runs_unclaimed_and_is_filed_once_it_is_back(
    database: Database, settings: Settings, scene: Callable[..., Scene]
) -> None:
    away = scene(database=Database("postgresql://runbook:hidden-word@127.0.0.1:1/x"))
    away.scheduler._began_at = datetime.now(UTC) - timedelta(minutes=90)
    away.look()
    away.look()  # what was dealt with is not due again
    assert away.events() == ["waits", "unclaimed", "begins", "notice", "ran"]
    assert "hidden-word" not in json.dumps(away.said, default=str)
    last_dealt_with(database, "quick", minutes_ago=150)
    back = scene()
    back.scheduler.tidy()
    back.look()
    found = dealt_with(database)
    assert [(row.outcome, row.filed_late) for row in found] == [
        ("missed", False), ("missed", True), ("ran", True),
    ]  # fmt: skip
    assert [(run.status, run.filed_late) for run in runs(database)] == [("succeeded", True)]
    assert found[-1].run_id == runs(database)[0].run_id


def test_without_a_database_what_has_effects_waits(
    settings: Settings, scene: Callable[..., Scene]
) -> None:
    assert settings.runbook_procedures is not None
    write_procedure(settings.runbook_procedures, "fixture/changes", "1", changes="jobs")
    away = scene(procedure="fixture/changes", database=Database("postgresql://r:w@127.0.0.1:1/x"))
    away.scheduler._began_at = datetime.now(UTC) - timedelta(minutes=30)
    away.look()
    assert away.events() == ["waits", "problem"]
    assert "waits for the database" in away.said[-1]["message"]
    assert open_spool(settings).waiting() == []


def test_a_pause_by_hand_holds_for_every_scheduler_until_it_is_ended(
    database: Database, command: Callable[..., Any], scene: Callable[..., Scene], directory: Path
) -> None:
    found, there = scene(), ("--directory", str(directory))
    assert command("pause", "quick", "--reason", "the site moves", *there).exit_code == 0
    last_dealt_with(database, "quick", minutes_ago=30)
    found.look()
    assert {row.outcome for row in dealt_with(database)} == {"skipped"}
    assert "the site moves" in dealt_with(database)[0].note
    (listed,) = json.loads(command("list", "--json", *there).stdout)
    assert (listed["paused"], listed["next"]) == ("the site moves", None)
    assert "the site moves" in command("resume", "quick", *there).stdout
    assert json.loads(command("resume", "quick", "--json", *there).stdout)["ended"] is None
    with database.transaction() as transaction:
        actions = transaction.rows("SELECT action, outcome FROM admin_actions ORDER BY acted_at")
    assert [tuple(row) for row in actions] == [
        ("schedule.pause", "done"), ("schedule.resume", "done"), ("schedule.resume", "done"),
    ]  # fmt: skip


def test_a_pause_ends_by_itself_and_needs_a_reason_and_an_end_to_come(database: Database) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    pauses.pause(database, "quick", actor="ana", reason="r", until=soon)
    assert pauses.pauses(database)["quick"].until == soon
    with database.transaction() as transaction:
        transaction.run("UPDATE schedule_pauses SET until = now() - interval '1 minute'")
    assert Ledger(database, "here").pauses() == {}
    assert pauses.pauses(database) == {}
    with pytest.raises(UsageError, match="needs a reason"):
        pauses.pause(database, "quick", actor="ana", reason=" ")
    with pytest.raises(UsageError, match="which is over"):
        pauses.pause(database, "quick", actor="ana", reason="r", until=datetime(2020, 1, 1, tzinfo=UTC))  # fmt: skip


def test_files_that_change_while_it_runs_are_read_again(
    scene: Callable[..., Scene], directory: Path
) -> None:
    found = scene()
    assert not found.scheduler.read_files()
    write(directory, "second")
    write(directory, "third", cron="never")
    write(directory, "quick", cron='"*/20 * * * *"')
    assert found.scheduler.read_files()
    (directory / "second.yaml").unlink()
    write(directory, "quick", timezone="Mars/Olympus")
    found.scheduler.read_files()
    assert [(event["event"], event["schedule"]) for event in found.said] == [
        ("waits", "quick"), ("waits", "quick"), ("waits", "second"), ("quarantined", "third"),
        ("removed", "second"), ("quarantined", "quick"),
    ]  # fmt: skip
    found.look()  # quarantined: nothing happens


def test_a_run_by_schedule_changes_only_what_its_file_names(
    database: Database, settings: Settings, scene: Callable[..., Scene]
) -> None:
    assert settings.runbook_procedures is not None
    write_procedure(
        settings.runbook_procedures, "fixture/pauses",
        "from runbook_lib import open_workplace\nfrom runbook_lib.scheduling import pauses",
        "pauses.pause(open_workplace().database, 'other', actor='it', reason='r')",
        "pauses.resume(open_workplace().database, 'other', actor='it')",
        changes="pauses of schedules",
    )  # fmt: skip
    last_dealt_with(database, "quick", minutes_ago=30)
    scene(procedure="fixture/pauses", allow_changes="[schedule.pause]").look()
    assert runs(database)[0].status == "failed"
    assert "PlanRefused: schedule.resume was not done" in runs(database)[0].error
    with database.transaction() as transaction:
        actions = transaction.rows("SELECT action, outcome FROM admin_actions ORDER BY acted_at")
    assert [tuple(row) for row in actions] == [
        ("schedule.pause", "done"), ("schedule.resume", "refused"),
    ]  # fmt: skip


def test_nothing_named_means_that_nothing_may_be_changed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_ALLOWED_CHANGES", allowed_changes([]))
    load_settings.cache_clear()
    with (
        pytest.raises(PlanRefused, match=r"add jobs\.retry to allow_changes"),
        admin_action(database, actor="ana", action="jobs.retry"),
    ):
        pytest.fail("it must not begin")


# --- what others see of it


def answers(settings: Settings) -> dict[str, Any]:
    with open_context(settings) as context:
        found = survey(context, only=["scheduler"], deadline_seconds=30)
    return {check.name.split(".")[1]: check for check in found.checks}


def test_a_scheduler_that_is_gone_and_runs_that_are_absent_are_seen_from_outside(
    database: Database, settings: Settings, scene: Callable[..., Scene], directory: Path
) -> None:
    before = answers(settings)
    assert [check.verdict for check in before.values()] == [
        "not_enough_data",
        "not_enough_data",
        "ok",
    ]
    write(directory, "bad", cron="never")
    found = scene()
    found.scheduler._give_sign_of_life()
    now = answers(settings)
    assert [check.verdict for check in now.values()] == ["ok", "ok", "warning"]
    assert "bad: cron 'never'" in now["files"].message
    with database.transaction() as transaction:
        transaction.run("UPDATE schedulers SET heartbeat_at = now() - interval '10 minutes'")
        transaction.run("UPDATE schedules SET next_due_at = now() - interval '9 minutes'")
    then = answers(settings)
    assert [check.verdict for check in then.values()] == ["critical", "warning", "warning"]
    assert (then["absent_runs"].procedure, then["absent_runs"].value) == ("fixture/quick", 1)
    # Nobody dealt with it, so it stays absent when a scheduler reads the file again …
    scene().scheduler._give_sign_of_life()
    assert answers(settings)["absent_runs"].value == 1
    # … and is not absent while it is paused, nor once somebody dealt with it.
    pauses.pause(database, "quick", actor="ana", reason="r")
    assert answers(settings)["absent_runs"].value == 0
    pauses.resume(database, "quick", actor="ana")
    last_dealt_with(database, "quick", minutes_ago=1)
    assert answers(settings)["absent_runs"].value == 0
    found.scheduler._ledger.stopped()
    with database.transaction() as transaction:
        transaction.run("UPDATE schedulers SET stopped_at = now(), heartbeat_at = now()")
    assert answers(settings)["heartbeat"].verdict == "warning"


def test_a_time_that_was_missed_is_absent_until_the_next_one_ran(
    database: Database, settings: Settings, scene: Callable[..., Scene]
) -> None:
    scene(catch_up="none").scheduler._give_sign_of_life()
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO schedule_runs (schedule_id, due_at, claimed_by, outcome, note) "
            "VALUES ('quick', now() - interval '9 minutes', 'x', 'missed', 'No scheduler was there in time.')"
        )
    assert "No scheduler was there" in answers(settings)["absent_runs"].message
    last_dealt_with(database, "quick", minutes_ago=0)
    assert answers(settings)["absent_runs"].verdict == "ok"


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
    database: Database, settings: Settings, scene: Callable[..., Scene]
) -> None:
    assert settings.runbook_procedures is not None
    write_procedure(settings.runbook_procedures, "fixture/long", "import time; time.sleep(3600)")
    last_dealt_with(database, "quick", minutes_ago=30)
    stop, end_runs = threading.Event(), threading.Event()
    scheduler = scene(procedure="fixture/long").scheduler
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
    with database.transaction() as transaction:
        assert transaction.value("SELECT stopped_at FROM schedulers") is not None


def test_the_scheduler_process_runs_what_is_due_and_stops_when_asked(
    database: Database, settings: Settings, directory: Path
) -> None:
    minute = (datetime.now(UTC) - timedelta(minutes=5)).minute
    write(directory, "quick", cron=f"'{minute} * * * *'")
    write(directory, "bad", cron="never")
    last_dealt_with(database, "quick", minutes_ago=30)
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
    assert [event["event"] for event in events[:2]] == ["waits", "quarantined"]
    assert [event["event"] for event in events][-2:] == ["begins", "ran"]
