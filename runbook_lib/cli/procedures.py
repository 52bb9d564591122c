"""`runbook run` and `runbook procedures`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click

from runbook_lib.cli.handing_over import hand_over
from runbook_lib.cli.output import (
    actor_option,
    json_option,
    print_json,
    print_table,
)
from runbook_lib.errors import (
    EXIT_COULD_NOT_BE_DONE,
    EXIT_DONE,
    EXIT_NOT_WELL,
    RunbookError,
    UsageError,
)
from runbook_lib.procedures import catalogue
from runbook_lib.procedures.parameters import from_texts
from runbook_lib.settings import Settings, current_actor, load_settings


@click.command(add_help_option=False)
@click.argument("procedure", required=False)
@click.option("--like", metavar="RUN", help="Run again what RUN ran, with its parameters; -p changes some.")  # fmt: skip
@click.option("--incident", help="The incident that it belongs to.")
@click.option("-p", "given", multiple=True, metavar="NAME=VALUE", help="A parameter; repeat it for several.")  # fmt: skip
@actor_option
@click.option(
    "--step",
    is_flag=True,
    help="Walk through it in the terminal: Enter runs a cell, s skips it, q quits.",
)
@click.option(
    "--resume",
    metavar="RUN",
    help="Go on from a run that did not get through, with its parameters.",
)
@click.option(
    "--from-cell",
    type=int,
    metavar="N",
    help="With --resume: the cell to go on at (default: the first that did not run).",
)
@click.option(
    "-h", "--help", "helped", is_flag=True, help="Show this, and the parameters of PROCEDURE."
)
@json_option
def run(
    procedure: str | None,
    like: str | None,
    incident: str | None,
    given: tuple[str, ...],
    actor: str | None,
    step: bool,
    resume: str | None,
    from_cell: int | None,
    helped: bool,
    as_json: bool,
) -> int:
    """Runs PROCEDURE (chapter/name, or a bare name) and archives what it did.

    Exit status: 0 well, 1 the verdict is critical, 2 a parameter was refused, 3 it did not run whole.
    Ctrl-C stops it; what was done until then is archived as killed.

    A resumed run executes every cell again from the first one on, since what the earlier run had in
    memory is gone; only cells tagged not-again-when-resumed show what they showed then.
    """  # fmt: skip
    from runbook_lib.procedures.execution import Progress

    if helped or (procedure is None and like is None):
        return _help(procedure, asked=helped)
    settings = load_settings()
    procedure, earlier = _as_before(procedure, like, settings)
    found = catalogue.find(procedure, settings)
    values = {**earlier, **from_texts(found.declarations, pairs(given))}
    if from_cell is not None and resume is None:
        raise UsageError("--from-cell N needs --resume RUN.")
    if not step and (status := hand_over(settings.fork_server)) is not None:
        return status

    def show(progress: Progress) -> None:
        title = f", {progress.title}" if progress.title else ""
        click.echo(f"cell {progress.number} of {progress.total}{title}", err=True)

    answer = run_and_archive(
        found.name, values, settings, actor=current_actor(actor), trigger="command line",
        incident=incident and whole_incident_id(incident, settings), on_progress=show, step=step, resume=resume, from_cell=from_cell,
    )  # fmt: skip
    return report(answer, as_json)


def _as_before(
    procedure: str | None, like: str | None, settings: Settings
) -> tuple[str, dict[str, Any]]:
    """The procedure to run, and the parameters of the run that it shall be like."""
    if like is None:
        if procedure is None:
            raise UsageError("Name a procedure, or a run to be like. `runbook procedures` lists them.")  # fmt: skip
        return procedure, {}
    from runbook_lib.archive.entries import find_entry
    from runbook_lib.database import open_database

    with open_database(settings, "runbook run") as database:
        entry = find_entry(database, like)
    if procedure is not None and procedure not in (entry["procedure"], entry["procedure"].rpartition("/")[2]):  # fmt: skip
        raise UsageError(f"Run {like} was of {entry['procedure']}, not of {procedure}.")
    return entry["procedure"], entry["parameters"]


def _help(procedure: str | None, *, asked: bool) -> int:
    context = click.get_current_context()
    click.echo(context.get_help(), err=not asked)
    if procedure is None:
        return EXIT_DONE if asked else UsageError.exit_code
    click.echo("")
    _show(_as_dictionary(catalogue.find(procedure, load_settings())), as_json=False)
    return EXIT_DONE


@click.command()
@click.argument("run_id", metavar="RUN")
@actor_option
@json_option
def cancel(run_id: str, actor: str | None, as_json: bool) -> int:
    """Ends a run, on whatever host it is; what it did until then is archived as killed.

    RUN is its id or the beginning of it. Exit status 2 when it has ended already.
    """
    from runbook_lib.database import open_database
    from runbook_lib.errors import DatabaseUnreachable
    from runbook_lib.procedures.pulse import request_cancel, request_cancel_here
    from runbook_lib.procedures.runner import runs_directory

    settings = load_settings()
    try:
        with open_database(settings, "runbook cancel") as database:
            found = request_cancel(database, run_id, current_actor(actor))
    except DatabaseUnreachable:
        found = request_cancel_here(runs_directory(settings), run_id, current_actor(actor))
    if as_json:
        print_json({"run_id": found, "cancel_requested": True})
    else:
        click.echo(f"Asked for the end of run {found}; its runner sees it within about a second.")
    return EXIT_DONE


def run_and_archive(
    procedure: str,
    values: dict[str, Any],
    settings: Settings,
    *,
    step: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Runs a procedure until it ends or a signal stops it; returns what the command answers."""
    from runbook_lib.archive.store import open_store
    from runbook_lib.database import open_reachable_or_not
    from runbook_lib.procedures.runner import run as run_procedure

    with open_reachable_or_not(settings, "runbook run") as database, stopped_by_signal() as stop:
        if step:
            from runbook_lib.cli.stepping import TerminalSteps

            options["steps"] = TerminalSteps(stop)
        record = run_procedure(
            procedure, values, database=database, settings=settings, stop=stop,
            on_notice=lambda text: click.echo(text, err=True), **options,
        )  # fmt: skip
    page = record.archive.html
    return {
        "run_id": record.run_id,
        "status": record.status,
        "verdict": record.verdict,
        "results": record.results,
        "archive": open_store(settings).address(page) if page else None,
        "error": record.error,
        "notice": record.notice,
    }


