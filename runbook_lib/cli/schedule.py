"""`runbook schedule`: what runs by itself, when, and the process that does it."""

from __future__ import annotations

import signal
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from runbook_lib.cli.output import (
    actor_option,
    current_actor,
    json_option,
    print_json,
    print_table,
)
from runbook_lib.cli.procedures import report, run_and_archive
from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL
from runbook_lib.scheduling.schedules import DIRECTORY, Schedule, Schedules, load_schedules
from runbook_lib.settings import load_settings

directory_option = click.option(
    "--directory", type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=DIRECTORY, help="Where the schedules are (default: schedules/ of the clone).",
)  # fmt: skip


@click.group()
def schedule() -> None:
    """Schedules: one YAML file each in schedules/."""


@schedule.command("list")
@directory_option
@json_option
def list_command(directory: Path, as_json: bool) -> None:
    """Lists the schedules with their next time, and what became of the last one."""
    from runbook_lib.database import open_database
    from runbook_lib.database.statements import load

    settings = load_settings()
    found = load_schedules(settings, directory)
    with open_database(settings) as database, database.transaction(read_only=True) as transaction:
        rows = transaction.rows(load("schedule_runs")["last_dealt_with"])
    last = {row.schedule_id: row for row in rows}
    entries = [_entry(each, last.get(each.id)) for each in found.schedules.values()]
    if as_json:
        print_json(entries)
        return
    shown = [
        (each["id"], each["cron"], each["timezone"], each["next"], each["last"], each["outcome"])
        for each in entries
    ]
    print_table(shown, ["schedule", "cron", "zone", "next (UTC)", "last (UTC)", "outcome"])
    _say_problems(found)


@schedule.command()
@directory_option
@json_option
def check(directory: Path, as_json: bool) -> int:
    """Checks every schedule and shows its next five times (UTC). Exit status 1 when one does not fit."""
    found = load_schedules(load_settings(), directory)
    now = datetime.now(UTC)
    answers: list[dict[str, Any]] = [
        {"id": each.id, "ok": True, "problem": None, "warnings": list(each.warnings),
         "next_times": each.next_times(now)}
        for each in found.schedules.values()
    ]  # fmt: skip
    answers += [
        {"id": name, "ok": False, "problem": problem, "warnings": [], "next_times": []}
        for name, problem in found.problems.items()
    ]
    if as_json:
        print_json(answers)
    for answer in () if as_json else answers:
        click.echo(f"{'ok     ' if answer['ok'] else 'REFUSED'} {answer['id']}")
        for line in [answer["problem"], *answer["warnings"]]:
            if line:
                click.echo(f"        {line}")
        for each in answer["next_times"]:
            click.echo(f"        {each:%a %Y-%m-%d %H:%M} UTC")
    return EXIT_NOT_WELL if found.problems else EXIT_DONE


@schedule.command()
@directory_option
@json_option
def start(directory: Path, as_json: bool) -> int:
    """Runs the schedules until SIGTERM or Ctrl-C.

    Asked to stop, it begins nothing new and lets runs end for a while; asked twice, it ends them at
    once. Any number of schedulers may run: each due time is dealt with once.
    """
    from runbook_lib.database import open_database
    from runbook_lib.scheduling.clock import Scheduler

    settings = load_settings()
    say = print_json if as_json else _say_event
    found = load_schedules(settings, directory)
    for name, problem in found.problems.items():
        say({"event": "quarantined", "schedule": name, "message": problem})
    stop, end_runs = _stop_events()
    with open_database(settings, "runbook schedule") as database:
        for each in found.schedules.values():
            times = each.next_times(datetime.now(UTC), 1)
            say({"event": "waits", "schedule": each.id, "due_at": times[0] if times else None})
        Scheduler(database, settings, found.schedules.values(), say).serve(stop, end_runs)
    return EXIT_DONE


@schedule.command("run-now")
@click.argument("schedule_id", metavar="SCHEDULE")
@directory_option
@actor_option
@json_option
def run_now(schedule_id: str, directory: Path, actor: str | None, as_json: bool) -> int:
    """Runs what SCHEDULE would run, with its parameters, now. Its due times stay as they are."""
    settings = load_settings()
    found = load_schedules(settings, directory).get(schedule_id)
    deadline = found.deadline_minutes
    answer = run_and_archive(
        found.procedure, dict(found.parameters), settings, actor=current_actor(actor),
        trigger="run-now", schedule_id=found.id,
        deadline_seconds=deadline * 60 if deadline else None,
    )  # fmt: skip
    return report(answer, as_json)


def _entry(found: Schedule, last: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    times = found.next_times(now, 1)
    return {
        "id": found.id,
        "procedure": found.procedure,
        "cron": found.cron,
        "timezone": found.timezone,
        "next": None if found.is_paused(now) or not times else times[0],
        "paused": found.paused_reason if found.is_paused(now) else None,
        "last": last.due_at.astimezone(UTC) if last else None,
        "outcome": last.outcome if last else None,
        "run_id": last.run_id if last else None,
    }


def _say_problems(found: Schedules) -> None:
    for name, problem in found.problems.items():
        click.echo(f"{name} is quarantined: {problem}", err=True)


def _say_event(event: dict[str, Any]) -> None:
    due = event.get("due_at")
    when = f" {due:%Y-%m-%d %H:%M} UTC" if due else ""
    rest = " ".join(str(event[name]) for name in ("verdict", "run_id", "message") if name in event)
    now = datetime.now(UTC)
    click.echo(f"{now:%H:%M:%S} {event['schedule']}: {event['event']}{when} {rest}".rstrip())


def _stop_events() -> tuple[threading.Event, threading.Event]:
    stop, end_runs = threading.Event(), threading.Event()

    def asked(*_: object) -> None:
        (end_runs if stop.is_set() else stop).set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, asked)
    return stop, end_runs
