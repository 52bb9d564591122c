"""`runbook backup`: is there one, is it young, and can it be used?"""

from __future__ import annotations

from datetime import datetime

import click

from runbook_lib.cli.output import json_option, print_json
from runbook_lib.errors import EXIT_COULD_NOT_BE_DONE, EXIT_DONE, EXIT_NOT_WELL
from runbook_lib.settings import load_settings


@click.group()
def backup() -> None:
    """Backups of the database, and the archive."""


@backup.command()
@click.option("--restore/--no-restore", default=True, show_default=True, help="Restore a dump into a server of its own and compare.")  # fmt: skip
@click.option("--newest", is_flag=True, help="Restore the newest dump of RUNBOOK_BACKUPS, not one made now.")  # fmt: skip
@click.option("--maximum-age-hours", type=click.FloatRange(1), default=26, show_default=True)
@click.option("--deadline-minutes", type=click.FloatRange(1), default=30, show_default=True)
@click.option("--seen-on", type=click.DateTime(["%Y-%m-%d"]), help="A person saw a hosted backup of this day.")  # fmt: skip
@click.option("--seen-by", default="", help="Who that was.")
@json_option
def check(
    restore: bool,
    newest: bool,
    maximum_age_hours: float,
    deadline_minutes: float,
    seen_on: datetime | None,
    seen_by: str,
    as_json: bool,
) -> int:
    """Look at the newest backup, restore a dump beside and compare, verify the archive.

    The database is only read; the copy is always removed. Exit status: 0 well, 1 not well or not known,
    3 nothing could be asked.
    """
    from runbook_lib.health.sources import open_sources
    from runbook_lib.maintenance.backup_review import backup_review

    with open_sources(load_settings(), "runbook backup") as sources:
        found = backup_review(
            sources,
            maximum_age_hours=maximum_age_hours,
            restore=restore,
            restore_newest=newest,
            seen_on=seen_on.date() if seen_on else None,
            seen_by=seen_by,
            deadline_minutes=deadline_minutes,
        )
    if as_json:
        print_json({"verdict": found.verdict, "checks": [each.masked() for each in (found.newest, found.restore, found.archive)], **found.results()})  # fmt: skip
    else:
        click.echo(repr(found))
        click.echo(repr(found.tables))
    if found.verdict == "ok":
        return EXIT_DONE
    return EXIT_NOT_WELL if found.check.answered else EXIT_COULD_NOT_BE_DONE