def report(answer: dict[str, Any], as_json: bool) -> int:
    """Prints the answer; returns the exit status."""
    if as_json:
        print_json(answer)
    else:
        said = (answer["verdict"] or "no verdict").replace("_", " ")
        click.echo(f"{answer['status'].replace('_', ' ')}: {said}")
        if answer["error"]:
            click.echo(answer["error"])
        click.echo(f"run {answer['run_id']}")
        if answer["archive"]:
            click.echo(answer["archive"])
        if answer["notice"]:
            click.echo(answer["notice"])
    if answer["status"] != "succeeded":
        return EXIT_COULD_NOT_BE_DONE
    return EXIT_NOT_WELL if answer["verdict"] == "critical" else EXIT_DONE


@click.command()
@click.argument("name", required=False)
@click.option("--new", is_flag=True, help="Write NAME from the template into RUNBOOK_PROCEDURES.")
@click.option("--title", help="With --new: its title.")
@click.option(
    "--card", "recard", is_flag=True, help="Show NAME's card as its first cell has to say it."
)
@actor_option
@json_option
def procedures(
    name: str | None, new: bool, title: str | None, recard: bool, actor: str | None, as_json: bool
) -> int:
    """Lists the procedures, or shows NAME with its parameters.

    Exit status 1 when a notebook is not a procedure; the others are listed all the same.
    """
    settings = load_settings()
    if new:
        return _new(name, title, current_actor(actor), settings)
    if recard:
        if name is None:
            raise UsageError("--card needs NAME.")
        click.echo(catalogue.find(name, settings).card.markdown())
        return EXIT_DONE
    if name is not None:
        described = _as_dictionary(catalogue.find(name, settings))
        _show(
            {
                **described,
                **_proven([described["name"]], settings, as_json=as_json)[described["name"]],
            },
            as_json,
        )
        return EXIT_DONE
    found, problems = _all(settings)
    proven = _proven([each["name"] for each in found], settings, as_json=as_json, briefly=True)
    found = [{**each, **proven[each["name"]]} for each in found]
    if as_json:
        print_json([*found, *({"name": each, "problem": text} for each, text in problems.items())])
    else:
        rows = [
            (each["name"], each["level"], each["last_proven"], each["title"], each["changes"])
            for each in found
        ]
        print_table(rows, ["procedure", "level", "last proven", "title", "changes"])
        for each, text in problems.items():
            click.echo(f"{each}: {text}", err=True)
        today = datetime.now(UTC).date()
        for late, card in catalogue.overdue(settings, today).items():
            due = f"which was due {card.next_review} ({card.owner})"
            click.echo(f"warning: {late} is past its review, {due}.", err=True)
    return EXIT_NOT_WELL if problems else EXIT_DONE


