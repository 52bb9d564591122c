"""`runbook changes`: list, plan, apply and undo changes of existing rows and posts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from runbook_lib import changes as planned
from runbook_lib.changes import ChangeResult, Plan
from runbook_lib.changes.kinds import kind_named
from runbook_lib.cli.output import (
    actor_option,
    json_option,
    print_json,
    print_table,
)
from runbook_lib.cli.progress import progress_bar
from runbook_lib.database import open_database
from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL, UsageError
from runbook_lib.settings import current_actor, load_settings

execute_option = click.option("--execute", is_flag=True, help="Do it; without this it is dry.")
reason_option = click.option("--reason", help="Why; kept in admin_actions.")
limit_option = click.option(
    "--limit", "row_limit", type=int, help="Refuse to change more rows than this."
)


@click.group()
def changes() -> None:
    """Planned changes: look first, then apply what was looked at."""


@changes.command("list")
@click.option("--kind", help="Only this kind.")
@click.option("--status", type=click.Choice(["planned", "applying", "applied", "failed"]))
@click.option("--count", "row_count", default=50, show_default=True, help="At most so many.")
@json_option
def list_command(kind: str | None, status: str | None, row_count: int, as_json: bool) -> None:
    """The newest plans."""
    with open_database(load_settings()) as database:
        found = planned.list_changes(database, kind=kind, status=status, row_count=row_count)
    if as_json:
        print_json([plan_record(plan) for plan in found])
        return
    print_table(
        [
            (
                plan.change_id,
                plan.kind,
                plan.row_count,
                plan.status,
                plan.planned_by,
                plan.planned_at,
                plan.applied_by,
                plan.applied_at,
            )
            for plan in found
        ],
        ["change", "kind", "rows", "status", "planned by", "planned at", "applied by", "at"],
    )


@changes.command("kinds")
@json_option
def kinds_command(as_json: bool) -> None:
    """The kinds of change that there are, and their parameters."""
    found = planned.kinds().values()
    if as_json:
        print_json(
            [
                {
                    "kind": kind.name,
                    "summary": kind.summary,
                    "parameters": dict(kind.parameters),
                    "row_limit": kind.row_limit,
                    "undone_by": kind.inverse,
                }
                for kind in found
            ]
        )
        return
    for kind in found:
        click.echo(f"{kind.name}: {kind.summary}")
        for name, help_text in kind.parameters.items():
            click.echo(f"    -p {name}=…  {help_text}")


@changes.command("plan")
@click.argument("kind")
@click.option("-p", "--parameter", "given", multiple=True, metavar="NAME=VALUE")
@limit_option
@actor_option
@json_option
def plan_command(
    kind: str, given: tuple[str, ...], row_limit: int | None, actor: str | None, as_json: bool
) -> None:
    """Looks at what a change would touch; changes nothing."""
    parameters = named_values(given)
    with open_database(load_settings()) as database:
        plan = planned.plan(
            database, kind, parameters, actor=current_actor(actor), row_limit=row_limit
        )
    show_plan(plan, as_json)


@changes.command("apply")
@click.argument("change_id")
@execute_option
@reason_option
@actor_option
@json_option
def apply_command(
    change_id: str, execute: bool, reason: str | None, actor: str | None, as_json: bool
) -> int:
    """Applies a plan; dry unless --execute is given."""
    with (
        open_database(load_settings()) as database,
        progress_bar("Applying", " rows") as progress,
    ):
        result = planned.apply(
            database,
            change_id,
            actor=current_actor(actor),
            dry_run=not execute,
            reason=reason,
            progress=progress,
        )
    return show_result(result, as_json)


@changes.command("undo")
@click.argument("change_id")
@actor_option
@json_option
def undo_command(change_id: str, actor: str | None, as_json: bool) -> None:
    """Plans the change that takes an applied one back; apply that one then."""
    with open_database(load_settings()) as database:
        plan = planned.plan_undo(database, change_id, actor=current_actor(actor))
    show_plan(plan, as_json)


def named_values(given: Sequence[str]) -> dict[str, str]:
    """`name=value` texts as a mapping. Raises `UsageError` for what has no `=`, or a name twice."""
    values: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name or name in values:
            raise UsageError(f"Parameters are given once each as name=value; got {text!r}.")
        values[name] = value
    return values


def show_plan(plan: Plan, as_json: bool) -> None:
    """A plan as JSON, or as a table with the command that applies it."""
    command = f"runbook changes apply {plan.change_id} --execute"
    if as_json:
        print_json({**plan_record(plan), "apply_with": command})
        return
    click.echo(f"{plan.kind} would change {_rows(plan.row_count)} (limit {plan.row_limit}).")
    click.echo(kind_named(plan.kind).summary)
    if plan.parameters:
        chosen = ", ".join(f"{name} = {value}" for name, value in plan.chosen.items())
        click.echo(f"Parameters: {chosen}")
    if plan.oldest is not None:
        click.echo(
            f"Oldest {plan.oldest:%Y-%m-%d %H:%M:%S}, newest {plan.newest:%Y-%m-%d %H:%M:%S}."
        )
    if plan.sample:
        headings = list(dict.fromkeys(name for row in plan.sample for name in row))
        click.echo()
        print_table(
            [[_shortened(row.get(name)) for name in headings] for row in plan.sample], headings
        )
        if plan.row_count > len(plan.sample):
            click.echo(f"… {len(plan.sample)} of {plan.row_count} rows shown, from both ends.")
    click.echo()
    if plan.exceeds_limit:
        click.echo("This exceeds the limit and will be refused: narrow it, or give --limit.")
    elif plan.row_count:
        click.echo(f"Nothing was changed yet. To apply it:\n    {command}")
    else:
        click.echo("Nothing to change.")


def show_result(result: ChangeResult, as_json: bool) -> int:
    """What applying did, with the command to go on or to undo; returns the exit status."""
    if as_json:
        print_json(result.as_record())
    elif result.dry_run:
        click.echo(f"Dry run: {_rows(result.left)} would be changed, nothing was. Add --execute.")
    else:
        click.echo(
            f"{result.kind}: {result.changed} changed, {result.unchanged} already so, "
            f"{result.failed} failed, {result.left} left."
        )
        for failure in result.failures:
            click.echo(f"    {failure['key']}: {failure['error']}", err=True)
        if result.status == "failed":
            click.echo(f"To go on:   runbook changes apply {result.change_id} --execute")
        if result.undo is not None:
            click.echo(f"To undo:    runbook changes undo {result.change_id}")
    return EXIT_NOT_WELL if result.status == "failed" and not result.dry_run else EXIT_DONE


def plan_record(plan: Plan) -> dict[str, Any]:
    """A plan as plain values for JSON."""
    return {
        **vars(plan),
        "exceeds_limit": plan.exceeds_limit,
        "undo": None if plan.undo is None else vars(plan.undo),
    }


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _shortened(value: Any, characters: int = 50) -> Any:
    text = value if isinstance(value, str) else None
    return f"{text[: characters - 1]}…" if text and len(text) > characters else value
