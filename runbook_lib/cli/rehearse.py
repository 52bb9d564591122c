"""`runbook rehearse`: practise on a fault that is staged for real, on a system that is thrown away after."""

from __future__ import annotations

import os
import secrets
from typing import Any

import click

from runbook_lib.cli.output import actor_option, json_option, print_json, print_table
from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL, UsageError
from runbook_lib.settings import current_actor, load_settings

VERBS = ("list", "faults", "causes", "found", "hint", "check", "end", "do")


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument(
    "words",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="FAULT | --surprise | hint | found CAUSE | do COMMAND | check | end | list | faults | causes",
)
def rehearse(words: tuple[str, ...]) -> Any:
    """Practise: a fault is staged for real on a system of its own, and you are told only the alert.

    \b
    runbook rehearse --surprise       begin, without knowing what with
    runbook rehearse quota            begin with one that you choose
    runbook rehearse faults           what can be chosen
    runbook rehearse do triage        any runbook command, over the system of the practice
    runbook rehearse hint             the layer first, then what to compare it with; it is recorded
    runbook rehearse found CAUSE      say what it is; if it is right, somebody repairs it
    runbook rehearse found unknown LAYER, or found healthy: these are answers, too
    runbook rehearse check            how far you are
    runbook rehearse end              check, record, and throw the system away
    runbook rehearse list             who proved which procedure, and when
    runbook rehearse causes           the ids that can be named

    Nothing of your database, keys, site or `.env` is touched.
    """
    if not words:
        raise UsageError(
            "Say what to practise: `runbook rehearse --surprise`, or one of `runbook rehearse faults`, such as quota."
        )
    first, rest = words[0], list(words[1:])
    command: click.Command = {
        "found": _found,
        "hint": _hint,
        "check": _check,
        "end": _end,
        "list": _list,
        "faults": _faults,
        "causes": _causes,
        "do": _do,
    }.get(first, _begin)
    arguments = rest if first in VERBS else [first, *rest]
    return command.main(
        args=arguments,
        prog_name=f"runbook rehearse {first if first in VERBS else ''}".strip(),
        standalone_mode=False,
    )


@click.command()
@click.argument("fault", required=False)
@click.option(
    "--surprise", is_flag=True, help="Any fault, one that no rule knows, or none at all; you are not told which."
)  # fmt: skip
@click.option(
    "--severity",
    type=click.FloatRange(0.05, 1.0),
    default=1.0,
    show_default=True,
    help="Which share of requests it strikes, where it strikes requests.",
)
@click.option(
    "--seed",
    type=int,
    help="Another one makes another past, other topics, another fault of a surprise (default: 0; with --surprise by chance).",
)
@actor_option
@json_option
def _begin(
    fault: str | None,
    surprise: bool,
    severity: float,
    seed: int | None,
    actor: str | None,
    as_json: bool,
) -> int:
    """Stages the fault; tells only the alert."""
    from runbook_lib.rehearsal import practice

    if surprise == (fault is not None):
        raise UsageError("Name a fault, or say --surprise: one of the two.")
    if seed is None:
        seed = secrets.randbelow(10**6) if surprise else 0
    if not as_json:
        click.echo(
            "Setting up a database, a sandbox, a worker and a scheduler, seeing that they work, and letting something go wrong …",
            err=True,
        )
    home, state = practice.begin(fault, actor=current_actor(actor), seed=seed, severity=severity)
    if as_json:
        print_json(
            {
                "fault": practice.SURPRISE if surprise else state.fault,
                "alert": state.alert,
                "home": home.directory,
                "seed": seed,
                "alerted_at": state.alerted_at,
            }
        )
        return EXIT_DONE
    click.secho(f"\n{state.alert}", bold=True, fg="red")
    click.echo("\nThe clock runs. In this terminal, or another:\n")
    for command, what in (
        ("do triage", "which layer is broken, why, and what is safe"),
        ("do run emergency/system_down", "the same as a notebook, archived"),
        ("do run emergency/system_down -p dry_run=false", "with its first safe action applied"),
        ("do lab", "the notebooks in JupyterLab"),
        ("hint", "where to look; it is recorded"),
        ("found CAUSE", "say what it is, by its id; or `healthy`, or `unknown LAYER`"),
        ("check", "how far you are"),
        ("end", "the last check; recorded, and all of it thrown away"),
    ):
        click.echo(f"  runbook rehearse {command:<48}{what}")
    return EXIT_DONE


