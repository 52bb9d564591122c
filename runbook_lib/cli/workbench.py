"""`runbook demo` and `runbook up`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runbook_lib.cli.output import json_option, print_json
from runbook_lib.settings import PROJECT_DIRECTORY

if TYPE_CHECKING:
    from runbook_lib.workbench.demo import Outcome

NEXT_COMMANDS = (
    ("jobs list", "every topic and its post"),
    ("archive list", "what ran, and what it found"),
    ("run weekly/performance_review", "the report once more"),
    ("up", "a worker, the scheduler and the sandbox's site, until Ctrl-C"),
)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the demo keeps its things (default: .runbook/demo of the clone).",
)
@click.option("--stay-up", is_flag=True, help="Then keep everything running until Ctrl-C.")
@json_option
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def demo(home: Path | None, stay_up: bool, as_json: bool, command: tuple[str, ...]) -> Any:
    """Publish the example topics into a sandbox, then run the weekly report and a health check.

    Uses an embedded database and a sandbox only, never your database, keys, site or `.env`.
    With COMMAND, runs that `runbook` command over the demo's things: `runbook demo jobs list`.
    """
    from runbook_lib.settings import current_actor
    from runbook_lib.workbench.demo import DEMO_HOME, Demo, enter_demo
    from runbook_lib.workbench.up import addresses, on_a_terminal
    from runbook_lib.workbench.up import stay_up as keep_up

    settings = enter_demo((home or DEMO_HOME).absolute())
    if command:
        from runbook_lib.cli import runbook

        return runbook.main(args=list(command), prog_name="runbook demo", standalone_mode=False)
    running = Demo(settings)
    with running.place() as (database, providers):
        outcome = running.publish_and_report(database, providers)
        if as_json:
            print_json({**asdict(outcome), "report": outcome.report, "health": outcome.health})
        else:
            for line in addresses(settings, database, providers):
                click.echo(line)
            _say_what_happened(outcome, f"demo --home {home}" if home else "demo")
        if stay_up and on_a_terminal():
            return keep_up(settings, current_actor(None))
    return outcome.exit_code


@click.command()
def up() -> Any:
    """Keep a worker and the scheduler running, with the database and the sandbox where they are used.

    Without a terminal, a worker takes one pass over the queue instead.
    """
    from runbook_lib.settings import current_actor, load_settings
    from runbook_lib.workbench.up import up as keep_up

    return keep_up(load_settings(), current_actor(None))


def _say_what_happened(outcome: Outcome, demo_command: str) -> None:
    runbook = f"{_shown(Path('.venv/bin/runbook'))} {demo_command}"
    click.echo("\n" + " ".join(_counts(outcome)))
    for post in outcome.posts:
        click.echo(f"  {post['topic']}  {post['post_url']}")
    click.echo(f"The weekly report (verdict: {outcome.report.get('verdict')}) is in the archive:")
    click.echo(f"  {outcome.report.get('archive')}")
    click.echo(f"So is a health check (verdict: {outcome.health.get('verdict')}):")
    click.echo(f"  {outcome.health.get('archive')}")
    click.echo("Look around, over the demo's things only:")
    for command, what in NEXT_COMMANDS:
        click.echo(f"  {runbook} {command:<31}{what}")


def _counts(outcome: Outcome) -> list[str]:
    """Sentences about what became of the topics."""
    sentences = [f"{outcome.published} topics are published in the sandbox."]
    if kept := outcome.completed - outcome.published:
        sentences.append(f"{kept} are drafts or in review there, as they ask for.")
    if outcome.duplicates:
        sentences.append(f"{outcome.duplicates} of all were here before this run.")
    if outcome.error or outcome.waiting:
        sentences.append(
            f"{outcome.error} ended in error, {outcome.waiting} wait: look with `jobs list`."
        )
    return sentences


def _shown(path: Path) -> str:
    return str(path if (PROJECT_DIRECTORY / path).exists() else Path("runbook"))
