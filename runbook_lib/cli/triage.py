"""`runbook triage`: what is wrong, on what evidence, and what is safe to do first. One screen."""

from __future__ import annotations

from pathlib import Path

import click

from runbook_lib.cli.output import json_option, print_json, print_table
from runbook_lib.database.statements import find_statement
from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL, NotFoundError
from runbook_lib.policy import load_policy
from runbook_lib.procedures.first_action import plan_command, who
from runbook_lib.settings import load_settings
from runbook_lib.triage.diagnosis import Diagnosis, assess, diagnose_here
from runbook_lib.triage.evidence import DEADLINE_SECONDS

# So many lines of what is not looked at go on one screen.
_FEW = 4
_COLOURS = {"healthy": "green", "watch": "yellow", "fault": "red", "unknown": "red"}
_MARKS = {
    "broken": ("✕", "red"),
    "look": ("!", "yellow"),
    "works": ("·", "green"),
    "not known": ("?", None),
}
_AUTOMATION = {
    "Y": "safe by itself",
    "P": "look first, then a person decides",
    "N": "only a person can",
}


@click.command()
@json_option
@click.option(
    "--deadline-seconds", type=click.FloatRange(min=1, max=60), default=DEADLINE_SECONDS, show_default=True,
    help="After this time what gives no answer is given up.",
)  # fmt: skip
@click.option(
    "--evidence", "with_evidence", is_flag=True, help="Show each figure and where it came from."
)
@click.option(
    "--save", type=click.Path(dir_okay=False, path_type=Path), help="Keep the answer with all of its evidence in a file.",
)  # fmt: skip
@click.option(
    "--from", "kept", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Judge the evidence of such a file anew, and say whether the same figures come out.",
)  # fmt: skip
@click.option(
    "--statement",
    help="Show a statement that an answer cites, as it is run, and what it answers now.",
)
def triage(
    as_json: bool, deadline_seconds: float, with_evidence: bool, save: Path | None, kept: Path | None, statement: str | None,
) -> int:  # fmt: skip
    """Say what is wrong, on what evidence, and what is safe to do first.

    Changes nothing and costs nothing. Exit status: 0 healthy, or only worth watching; 1 a fault, or trouble
    that no known cause fits.
    """
    if statement is not None:
        return _show_statement(statement, as_json)
    if kept is not None:
        return _judge_anew(kept, as_json)
    found = diagnose_here(deadline_seconds=deadline_seconds)
    if save is not None:
        from runbook_lib.triage.kept_evidence import keep

        keep(found, save)
    if as_json:
        print_json(found.as_dictionary())
    else:
        _print(found, with_evidence)
    return found.exit_status


def _judge_anew(path: Path, as_json: bool) -> int:
    """Whether the figures of a kept answer come out of its evidence."""
    from runbook_lib.triage.kept_evidence import differences, read

    answer, evidence = read(path)
    anew = assess(evidence, load_policy(load_settings()))
    found = differences(answer, anew)
    if as_json:
        print_json({"answer": anew.as_dictionary(), "differences": found})
    else:
        _print(anew, with_evidence=True)
        click.echo(
            "\nThe same figures come out of the kept evidence." if not found else "\nDiffers:"
        )
        for each in found:
            click.echo(f"    {each}")
    return EXIT_NOT_WELL if found else EXIT_DONE


def _show_statement(name: str, as_json: bool) -> int:
    """The text of a statement as triage runs it, and its rows now."""
    from runbook_lib.triage.evidence import ask

    statement = find_statement(name)
    if statement is None:
        raise NotFoundError(f"There is no statement {name!r}. An answer cites them as file.name, e.g. triage.waiting.")  # fmt: skip
    found = ask(statement, load_settings())
    if as_json:
        print_json({"statement": name, "text": found.text, "rows": found.rows, "why_not": found.why_not})  # fmt: skip
        return EXIT_DONE
    click.echo(f"-- {found.description}\n{found.text}\n")
    if found.why_not:
        click.echo(found.why_not)
    elif found.rows:
        print_table([list(row.values()) for row in found.rows], list(found.rows[0]))
    else:
        click.echo("It answers no row.")
    return EXIT_DONE


def _print(found: Diagnosis, with_evidence: bool) -> None:
    click.echo(
        click.style(found.verdict.upper(), fg=_COLOURS[found.verdict], bold=True)
        + f"  {found.in_words()}"
    )
    for each in found.causes:
        cause = each.cause
        click.echo(
            f"\n{click.style(cause.id, bold=True)}  {each.confidence:.0%} sure{', over by now' if each.over else ''}. {cause.title}"
        )
        for fact in each.evidence:
            click.echo(f"    · {fact.words}")
            if with_evidence:
                click.echo(f"      {fact.source}: {fact.value} (threshold {fact.threshold})")
        click.echo(f"  {click.style('First:', bold=True)} {each.action.words}")
        click.echo(f"    {each.action.command}   ({_AUTOMATION[each.action.automation]})")
        if (about := who(each)) and each.action.change:
            click.echo(f"    about {about}")
        if (plan := plan_command(each)) and plan != each.action.command:
            click.echo(f"    look at it first: {plan}")
        if each.action.never:
            click.echo(f"  {click.style('Not:', bold=True)} {each.action.never}")
    if found.judgement.unexplained and found.verdict != "healthy":
        click.echo("\nNot explained by a cause:" if found.causes else "\nWhat was seen:")
        for fact in found.judgement.unexplained:
            click.echo(f"    · [{fact.layer}] {fact.words}")
    if found.next_step:
        click.echo(f"  {click.style('Next:', bold=True)} {found.next_step}")
    if found.waiting:
        click.echo()
    for sentence in found.waiting:
        click.echo(sentence)
    _print_scope(found)
    _print_layers(found)
    _print_rest(found, with_evidence)


def _print_scope(found: Diagnosis) -> None:
    if found.verdict not in ("fault", "unknown"):
        return
    scope = found.scope()
    if scope["since"]:
        click.echo(
            f"\nSince {scope['since'][:19]}: {scope['failed_attempts']} attempts of {scope['jobs']} jobs failed."
        )
    for change in scope["changes"][:4]:
        click.echo(
            f"    changed {change['at'][11:19]}  {change['kind']}: {change['what']} ({change['who']})"
        )


def _print_layers(found: Diagnosis) -> None:
    marks = []
    for name, state, _ in found.layers():
        mark, colour = _MARKS[state]
        marks.append(click.style(f"{mark} {name}", fg=colour))
    click.echo("\n" + "  ".join(marks))


def _print_rest(found: Diagnosis, with_evidence: bool) -> None:
    if found.not_checked:
        shown = found.not_checked if with_evidence else found.not_checked[:_FEW]
        click.echo(f"\nNot looked at ({len(found.not_checked)}):")
        for each in shown:
            click.echo(f"    {each.what}: {each.why}")
        if more := len(found.not_checked) - len(shown):
            click.echo(f"    and {more} more: --evidence shows them")
    click.echo(
        f"\n{found.seconds:.1f} s. The same as a notebook, with preview, apply, verify and undo: runbook run emergency/system_down"
    )
