"""`runbook spool`: what was recorded while the database was away."""

from __future__ import annotations

import click

from runbook_lib.cli.output import json_option, print_json, print_table
from runbook_lib.errors import EXIT_COULD_NOT_BE_DONE, EXIT_DONE, EXIT_NOT_WELL
from runbook_lib.settings import load_settings
from runbook_lib.spool import open_spool


@click.group()
def spool() -> None:
    """Records that were kept in files while the database was away."""


@spool.command("list")
@json_option
def list_command(as_json: bool) -> int:
    """Lists what waits, and what was set aside because it does not fit. Exit status 1 for the latter."""
    found = open_spool(load_settings())
    waiting, set_aside = found.waiting(), found.set_aside()
    if as_json:
        print_json({"waiting": waiting, "set_aside": set_aside, "directory": found.directory})
    else:
        rows = [(name, "waits") for name in waiting]
        print_table([*rows, *set_aside.items()], ["entry", "state"])
    return EXIT_NOT_WELL if set_aside else EXIT_DONE


@spool.command("file")
@click.option("--again", is_flag=True, help="Try what was set aside once more, too.")
@json_option
def file_command(again: bool, as_json: bool) -> int:
    """Files what waits now. Runs, schedulers and monitors do so by themselves.

    Exit status: 0 filed, 1 something does not fit, 3 the database is away.
    """
    from runbook_lib.database import open_database

    settings = load_settings()
    found = open_spool(settings)
    if again:
        found.give_back()
    with open_database(settings, "runbook spool") as database:
        filed = found.file(database)
    if as_json:
        print_json({"filed": len(filed.entries), "set_aside": filed.quarantined,
                    "problem": filed.problem})  # fmt: skip
    for line in () if as_json else filed.words or ["Nothing waits."]:
        click.echo(line)
    if filed.problem:
        return EXIT_COULD_NOT_BE_DONE
    return EXIT_NOT_WELL if filed.quarantined else EXIT_DONE
