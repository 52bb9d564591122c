"""`runbook jobs`: add, list, show, cancel and retry jobs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import click

from runbook_lib import changes as planned
from runbook_lib.changes import Plan
from runbook_lib.cli.changes import (
    execute_option,
    limit_option,
    named_values,
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
from runbook_lib.database import Database, open_own_pipeline
from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL, UsageError
from runbook_lib.pipeline import operations, retries
from runbook_lib.pipeline.intake import IntakeResult, add_jobs
from runbook_lib.pipeline.job_files import FileFormat
from runbook_lib.pipeline.moments import moment
from runbook_lib.settings import current_actor, load_settings

DETAILS_SHOWN = 20
since_option = click.option(
    "--since", help="At or after this time: 2026-12-31T08:00, or 2h for two hours ago."
)


@click.group()
def jobs() -> None:
    """Jobs: one row a topic, from pending to completed or error."""


@jobs.command("add")
@click.argument("file")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["csv", "jsonl"]),
    help="Default: by the name, else by the first character.",
)
@click.option(
    "--rejects",
    "rejects_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the rejected rows there as CSV, with the reason.",
)
@actor_option
@json_option
def add_command(
    file: str,
    file_format: FileFormat | None,
    rejects_path: Path | None,
    actor: str | None,
    as_json: bool,
) -> int:
    """Adds the jobs of FILE (CSV or JSON Lines; - is standard input), each once.

    Columns: topic, category, keywords (separated by ; or ,), audience, tone, post_status (publish,
    draft, pending), priority (100 is usual, smaller is earlier), run_at, idempotency_key. Adding a
    file again adds nothing twice. Exit status 1 when rows were rejected.
    """
    settings = load_settings()
    result = IntakeResult()
    try:
        with (
            open_own_pipeline(settings) as database,
            _rejects_file(rejects_path, file) as rejects,
            progress_bar("Adding", "B", unit_scale=True) as progress,
        ):
            add_jobs(
                database,
                sys.stdin.buffer if file == "-" else Path(file),
                created_by=current_actor(actor),
                file_format=file_format,
                name="standard input" if file == "-" else None,
                maximum_topic_characters=settings.runbook_maximum_topic_characters,
                rejects=rejects,
                progress=progress,
                result=result,
            )
    except BaseException:
        if result.rows:
            click.echo(
                f"Stopped after {result.added} jobs were added. Adding the file again goes on.",
                err=True,
            )
        raise
    _show_intake(result, as_json, rejects_path)
    return EXIT_NOT_WELL if result.rejected else EXIT_DONE


@contextmanager
def _rejects_file(path: Path | None, source: str) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise UsageError(f"--rejects {path} is the file that is read; name another.")
    try:
        # With a byte order mark: spreadsheets take it for UTF-8 then.
        file = path.open("w", encoding="utf-8-sig", newline="")
    except OSError as error:
        raise UsageError(f"--rejects {path} cannot be written: {error.strerror}.") from None
    with file:
        yield file


def _show_intake(result: IntakeResult, as_json: bool, rejects_path: Path | None) -> None:
    if as_json:
        print_json(result.as_record())
        return
    for warning in result.warnings:
        click.echo(f"Note: {warning}", err=True)
    for rows, count in (
        (result.rejected_rows, result.rejected),
        (result.duplicate_rows, result.duplicates),
    ):
        for row in rows[:DETAILS_SHOWN]:
            click.echo(str(row), err=True)
        if count > DETAILS_SHOWN:
            click.echo(f"… and {count - DETAILS_SHOWN} more.", err=True)
    click.echo(
        f"{result.added} added, {result.duplicates} there already, {result.rejected} rejected."
    )
    if result.rejected and rejects_path is not None:
        click.echo(f"The rejected rows are in {rejects_path}; correct and add them.")


@jobs.command("list")
@click.option("--status", type=click.Choice(["pending", "processing", "completed", "error"]))
@click.option("--class", "error_class", help="Only this error class.")
@click.option("--category", help="Only this category.")
@since_option
@click.option("--count", "row_count", default=50, show_default=True, help="At most so many.")
@json_option
def list_command(
    status: str | None,
    error_class: str | None,
    category: str | None,
    since: str | None,
    row_count: int,
    as_json: bool,
) -> None:
    """The newest jobs, newest first."""
    with open_own_pipeline(load_settings()) as database:
        found = operations.list_jobs(
            database,
            status=status,
            error_class=error_class,
            category=category,
            since=None if since is None else moment(since, datetime.now(UTC)),
            row_count=row_count,
        )
    if as_json:
        print_json(found)
        return
    print_table(
        [
            (
                job["job_id"],
                job["status"],
                job["topic"][:60],
                job["category"],
                f"{job['retry_count']}/{job['max_retries']}",
                job["error_class"] if job["status"] != "completed" else None,
                job["post_url"],
            )
            for job in found
        ],
        ["job", "status", "topic", "category", "retries", "class", "post"],
    )


@jobs.command("show")
@click.argument("job_id")
@json_option
def show_command(job_id: str, as_json: bool) -> None:
    """A job with every attempt, its article and its events. The beginning of the id is enough."""
    with open_own_pipeline(load_settings()) as database:
        history = operations.show_job(database, job_id)
    if as_json:
        print_json(vars(history))
        return
    _show_record("Job", history.job)
    if history.article:
        _show_record("Article", history.article)
    if history.runs:
        click.echo("Attempts")
        print_table(
            [
                (
                    run["attempt"],
                    run["status"],
                    run["started_at"],
                    run["completed_at"] or run["execution_time"],
                    run["stage"],
                    run["error_class"],
                    run["http_status"],
                    run["tokens"],
                    run["cost_usd"],
                    (run["error"] or "")[:80],
                )
                for run in history.runs
            ],
            ["attempt", "status", "started", "ended", "stage", "class", "HTTP", "tokens", "USD", "error"],
        )  # fmt: skip
        click.echo()
    if history.events:
        click.echo("Events")
        print_table(
            [(event["occurred_at"], event["level"], event["message"]) for event in history.events],
            ["at", "level", "what"],
        )


def _show_record(title: str, record: dict[str, Any]) -> None:
    click.echo(title)
    for name, value in record.items():
        if value not in (None, [], {}):
            text = ", ".join(value) if isinstance(value, list) else value
            if isinstance(value, datetime):
                text = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
            click.echo(f"  {name:<22} {text}")
    click.echo()


@jobs.command("cancel")
@click.argument("job_ids", nargs=-1, required=True, metavar="ID...")
@reason_option
@actor_option
@json_option
def cancel_command(
    job_ids: tuple[str, ...], reason: str | None, actor: str | None, as_json: bool
) -> None:
    """Cancels pending jobs: they end as error, class cancelled. The beginning of an id is enough."""
    with open_own_pipeline(load_settings()) as database:
        cancelled = [
            operations.cancel_job(database, each, actor=current_actor(actor), reason=reason)
            for each in job_ids
        ]
    if as_json:
        print_json([vars(each) for each in cancelled])
        return
    for each in cancelled:
        done = "was cancelled already" if each.already else "is cancelled"
        draft = " A draft of it may stand at WordPress." if each.draft_may_exist else ""
        click.echo(f"Job {each.job_id} {done}.{draft}")


@jobs.command("retry")
@click.argument("job_ids", nargs=-1, metavar="[ID...]")
@click.option(
    "--where",
    multiple=True,
    metavar="class=…|category=…",
    help="Which failed jobs; may be given again.",
)
@since_option
@click.option("--until", help="Before this time.")
@click.option(
    "--per-minute",
    type=float,
    help="So many jobs a minute (default: half the providers' limits, else 60).",
)
@limit_option
@execute_option
@reason_option
@actor_option
@json_option
def retry_command(
    job_ids: tuple[str, ...],
    where: tuple[str, ...],
    since: str | None,
    until: str | None,
    per_minute: float | None,
    row_limit: int | None,
    execute: bool,
    reason: str | None,
    actor: str | None,
    as_json: bool,
) -> int:
    """Sets failed jobs back to pending, spread over time.

    Named by their ids they are retried at once. Chosen by --where, --since and --until they are
    planned first: apply what was looked at with `runbook changes apply`, or say --execute here.
    Paid articles are not bought again.
    """
    chosen: dict[str, Any] = {**named_values(where), "since": since, "until": until}
    if job_ids and any(chosen.values()):
        raise UsageError("Give ids, or --where/--since/--until; not both.")
    if unknown := sorted(set(chosen) - {"class", "category", "since", "until"}):
        raise UsageError(f"--where takes class=… and category=…, not {', '.join(unknown)}.")
    who = current_actor(actor)
    with open_own_pipeline(load_settings()) as database:
        if job_ids:
            chosen = {"job_ids": _failed_jobs(database, job_ids)}
        plan = planned.plan(
            database,
            "jobs.retry",
            {**chosen, "per_minute": per_minute or retries.default_jobs_per_minute(database)},
            actor=who,
            row_limit=row_limit,
        )
        if not (job_ids or execute):
            show_plan(plan, as_json)
            return EXIT_DONE
        result = planned.apply(database, plan.change_id, actor=who, dry_run=False, reason=reason)
    if not as_json and plan.row_count > 1:
        click.echo(_ramp(plan))
    return show_result(result, as_json)


def _failed_jobs(database: Database, job_ids: tuple[str, ...]) -> list[str]:
    histories = [operations.show_job(database, each).job for each in job_ids]
    for job in histories:
        if job["status"] != "error":
            raise UsageError(
                f"Job {job['job_id']} is {job['status']}; only jobs in error are retried."
            )
    return [job["job_id"] for job in histories]


def _ramp(plan: Plan) -> str:
    per_minute = plan.parameters["per_minute"]
    minutes = plan.row_count / per_minute
    spread = f", the last in about {minutes:.0f} minutes" if minutes > 1 else ""
    return f"Spread at {per_minute:g} jobs a minute{spread}."
