"""`runbook doctor`: what is wrong with the settings, the database, a key or the site, in words."""

from __future__ import annotations

import sys

import click

from runbook_lib.cli.output import MARKS, json_option, print_json
from runbook_lib.errors import CouldNotBeDone, UsageError
from runbook_lib.health.checks import Check
from runbook_lib.health.doctor import DEADLINE_SECONDS, PARTS, Examination, examine
from runbook_lib.health.probes.configuration import Configuration
from runbook_lib.settings import named_env_file

_TITLES = {
    "settings": "Settings",
    "database": "Database",
    "mapping": "Mapping of a pipeline that is not ours",
    "openai": "OpenAI",
    "wordpress": "WordPress",
}


@click.command()
@json_option
@click.option(
    "--propose-mapping",
    "mapping_file",
    metavar="FILE",
    help="Write a mapping for a pipeline that is not ours to FILE (- for standard output).",
)
@click.option(
    "--deadline-seconds",
    type=click.FloatRange(min=1),
    default=DEADLINE_SECONDS,
    show_default=True,
    help="After this time a part that hangs is given up.",
)
def doctor(as_json: bool, mapping_file: str | None, deadline_seconds: float) -> int:
    """Say in words what is wrong with the settings, the database, a key or the site.

    Changes nothing and costs nothing. Exit status: 0 well (warnings included), 1 something is critical,
    2 the settings do not fit.
    """
    configuration = Configuration.of_this_process(named_env_file())
    if mapping_file is not None:
        return _propose_mapping(configuration, mapping_file, as_json)
    examination = examine(configuration, deadline_seconds=deadline_seconds)
    if as_json:
        print_json(examination.as_dictionary())
    else:
        _print(examination)
    return examination.exit_status


def _print(examination: Examination) -> None:
    for part in PARTS:
        checks = examination.of_part(part)
        if not checks:
            continue
        click.secho(_TITLES[part], bold=True)
        for check in checks:
            _print_check(check)
    _print_summary(examination)


def _print_check(check: Check) -> None:
    shown = check.masked()
    mark, colour = MARKS[check.verdict]
    step = check.name.partition(".")[2].replace("_", " ")
    click.echo(f"  {click.style(mark.ljust(9), fg=colour)} {step.ljust(22)} {shown['message']}")
    if shown["does_not_prove"]:
        click.echo(f"{' ' * 35}Does not prove {shown['does_not_prove']}.")
    if shown["next"]:
        click.echo(f"{' ' * 35}→ {shown['next']}")


def _print_summary(examination: Examination) -> None:
    counts = {
        mark: sum(check.verdict == mark for check in examination.checks)
        for mark in ("critical", "warning")
    }
    if not any(counts.values()):
        click.echo(f"\nAll is well ({examination.seconds:g} s).")
        return
    warnings = f"{counts['warning']} warning{'s' if counts['warning'] != 1 else ''}"
    click.echo(f"\n{counts['critical']} critical, {warnings} ({examination.seconds:g} s).")


def _propose_mapping(configuration: Configuration, file: str, as_json: bool) -> int:
    from runbook_lib.database.connection import Database
    from runbook_lib.health.mapping import recognise
    from runbook_lib.health.mapping_file import as_toml

    url = configuration.value("DATABASE_URL")
    if url is None:
        raise UsageError(
            "A mapping is proposed for the database in DATABASE_URL, and that is not set."
        )
    database = Database(url, application_name="runbook doctor")
    with database.transaction(read_only=True) as transaction:
        proposal = recognise(transaction)
    if proposal is None:
        raise CouldNotBeDone(
            f"Nothing in {database.address} looks like a table of jobs: none that this role sees has a key, "
            "a status with words such as queued or failed, and a time of creation."
        )
    text = as_toml(proposal, database.address)
    _write(file, text)
    answer = {
        "file": file,
        "jobs": proposal.jobs.relation.title,
        "runs": proposal.runs.relation.title if proposal.runs else None,
        "working": proposal.working(),
        "missing": proposal.missing(),
        "undecided": [
            *proposal.jobs.undecided,
            *(proposal.runs.undecided if proposal.runs else ()),
        ],
    }
    if as_json:
        print_json(answer)
    elif file != "-":
        click.echo(
            f"{answer['jobs']} looks like the jobs, {answer['runs'] or 'nothing'} like the runs."
        )
        click.echo(
            f"{len(proposal.working())} of {len(proposal.working()) + len(proposal.missing())} statements would work."
        )
        for statement, absent in proposal.missing().items():
            click.echo(f"  Not: {statement} (lacks {', '.join(absent)})")
        click.echo(f"Read {file} and correct it before you use it.")
    return 0


def _write(file: str, text: str) -> None:
    if file == "-":
        sys.stdout.write(text)
        return
    try:
        with open(file, "x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError:
        raise UsageError(f"{file} exists already; name another file or move it away.") from None
    except OSError as error:
        raise CouldNotBeDone(f"{file} could not be written: {error.strerror}.") from None