@click.command()
@json_option
def _faults(as_json: bool) -> int:
    """What can be practised by name: whose fault it is and in which layer, and not what it looks like."""
    from runbook_lib.rehearsal.catalogue import NOT_STAGED
    from runbook_lib.rehearsal.repertoire import practices

    rows = [
        {
            "name": each.name, "chapter": each.chapter, "layers": list(each.layers),
            "causes": list(each.truth), "procedure": each.card.procedure,
        }
        for each in practices().values()
    ]  # fmt: skip
    if as_json:
        print_json(rows)
        return EXIT_DONE
    print_table(
        [(row["name"], row["chapter"], " + ".join(row["layers"]), " + ".join(row["causes"])) for row in rows],
        ["fault", "chapter", "layer", "cause"],
    )  # fmt: skip
    for cause, reason in NOT_STAGED.items():
        click.echo(f"{cause} cannot be staged here: {reason}.", err=True)
    return EXIT_DONE


@click.command()
@json_option
def _causes(as_json: bool) -> int:
    """The ids that can be named, by layer."""
    from runbook_lib.triage.causes import CAUSES

    rows = [{"id": cause.id, "layer": cause.layer, "title": cause.title} for cause in CAUSES]
    if as_json:
        print_json(rows)
        return EXIT_DONE
    print_table([(row["layer"], row["id"], row["title"]) for row in rows], ["layer", "cause", ""])
    click.echo("\nOr `healthy`; or `unknown LAYER`, where none of them fits.")
    return EXIT_DONE


@click.command()
@click.argument("cause")
@click.argument("layer", required=False)
@json_option
def _found(cause: str, layer: str | None, as_json: bool) -> int:
    """Says what it is. LAYER goes with `unknown`."""
    from runbook_lib.rehearsal import practice

    answer = practice.found(cause, layer)
    card = answer.practice.card
    if as_json:
        print_json(
            {
                "right": answer.right,
                "complete": answer.complete,
                "repaired": card.repaired if answer.complete else None,
                "then": list(card.then) if answer.complete else [],
            }
        )
        return EXIT_DONE if answer.right else EXIT_NOT_WELL
    if not answer.right:
        click.echo(
            "You had it looked at, and it is not that. Look again: which evidence speaks against it?"
        )
        return EXIT_NOT_WELL
    if not answer.complete:
        click.echo("Right, and that is being seen to. It is not all: jobs still do not flow.")
        return EXIT_DONE
    click.echo(card.repaired or "Right: nothing is wrong, and nothing is to be repaired.")
    if card.then:
        click.echo("Now let the jobs go on, and see that they do:")
    for command in card.then:
        click.echo(f"  runbook rehearse do {command}")
    click.echo("  runbook rehearse check")
    return EXIT_DONE


@click.command()
@json_option
def _hint(as_json: bool) -> int:
    """One more hint. It is recorded how many there were."""
    from runbook_lib.rehearsal import practice

    number, words = practice.hint()
    if as_json:
        print_json({"hint": words, "hints": number})
    else:
        click.echo(f"{words} (hint {number})")
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
                ", ".join(row["procedures"]) or "none",
                row["fault"],
                row["actor"],
                f"{row['minutes']:.1f}",
                row["result"],
                row["hints"] or "",
            )
            for row in found
        ],
        ["ended", "procedures", "fault", "by", "minutes", "result", "hints"],
    )
    return EXIT_DONE


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def _do(command: tuple[str, ...]) -> Any:
    """Runs a `runbook` command over the system of the practice."""
    from runbook_lib.cli import runbook
    from runbook_lib.rehearsal.home import Home

    environment = Home.current().environment()
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
