"""`runbook rehearse`: practise on a fault that is staged for real, on a system that is thrown away after."""

from __future__ import annotations

import os
from typing import Any

import click

from runbook_lib.cli.output import actor_option, json_option, print_json, print_table
from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL, UsageError
from runbook_lib.settings import current_actor, load_settings

VERBS = ("list", "found", "check", "end", "do")


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument(
    "words",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="FAULT | found CAUSE | do COMMAND | check | end | list",
)
def rehearse(words: tuple[str, ...]) -> Any:
    """Practise: a fault is staged for real on a system of its own, and you are told only the alert.

    \b
    runbook rehearse quota            begin (quota, login, worker)
    runbook rehearse do triage        any runbook command, over the system of the practice
    runbook rehearse found CAUSE      say what it is; if it is right, somebody repairs it
    runbook rehearse check            how far you are
    runbook rehearse end              check, record, and throw the system away
    runbook rehearse list             who proved which procedure, and when

    Nothing of your database, keys, site or `.env` is touched.
    """
    if not words:
        raise UsageError(
            "Say what to practise: `runbook rehearse quota`, login or worker; or `runbook rehearse list`."
        )
    first, rest = words[0], list(words[1:])
    command: click.Command = {
        "found": _found,
        "check": _check,
        "end": _end,
        "list": _list,
        "do": _do,
    }.get(first, _begin)
    arguments = rest if first in VERBS else [first, *rest]
    return command.main(
        args=arguments,
        prog_name=f"runbook rehearse {first if first in VERBS else ''}".strip(),
        standalone_mode=False,
    )


@click.command()
@click.argument("fault")
@click.option(
    "--severity",
    type=click.FloatRange(0.05, 1.0),
    default=1.0,
    show_default=True,
    help="Which share of requests it strikes.",
)
@click.option(
    "--seed", default=0, show_default=True, help="Another one makes other topics and times."
)
@actor_option
@json_option
def _begin(fault: str, severity: float, seed: int, actor: str | None, as_json: bool) -> int:
    """Stages the fault; tells only the alert."""
    from runbook_lib.rehearsal import practice

    chosen = practice.fault_named(fault)
    if not as_json:
        click.echo(
            "Setting up a database, a sandbox and a worker, and letting something go wrong …",
            err=True,
        )
    home, state = practice.begin(fault, actor=current_actor(actor), seed=seed, severity=severity)
    if as_json:
        print_json(
            {
                "fault": chosen.name,
                "alert": chosen.alert,
                "home": home.directory,
                "alerted_at": state.alerted_at,
            }
        )
        return EXIT_DONE
    click.secho(f"\n{chosen.alert}", bold=True, fg="red")
    click.echo("\nThe clock runs. In this terminal, or another:\n")
    for command, what in (
        ("do triage", "which layer is broken, why, and what is safe"),
        ("do run emergency/system_down", "the same as a notebook, archived"),
        ("do run emergency/system_down -p dry_run=false", "with its first safe action applied"),
        ("do lab", "the notebooks in JupyterLab"),
        ("found CAUSE", "say what it is, by its id"),
        ("check", "how far you are"),
        ("end", "the last check; recorded, and all of it thrown away"),
    ):
        click.echo(f"  runbook rehearse {command:<48}{what}")
    return EXIT_DONE


@click.command()
@click.argument("cause")
@json_option
def _found(cause: str, as_json: bool) -> int:
    """Says what it is."""
    from runbook_lib.rehearsal import practice

    right, fault = practice.found(cause)
    if as_json:
        print_json({"right": right, "repaired": fault.repaired if right else None})
        return EXIT_DONE if right else EXIT_NOT_WELL
    if not right:
        click.echo(
            "You had it looked at, and it is not that. Look again: which evidence speaks against it?"
        )
        return EXIT_NOT_WELL
    click.echo(f"{fault.repaired}\nNow let the jobs go on:")
    for command in fault.then:
        click.echo(f"  runbook rehearse do {command}")
    click.echo("  runbook rehearse check")
    return EXIT_DONE


@click.command()
@json_option
def _check(as_json: bool) -> int:
    """How far it is."""
    from runbook_lib.rehearsal import practice

    return _show(practice.check(), as_json)


@click.command()
@actor_option
@json_option
def _end(actor: str | None, as_json: bool) -> int:
    """The last check; recorded, and the system thrown away."""
    from runbook_lib.rehearsal import practice

    outcome = practice.end(load_settings(), actor=current_actor(actor))
    status = _show(outcome, as_json)
    if not as_json:
        click.echo("\nRecorded. `runbook rehearse list` shows when each procedure was last proven.")
    return status


@click.command()
@json_option
def _list(as_json: bool) -> int:
    """Rehearsals, the newest first."""
    from runbook_lib.database import open_database
    from runbook_lib.rehearsal import records

    with open_database(load_settings()) as database:
        found = records.newest(database)
    if as_json:
        print_json(found)
        return EXIT_DONE
    print_table(
        [
            (
                row["ended_at"],
                row["procedure"],
                row["fault"],
                row["actor"],
                f"{row['minutes']:.1f}",
                row["result"],
            )
            for row in found
        ],
        ["ended", "procedure", "fault", "by", "minutes", "result"],
    )
    return EXIT_DONE


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def _do(command: tuple[str, ...]) -> Any:
    """Runs a `runbook` command over the system of the practice."""
    from runbook_lib.cli import runbook
    from runbook_lib.rehearsal.home import Home
    from runbook_lib.rehearsal.keeper import practice_environment

    environment = practice_environment(Home.current())
    os.environ.clear()
    os.environ.update(environment)
    load_settings.cache_clear()
    return runbook.main(args=list(command), prog_name="runbook rehearse do", standalone_mode=False)


def _show(outcome: Any, as_json: bool) -> int:
    if as_json:
        print_json(outcome.as_dictionary())
    else:
        for item in outcome.items:
            mark = click.style("✓" if item.passed else "✗", fg="green" if item.passed else "red")
            click.echo(f"  {mark} {item.name}: {item.words}")
        done = "Passed" if outcome.passed else "Not yet"
        click.echo(f"\n{done}: {outcome.minutes:.1f} minutes since the alert.")
    return EXIT_DONE if outcome.passed else EXIT_NOT_WELL