def _proven(
    names: Sequence[str], settings: Settings, *, as_json: bool, briefly: bool = False
) -> dict[str, dict[str, Any]]:
    """When each was last proven in a rehearsal; nothing is started or waited for to know it."""
    from runbook_lib.rehearsal.known_proofs import known_proofs

    proofs = known_proofs(names, settings)
    if as_json:
        return {name: {"last_proven": proofs[name].as_dictionary() if name in proofs else None} for name in names}  # fmt: skip
    if not proofs:
        unknown = "?" if briefly else "not known: the database does not answer"
        return {name: {"last_proven": unknown} for name in names}
    return {
        name: {"last_proven": proof.brief if briefly else proof.words} for name, proof in proofs.items()
    }  # fmt: skip


def _new(name: str | None, title: str | None, author: str, settings: Settings) -> int:
    from runbook_lib.procedures.template import new_procedure

    if name is None:
        raise UsageError("--new needs NAME, chapter/name.")
    today = datetime.now(UTC).date()
    path = new_procedure(name, settings, title=title, author=author, today=today)
    click.echo(f"{path}\n{path.with_suffix('.sql')}\nTry it: runbook run {name}")
    return EXIT_DONE


@contextmanager
def stopped_by_signal() -> Iterator[threading.Event]:
    """An event that SIGINT, SIGTERM and SIGHUP set, instead of ending the process."""
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def whole_incident_id(incident: str, settings: Settings) -> str:
    """The id of one of our incidents, of which the beginning or the letters are enough; else as it was given."""
    from runbook_lib.database import open_reachable_or_not
    from runbook_lib.incidents.known import find_known

    try:
        with open_reachable_or_not(settings, "runbook run") as database:
            return find_known(database, settings, incident).incident
    except RunbookError:
        return incident  # Of another house's list, or the database is away.


def pairs(given: tuple[str, ...]) -> dict[str, str]:
    """`NAME=VALUE` as they were typed. Raises `UsageError`."""
    found: dict[str, str] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise UsageError(f"-p takes NAME=VALUE, not {text[:60]!r}.")
        if name in found:
            raise UsageError(f"-p {name} is given twice.")
        found[name] = value
    return found


def _all(settings: Settings) -> tuple[list[dict[str, Any]], dict[str, str]]:
    found, problems = [], {}
    for name, path in catalogue.names(settings).items():
        try:
            found.append(_as_dictionary(catalogue.load(name, path)))
        except RunbookError as error:
            problems[name] = str(error)
    return found, problems


def _as_dictionary(procedure: catalogue.Procedure) -> dict[str, Any]:
    declarations = [each.described() for each in procedure.declarations.values()]
    return {"name": procedure.name, **vars(procedure.card), "parameters": declarations}


def _show(procedure: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(procedure)
        return
    for name, value in procedure.items():
        if name != "parameters":
            click.echo(f"{name.replace('_', ' ').ljust(18)} {'none' if value is None else value}")
    if procedure["parameters"]:
        click.echo("")
        rows = [
            (each["name"], each["default"], each["takes"], each["help"])
            for each in procedure["parameters"]
        ]
        print_table(rows, ["parameter", "default", "takes", ""])
