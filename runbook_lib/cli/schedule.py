"""`runbook schedule`: what runs by itself, when, and the process that does it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from runbook_lib.cli.output import (
    actor_option,
    json_option,
    print_json,
    print_table,
)
from runbook_lib.cli.procedures import report, run_and_archive
from runbook_lib.credentials.masking import one_line
from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL
from runbook_lib.pipeline.moments import moment
from runbook_lib.scheduling.schedules import DIRECTORY, Schedule, Schedules, load_schedules
from runbook_lib.settings import Settings, current_actor, load_settings

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
    settings = load_settings()
    found = load_schedules(settings, directory)
    last, paused, away = _from_database(settings)
    entries = [
        _entry(each, last.get(each.id), paused.get(each.id)) for each in found.schedules.values()
    ]
    if as_json:
        print_json(entries)
    else:
        shown = [
            (each["id"], each["cron"], each["timezone"], each["next"], each["last"], each["outcome"],
             each["paused"])
            for each in entries
        ]  # fmt: skip
        print_table(shown, ["schedule", "cron", "zone", "next (UTC)", "last (UTC)", "outcome", "paused"])  # fmt: skip
    _say_problems(found)
    if away:
        click.echo(f"What became of the last ones is not known now: {away}", err=True)


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
    once. Any number of schedulers may run: each due time is dealt with once. Files that change are read
    again. While the database is away, procedures that only read run unclaimed.
    """
    from runbook_lib.database import open_database, open_reachable_or_not
    from runbook_lib.scheduling.clock import Scheduler

    settings = load_settings()
    stop, end_runs = _stop_events()
    # An embedded server that does not come up is not tried again within a process: better end and be restarted.
    opened = open_reachable_or_not if settings.database_url is not None else open_database
    with opened(settings, "runbook schedule") as database:
        say = print_json if as_json else _say_event
        Scheduler(database, settings, say, directory).serve(stop, end_runs)
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
        trigger="run-now", schedule_id=found.id, allow_changes=found.allow_changes,
        deadline_seconds=deadline * 60 if deadline else None,
    )  # fmt: skip
    return report(answer, as_json)


@schedule.command("pause")
@click.argument("schedule_id", metavar="SCHEDULE")
@click.option("--reason", required=True, help="Why, for whoever finds the pause.")
@click.option(
    "--until", help="When it ends: a time such as 2026-12-01T08:00 (UTC), or 2h, 3d from now."
)
@directory_option
@actor_option
@json_option
def pause_command(
    schedule_id: str, reason: str, until: str | None, directory: Path, actor: str | None, as_json: bool
) -> None:  # fmt: skip
    """Pauses SCHEDULE: what comes due is recorded as skipped, for all schedulers. No file changes."""
    from runbook_lib.database import open_reachable_or_not
    from runbook_lib.scheduling.pauses import pause

    settings = load_settings()
    found = load_schedules(settings, directory).get(schedule_id)
    end = moment(until, datetime.now(UTC), direction=1) if until else None
    with open_reachable_or_not(settings) as database:
        paused = pause(database, found.id, actor=current_actor(actor), reason=reason, until=end)
    if as_json:
        print_json(vars(paused))
        return
    ends = f"until {paused.until:%Y-%m-%d %H:%M} UTC" if paused.until else "until it is resumed"
    click.echo(f"{found.id} is paused {ends}. To end it: runbook schedule resume {found.id}")


@schedule.command("resume")
@click.argument("schedule_id", metavar="SCHEDULE")
@directory_option
@actor_option
@json_option
def resume_command(schedule_id: str, directory: Path, actor: str | None, as_json: bool) -> int:
    """Ends the pause of SCHEDULE. Exit status 1 when its file still pauses it."""
    from runbook_lib.database import open_reachable_or_not
    from runbook_lib.scheduling.pauses import resume

    settings = load_settings()
    found = load_schedules(settings, directory).schedules.get(schedule_id)
    with open_reachable_or_not(settings) as database:
        ended = resume(database, schedule_id, actor=current_actor(actor))
    in_file = found is not None and found.is_paused(datetime.now(UTC))
    if as_json:
        print_json({"ended": vars(ended) if ended else None, "paused_in_file": in_file})
    else:
        said = f"was paused for: {ended.reason}" if ended else "was not paused by hand"
        click.echo(f"{schedule_id} {said}")
    if in_file and found is not None:
        click.echo(f"Its file still pauses it: {found.paused_reason}", err=True)
    return EXIT_NOT_WELL if in_file else EXIT_DONE


def _from_database(settings: Settings) -> tuple[Mapping[str, Any], Mapping[str, Any], str | None]:
    """What became of the last due times, the pauses by hand, and why neither is known."""
    from runbook_lib.database import open_reachable_or_not
    from runbook_lib.scheduling.ledger import last_dealt_with
    from runbook_lib.scheduling.pauses import pauses
    from runbook_lib.spool import UNWRITABLE

    try:
        with open_reachable_or_not(settings) as database:
            return last_dealt_with(database), pauses(database), None
    except UNWRITABLE as error:
        return {}, {}, one_line(str(error))


def _entry(found: Schedule, last: Any, by_hand: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    times = found.next_times(now, 1)
    paused = found.paused_reason if found.is_paused(now) else by_hand and by_hand.reason
    return {
        "id": found.id,
        "procedure": found.procedure,
        "cron": found.cron,
        "timezone": found.timezone,
        "next": None if paused or not times else times[0],
        "paused": paused,
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
