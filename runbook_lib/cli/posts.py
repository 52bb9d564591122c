"""`runbook posts`: take the posts of a set of jobs off the site, and back."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import click

from runbook_lib import changes
from runbook_lib.cli.changes import (
    execute_option,
    limit_option,
    named_values,
    reason_option,
    show_plan,
    show_result,
)
from runbook_lib.cli.output import actor_option, json_option
from runbook_lib.cli.progress import progress_bar
from runbook_lib.database import open_own_pipeline
from runbook_lib.errors import UsageError
from runbook_lib.settings import current_actor, load_settings

WHERE = ("category", "status", "since", "until")


@click.group()
def posts() -> None:
    """Unpublish, republish or trash the posts of a set of jobs.

    Without --execute a command only plans: it shows how many posts it would change and how they stand
    at the site now, and prints the command that applies the plan. `runbook changes undo` takes it back.
    """
    importlib.import_module("runbook_lib.pipeline.posts")


def _selection(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that all three commands share."""
    options = (
        click.option("--job", "job_ids", multiple=True, metavar="ID", help="This job's post; may be given often."),
        click.option("--where", "where", multiple=True, metavar="NAME=VALUE", help=f"Only posts with this {', '.join(WHERE[:2])}."),
        click.option("--since", help="Only jobs that ended at or after this time (2026-12-31T08:00, or 2h)."),
        click.option("--until", help="Only jobs that ended before this time."),
        limit_option,
        execute_option,
        reason_option,
        actor_option,
        json_option,
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@posts.command()
@_selection
def unpublish(**given: Any) -> int:
    """Published and scheduled posts become drafts."""
    return _plan_and_apply("posts.unpublish", **given)


@posts.command()
@_selection
def republish(**given: Any) -> int:
    """Drafts and posts in review are published."""
    return _plan_and_apply("posts.republish", **given)


@posts.command()
@_selection
def trash(**given: Any) -> int:
    """Posts go to the trash of the site; nothing is deleted for good."""
    return _plan_and_apply("posts.trash", **given)


def _plan_and_apply(
    kind: str,
    *,
    job_ids: tuple[str, ...],
    where: tuple[str, ...],
    since: str | None,
    until: str | None,
    row_limit: int | None,
    execute: bool,
    reason: str | None,
    actor: str | None,
    as_json: bool,
) -> int:
    parameters = {"job_ids": list(job_ids), "since": since, "until": until}
    for name, value in named_values(where).items():
        if name not in WHERE or parameters.get(name):
            raise UsageError(f"--where takes {', '.join(WHERE)}, each once; got {name}={value}.")
        parameters[name] = value
    who = current_actor(actor)
    with open_own_pipeline(load_settings()) as database:
        plan = changes.plan(database, kind, parameters, actor=who, row_limit=row_limit)
        if not execute or not (plan.row_count or as_json):
            show_plan(plan, as_json)
            return 0
        if not as_json:
            show_plan(plan, as_json)
        with progress_bar("Changing", " posts") as progress:
            result = changes.apply(
                database,
                plan.change_id,
                actor=who,
                dry_run=False,
                reason=reason,
                progress=progress,
            )
    return show_result(result, as_json)
