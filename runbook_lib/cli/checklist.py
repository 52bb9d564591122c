"""`runbook checklist`: how a checklist stands, and a person's ticks."""

from __future__ import annotations

from typing import Any

import click

from runbook_lib.cli.output import actor_option, json_option, print_json, print_table
from runbook_lib.database import open_database
from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL
from runbook_lib.maintenance import checklists
from runbook_lib.settings import current_actor, load_settings

_NAMES = click.Choice(list(checklists.checklists()))
_subject_option = click.option(
    "--for", "subject", help="The version or month that it counts for (default: this one)."
)


@click.group()
def checklist() -> None:
    """Checklists before and after a release and each month: show, tick, untick."""


@checklist.command()
@click.argument("name", type=_NAMES)
@_subject_option
@click.option("--ask-index", is_flag=True, help="Ask the package index what is behind.")
@json_option
def show(name: str, subject: str | None, ask_index: bool, as_json: bool) -> int:
    """How each item of NAME stands. Exit status 1 while it blocks a release."""
    from runbook_lib.health.sources import open_sources
    from runbook_lib.maintenance.checklist_review import checklist as review

    with open_sources(load_settings(), "runbook checklist") as sources:
        found = review(sources, name, subject=subject, ask_index=ask_index)
    if as_json:
        print_json({"verdict": found.verdict, "message": found.check.message, **found.results()})
    else:
        print_table([_row(each) for each in found.states], ["item", "state", "says", "because"])
        click.echo(found.check.message)
        if ask_index:
            click.echo(repr(found.dependencies))
    return EXIT_NOT_WELL if found.verdict == "critical" else EXIT_DONE


@checklist.command()
@click.argument("name", type=_NAMES)
@click.argument("item")
@click.option("--note", required=True, help="What was looked at, and what was seen.")
@_subject_option
@actor_option
def tick(name: str, item: str, note: str, subject: str | None, actor: str | None) -> None:
    """Ticks ITEM of NAME, with your name and a note."""
    _say(name, item, note, subject, actor, ticked=True)


@checklist.command()
@click.argument("name", type=_NAMES)
@click.argument("item")
@click.option("--note", required=True, help="Why it is taken back.")
@_subject_option
@actor_option
def untick(name: str, item: str, note: str, subject: str | None, actor: str | None) -> None:
    """Takes a tick back; that it was there stays on record."""
    _say(name, item, note, subject, actor, ticked=False)


def _say(
    name: str, item: str, note: str, subject: str | None, actor: str | None, *, ticked: bool
) -> None:
    with open_database(load_settings(), "runbook checklist") as database:
        chosen = checklists.tick(
            database, name, item, actor=current_actor(actor), note=note, subject=subject, ticked=ticked
        )  # fmt: skip
    click.echo(f"{item} of {name} is {'ticked' if ticked else 'open again'} for {chosen}.")


def _row(each: Any) -> tuple[str, str, str, str]:
    return each.item.id, each.state, each.item.says, each.words
