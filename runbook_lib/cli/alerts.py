"""`runbook alerts` and `runbook monitor`: what is wrong, who was told, and the process that tells."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import click

from runbook_lib.cli.output import (
    actor_option,
    json_option,
    print_json,
    print_table,
)
from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL, ConfigurationError, DatabaseUnreachable
from runbook_lib.settings import current_actor, load_settings

_PRINTING = threading.Lock()


@click.command()
@click.option("--once", is_flag=True, help="One survey and one round of sending; then end.")
@json_option
def monitor(once: bool, as_json: bool) -> int:
    """Surveys each minute and tells who has to be told, until SIGTERM or Ctrl-C.

    Any number may run, on any hosts: each alert is sent once. Goes on without the database. With
    --once the exit status is 1 when something is critical or a message did not arrive.
    """
    from runbook_lib.database import open_database
    from runbook_lib.health.monitor import Monitor
    from runbook_lib.policy import load_policy
    from runbook_lib.procedures.automation import Automation

    settings = load_settings()
    automation = Automation(load_policy(settings).automation)
    try:
        # A schema that is absent or of another version has to be said at once; being away has not.
        open_database(settings, "runbook monitor").close()
    except DatabaseUnreachable as error:
        click.echo(f"runbook: {error} Goes on without it.", err=True)
    running = Monitor(settings, _say_json if as_json else _say, automation.after_survey)
    if once:
        return running.once()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    return running.serve(stop)


@click.group()
def alerts() -> None:
    """Alerts: list, show, ack, test."""


@alerts.command("list")
@click.option("--all", "resolved", is_flag=True, help="Also those that ended in the last 7 days.")
@json_option
def list_command(resolved: bool, as_json: bool) -> int:
    """Lists what is open, the worst first. Exit status 1 when a message did not arrive."""
    from runbook_lib.health.alerts import list_alerts, undelivered
    from runbook_lib.health.alerts.messages import short_id
    from runbook_lib.health.context import open_context

    with open_context(load_settings()) as context:
        found = list_alerts(context, resolved=resolved)
        missing = undelivered(context)
    if as_json:
        print_json(found)
    elif found:
        print_table(
            [
                (short_id(each["alert_id"]), each["severity"], each["status"], each["level"],
                 each["since"], _delivered(each), each["cause"], (each["message"] or "")[:80])
                for each in found
            ],
            ["alert", "severity", "status", "level", "since (UTC)", "told", "cause", "message"],
        )  # fmt: skip
    else:
        click.echo("Nothing is open.")
    for row in missing:
        click.echo(
            f"{row['waiting'] + row['given_up']} messages did not arrive at {row['target']} "
            f"since {row['since']:%Y-%m-%d %H:%M}: {row['reason']}",
            err=True,
        )
    return EXIT_NOT_WELL if missing else EXIT_DONE


@alerts.command("show")
@click.argument("alert_id", metavar="ALERT")
@json_option
def show(alert_id: str, as_json: bool) -> None:
    """Shows one alert with everything that was sent of it. The beginning of its id is enough."""
    from runbook_lib.health.alerts import show_alert
    from runbook_lib.health.context import open_context

    with open_context(load_settings()) as context:
        found = show_alert(context, alert_id)
    if as_json:
        print_json(found)
        return
    for name in ("alert_id", "cause", "severity", "status", "level", "owner", "message", "since",
                 "opened_at", "seen_times", "acknowledged_by", "acknowledged_note", "resolved_at",
                 "resolution"):  # fmt: skip
        if found[name] is not None:
            click.echo(f"{name.replace('_', ' '):<18} {found[name]}")
    print_table(
        [(each["created_at"], each["kind"], each["target"], each["status"], each["attempts"],
          each["last_error"]) for each in found["deliveries"]],
        ["written (UTC)", "kind", "to", "status", "attempts", "last error"],
    )  # fmt: skip


@alerts.command("ack")
@click.argument("alert_ids", metavar="ALERT...", nargs=-1, required=True)
@click.option("--note", help="What is being done; whoever looks next reads it.")
@actor_option
@json_option
def ack(alert_ids: tuple[str, ...], note: str | None, actor: str | None, as_json: bool) -> None:
    """Says that you are at it: the level is not raised meanwhile. The beginning of an id is enough."""
    from runbook_lib.health.alerts import acknowledge
    from runbook_lib.health.context import open_context

    with open_context(load_settings()) as context:
        found = [
            acknowledge(context, each, actor=current_actor(actor), note=note) for each in alert_ids
        ]
    if as_json:
        print_json(found)
        return
    for each in found:
        click.echo(f"{each['cause']} is acknowledged by {each['acknowledged_by']}.")


@alerts.command("test")
@json_option
def test(as_json: bool) -> int:
    """Sends a message to every address of RUNBOOK_ALERT_URLS and says which arrived.

    Needs no database. Exit status 1 when one did not arrive.
    """
    from runbook_lib.health.alerts.targets import open_targets
    from runbook_lib.policy import load_policy

    settings = load_settings()
    deadline_seconds = load_policy(settings).alerting.delivery_deadline_seconds
    targets = open_targets(settings)
    if not targets:
        raise ConfigurationError(
            "RUNBOOK_ALERT_URLS is not set. Give it one or more addresses of apprise, such as "
            "mailto://… or slack://…, apart by white space."
        )
    with ThreadPoolExecutor(len(targets)) as pool:
        answers = list(pool.map(lambda each: _try(each, deadline_seconds), targets))
    if as_json:
        print_json(answers)
    else:
        for answer in answers:
            word = "arrived" if answer["arrived"] else "FAILED "
            reason = f"  {answer['reason']}" if answer["reason"] else ""
            click.echo(f"{word}  {answer['target']}  {answer['seconds']:.1f} s{reason}")
    return EXIT_DONE if all(answer["arrived"] for answer in answers) else EXIT_NOT_WELL


def _try(target: Any, deadline_seconds: float) -> dict[str, Any]:
    import socket

    from runbook_lib.health.alerts.sending import Message, Sending

    now = datetime.now(UTC)
    message = Message(
        "TEST: alerts of the runbook workbench",
        f"Sent from {socket.gethostname()} at {now:%Y-%m-%d %H:%M:%S} UTC with `runbook alerts test`. "
        "Nothing is wrong, and nothing has to be done.",
    )
    with Sending(target, deadline_seconds) as sending:
        sent = sending.send(message)
    return {"target": target.name, "from_level": target.from_level, "arrived": sent.arrived,
            "seconds": sent.seconds, "reason": sent.reason}  # fmt: skip


def _delivered(alert: dict[str, Any]) -> str:
    parts = [f"{alert['sent']} sent"]
    parts += [f"{alert[name]} {name}" for name in ("waiting", "failed") if alert[name]]
    return ", ".join(parts) if alert["announced_at"] else "held back"


def _say_json(event: dict[str, Any]) -> None:
    with _PRINTING:
        print_json({"time": datetime.now(UTC).isoformat(timespec="seconds"), **event})


def _say(event: dict[str, Any]) -> None:
    """One line for people."""
    rest = {name: value for name, value in event.items() if name != "event"}
    words = " ".join(f"{name}={_short(value)}" for name, value in rest.items())
    with _PRINTING:
        click.echo(f"{datetime.now(UTC):%H:%M:%S} {event['event']} {words}".rstrip())


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(_short(each) for each in value)
    if isinstance(value, dict):
        return "/".join(str(each) for each in value.values())
    return str(value)
