"""`runbook archive verify` and `anchor`: what an auditor asks of the archive."""

from __future__ import annotations

from pathlib import Path

import click

from runbook_lib.archive import anchors as places
from runbook_lib.archive import chain
from runbook_lib.archive.store import open_store
from runbook_lib.archive.verification import verify_archive
from runbook_lib.cli.output import (
    actor_option,
    json_option,
    print_json,
    print_table,
)
from runbook_lib.database import open_database
from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL
from runbook_lib.settings import current_actor, load_settings


@click.command()
@click.option("--anchor", "given", multiple=True, metavar="TEXT|FILE|git:FOLDER", help="An anchor taken earlier; repeat it for several.")  # fmt: skip
@json_option
def verify(given: tuple[str, ...], as_json: bool) -> int:
    """Checks rows against objects against the chain, and names what does not agree.

    Without an anchor it cannot see that the tail was cut off everywhere, or that all was rewritten to
    fit. Exit status 1 when there are findings.
    """
    settings = load_settings()
    texts = [text for each in given for text in places.texts_of(each)]
    with open_database(settings) as database:
        found = verify_archive(database, open_store(settings), settings, anchors=texts)
    if as_json:
        print_json(found.as_record())
        return EXIT_NOT_WELL if found.findings else EXIT_DONE
    if found.findings:
        print_table(
            [(each["entry"], each["kind"], each["detail"]) for each in found.findings],
            ["entry", "kind", "detail"],
        )
    click.echo(f"{found.entries} entries, {len(found.findings)} findings.")
    if found.not_beside:
        click.echo(f"{found.not_beside} entries do not stand beside the objects yet; the next run writes them.")  # fmt: skip
    for name, count in found.other_chains.items():
        click.echo(f"{count} objects are of chain {name}, which another database keeps.")
    if not found.anchors:
        click.echo("No anchor was given: a tail that was cut off everywhere would not be seen.")
    return EXIT_NOT_WELL if found.findings else EXIT_DONE


@click.command()
@click.option("--file", "path", type=click.Path(path_type=Path), help="Add the anchor to this file.")  # fmt: skip
@click.option("--git-tag", "tag", type=click.Path(path_type=Path, file_okay=False), help="Make a tag in this checkout; push it.")  # fmt: skip
@click.option("--git-note", "note", type=click.Path(path_type=Path, file_okay=False), help="Make a note at this checkout's commit; push it.")  # fmt: skip
@actor_option
@json_option
def anchor(
    path: Path | None, tag: Path | None, note: Path | None, actor: str | None, as_json: bool
) -> None:
    """Prints the chain's end as one line, and puts it where you say, outside of the archive.

    Whoever can change the archive must not be able to change that place. Keep the line from a mail or
    an alert as well: `runbook archive verify --anchor` takes any text that holds it.
    """
    settings = load_settings()
    with open_database(settings) as database:
        head = chain.head(database)
        kept = []
        if path is not None:
            places.put_in_file(head, path)
            kept.append(f"the file {path}")
        if tag is not None:
            kept.append(f"the git tag {places.put_in_git_tag(head, tag)}")
        if note is not None:
            kept.append(f"the git note {places.put_in_git_note(head, note)}")
        for place in kept:
            places.record_anchor(database, head, current_actor(actor), place)
        if kept:
            chain.copy_entries(database, open_store(settings))
    if as_json:
        print_json({**chain.head_as_record(head), "places": kept})
    else:
        click.echo(head.as_text())
        for place in kept:
            click.echo(f"put into {place}", err=True)
