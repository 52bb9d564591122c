"""`runbook archive sign`, `export` and `prune`."""

from __future__ import annotations

from pathlib import Path

import click

from runbook_lib import changes
from runbook_lib.archive import anchors as places
from runbook_lib.archive import signing
from runbook_lib.archive.export import export as export_runs
from runbook_lib.archive.store import open_store
from runbook_lib.cli.changes import (
    execute_option,
    limit_option,
    reason_option,
    show_plan,
    show_result,
)
from runbook_lib.cli.output import (
    actor_option,
    json_option,
    print_json,
    print_table,
)
from runbook_lib.cli.progress import progress_bar
from runbook_lib.database import open_database
from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL
from runbook_lib.settings import current_actor, load_settings


@click.command()
@click.argument("run")
@click.option("--meaning", type=click.Choice(signing.MEANINGS), required=True)
@click.option("--note", help="What the reviewer says of it.")
@actor_option
@json_option
def sign(run: str, meaning: str, note: str | None, actor: str | None, as_json: bool) -> None:
    """Signs RUN as its reviewer: name, meaning and time become an entry of the chain."""
    settings = load_settings()
    with open_database(settings) as database:
        entry = signing.sign_off(
            database, open_store(settings), run,
            reviewer=current_actor(actor), meaning=meaning, note=note,
        )  # fmt: skip
    answer = {"entry": entry.sequence, "sha256": entry.sha256, **entry.record}
    if as_json:
        print_json(answer)
        return
    click.echo(f"{meaning} by {entry.record['reviewer']}: entry {entry.sequence}.")
    if entry.record["own_run"]:
        click.echo("It is the reviewer's own run; the entry says so.", err=True)


@click.command()
@click.argument("wanted", metavar="RUN|RANGE")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--anchor", "given", multiple=True, metavar="TEXT|FILE|git:FOLDER", help="An anchor to put into it and check it with.")  # fmt: skip
@actor_option
@json_option
def export(
    wanted: str, file: Path, given: tuple[str, ...], actor: str | None, as_json: bool
) -> int:
    """Writes runs into FILE, a zip for an auditor that is checked with python3 alone.

    RANGE is `all`, entries such as 3..17, or the days 2026-11-01..2026-11-30 in which they were entered.
    Exit status 1 when what is exported does not agree with its entries; it is exported all the same.
    """
    settings = load_settings()
    texts = [text for each in given for text in places.texts_of(each)]
    with open_database(settings) as database:
        found = export_runs(
            database, open_store(settings), wanted, file, actor=current_actor(actor), anchors=texts
        )
    if as_json:
        print_json(found.as_record())
    else:
        if found.findings:
            print_table([(each["entry"], each["kind"], each["detail"]) for each in found.findings], ["entry", "kind", "detail"])  # fmt: skip
        click.echo(f"{found.file}: {found.runs} runs, {len(found.findings)} findings.")
    return EXIT_NOT_WELL if found.findings else EXIT_DONE


@click.command()
@click.option("--procedure", help="Only runs of this procedure, chapter/name.")
@limit_option
@execute_option
@reason_option
@actor_option
@json_option
def prune(
    procedure: str | None,
    row_limit: int | None,
    execute: bool,
    reason: str | None,
    actor: str | None,
    as_json: bool,
) -> int:
    """Removes runs that policy keeps no longer ([retention] in RUNBOOK_CONFIG).

    Without --execute it only plans. Rows and objects go for good; entries stay, and so does who removed
    what.
    """
    name = current_actor(actor)
    with open_database(load_settings()) as database:
        plan = changes.plan(
            database, "archive.prune", {"procedure": procedure}, actor=name, row_limit=row_limit
        )
        if not execute or not plan.row_count:
            show_plan(plan, as_json)
            return EXIT_DONE
        with progress_bar("Removing", " runs") as progress:
            result = changes.apply(
                database, plan.change_id, actor=name, dry_run=False, reason=reason, progress=progress
            )  # fmt: skip
    return show_result(result, as_json)
