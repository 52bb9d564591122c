"""`runbook secrets`: keys and passwords, by handle; a value is asked for and never an argument."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runbook_lib.cli.changes import reason_option
from runbook_lib.cli.output import (
    MARKS,
    actor_option,
    json_option,
    print_json,
    print_table,
)
from runbook_lib.credentials.shapes import LONGEST_CHARACTERS, require_name
from runbook_lib.database import open_database
from runbook_lib.errors import EXIT_NOT_WELL, UsageError
from runbook_lib.settings import current_actor, load_settings

if TYPE_CHECKING:
    from runbook_lib.credentials.staging import KeptValue
    from runbook_lib.health.checks import Check
    from runbook_lib.maintenance.rotation import Activated, Rotation

WAIT_SECONDS = 60.0


@click.group()
def secrets() -> None:
    """Keys and passwords: how old they are, who uses them, and rotating them while jobs run.

    \b
    stage NAME      takes the new value in (hidden prompt, stdin or --from-file); from then on it is a handle
    test NAME       asks the provider with it; costs nothing
    activate NAME   writes it to the store, after testing it again; workers take it up without a restart
    verify NAME     whether every running worker has it
    retire NAME     what to revoke where, and whether the old one is refused now
    rotate NAME     the first four in one; then retire

    The old value is revoked last: revoked first, it fails every job until the new one is in use.
    """


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    return actor_option(json_option(command))


_anyway = click.option(
    "--anyway", is_flag=True, help="Also while another value is on its way to the workers: nobody can tell then which one fails."
)  # fmt: skip
_source_options = (
    click.option("--from-file", type=click.Path(path_type=Path), help="Reads the value from this file (- for stdin)."),
    click.option("--generate", is_flag=True, help="Makes the value: an application password at the site, or a database password."),
)  # fmt: skip


def _source(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_source_options):
        command = option(command)
    return command


@contextmanager
def _rotation(name: str, actor: str | None) -> Iterator[Rotation]:
    from runbook_lib.maintenance.rotation import Rotation

    name = require_name(name)
    settings = load_settings()
    # Without asking for the schema: a database password is rotated also when the old one is dead already.
    with open_database(settings, "runbook secrets", require_schema=False) as database:
        yield Rotation(settings, database, name, current_actor(actor))


@secrets.command("list")
@click.option(
    "--test/--no-test",
    default=True,
    help="Whether the providers are asked if they still take them.",
)
@json_option
def list_secrets(test: bool, as_json: bool) -> int:
    """Each credential: where it is kept, its handle, age, last use, and who has it."""
    from runbook_lib.health.sources import Sources
    from runbook_lib.maintenance.secret_review import secret_review

    with open_database(load_settings(), "runbook secrets", require_schema=False) as database:
        review = secret_review(Sources(database, database), test=test)
    if as_json:
        print_json({**review.results(), "verdict": review.verdict, "message": review.check.message})
    else:
        print_table(
            [
                (each.name, each.kept_in, each.handle, each.age_days, each.age_source, each.last_used_at,
                 each.workers, each.staged, each.earlier)
                for each in review.states
            ],
            ["NAME", "KEPT IN", "HANDLE", "DAYS OLD", "TOLD BY", "LAST USED", "WORKERS", "STAGED", "NOT RETIRED"],
        )  # fmt: skip
        _show(review.check)
    return EXIT_NOT_WELL if review.verdict == "critical" else 0


@secrets.command()
@click.argument("name")
@_source
@click.option("--discard", is_flag=True, help="Forgets what is staged.")
@_common
def stage(
    name: str, from_file: Path | None, generate: bool, discard: bool, actor: str | None, as_json: bool
) -> None:  # fmt: skip
    """Takes a new value in. Nothing uses it before it is activated."""
    with _rotation(name, actor) as rotation:
        if discard:
            click.echo("Forgotten." if rotation.discard() else "Nothing was staged.")
            return
        kept = _stage(rotation, from_file, generate)
    if as_json:
        print_json({"name": kept.name, "handle": kept.handle, "staged_by": kept.kept_by})
    else:
        click.echo(f"{kept.name}: {kept.handle} is staged. Next: runbook secrets test {kept.name}")


@secrets.command()
@click.argument("name")
@_common
def test(name: str, actor: str | None, as_json: bool) -> int:
    """Asks the provider with the staged value; costs nothing and changes nothing."""
    with _rotation(name, actor) as rotation:
        return _answer(rotation.test(), as_json)


@secrets.command()
@click.argument("name")
@click.option("--handle", help="Only if this is what is staged.")
@click.option("--back", is_flag=True, help="Puts the earlier value in use again.")
@click.option(
    "--set-at-server",
    is_flag=True,
    help="DATABASE_URL: gives the role its new password at the server first.",
)
@_anyway
@reason_option
@_common
def activate(
    name: str, handle: str | None, back: bool, set_at_server: bool, anyway: bool, reason: str | None,
    actor: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Puts the staged value in use, after testing it once more. A value that does not work is refused."""
    with _rotation(name, actor) as rotation:
        done = rotation.activate(
            handle, back=back, set_at_server=set_at_server, reason=reason, anyway=anyway
        )
    _show_activated(done, as_json)


@secrets.command()
@click.argument("name")
@click.option(
    "--wait",
    "wait_seconds",
    default=0.0,
    metavar="SECONDS",
    help="Waits so long for all workers to have it.",
)
@_common
def verify(name: str, wait_seconds: float, actor: str | None, as_json: bool) -> int:
    """Whether every running worker has the value that is in the store."""
    with _rotation(name, actor) as rotation:
        return _answer(rotation.verify(wait_seconds), as_json)


@secrets.command()
@click.argument("name")
@click.option(
    "--revoke", is_flag=True, help="WORDPRESS_APP_PASSWORD: takes the old one away at the site."
)
@click.option(
    "--anyway", is_flag=True, help="Also while a worker still uses it: its jobs then wait or fail."
)
@reason_option
@_common
def retire(
    name: str, revoke: bool, anyway: bool, reason: str | None, actor: str | None, as_json: bool
) -> int:  # fmt: skip
    """Says what to revoke and where, and whether the old value is refused now. Then it is forgotten."""
    from runbook_lib.maintenance.retirement import retire as retired

    with _rotation(name, actor) as rotation:
        found = retired(rotation, revoke=revoke, anyway=anyway, reason=reason)
    if as_json:
        print_json(
            {**found.results(), "verdict": found.check.verdict, "message": found.check.message}
        )
    else:
        _show(found.check)
    return 0 if found.done else EXIT_NOT_WELL


@secrets.command()
@click.argument("name")
@_source
@click.option(
    "--plan", "only_plan", is_flag=True, help="Only says how it would go; changes nothing."
)
@click.option(
    "--set-at-server",
    is_flag=True,
    help="DATABASE_URL: gives the role its new password at the server first.",
)
@click.option(
    "--wait",
    "wait_seconds",
    default=WAIT_SECONDS,
    metavar="SECONDS",
    help="How long to wait for the workers.",
)
@_anyway
@reason_option
@_common
def rotate(
    name: str, from_file: Path | None, generate: bool, only_plan: bool, set_at_server: bool, wait_seconds: float,
    anyway: bool, reason: str | None, actor: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Stages, tests, activates and verifies in one. Retiring the old value stays a step of its own."""
    from runbook_lib.maintenance.rotation_plan import rotation_plan

    with _rotation(name, actor) as rotation:
        if only_plan:
            plan = rotation_plan(rotation)
            print_json(plan.results()) if as_json else click.echo(repr(plan))
            return 0
        if rotation.waiting.find("staged", rotation.name) is None or from_file or generate:
            _stage(rotation, from_file, generate)
        done = rotation.activate(
            set_at_server=set_at_server or (generate and rotation.name == "DATABASE_URL"),
            reason=reason,
            anyway=anyway,
        )
        _show_activated(done, as_json=False, err=as_json)
        check = rotation.verify(wait_seconds)
    if as_json:
        print_json({**done.results(), "verdict": check.verdict, "message": check.message})
    else:
        _show(check)
    return EXIT_NOT_WELL if check.verdict == "critical" else 0


def _stage(rotation: Rotation, from_file: Path | None, generate: bool) -> KeptValue:
    if generate:
        if from_file is not None:
            raise UsageError("Give --generate or --from-file, not both.")
        return rotation.generate()
    return rotation.stage(_given_value(rotation.name, from_file))


def _given_value(name: str, from_file: Path | None) -> str:
    """The value from a file, from stdin, or typed unseen."""
    if from_file is not None and str(from_file) != "-":
        try:
            with from_file.expanduser().open(encoding="utf-8", newline="") as file:
                return file.read(LONGEST_CHARACTERS + 2)
        except (OSError, UnicodeError):
            raise UsageError(f"{from_file} cannot be read as text.") from None
    if from_file is not None or not sys.stdin.isatty():
        return sys.stdin.read(LONGEST_CHARACTERS + 2)
    typed: str = click.prompt(f"New value of {name} (it is not shown)", hide_input=True, err=True)
    return typed


def _answer(check: Check, as_json: bool) -> int:
    if as_json:
        print_json(check.masked())
    else:
        _show(check)
    return EXIT_NOT_WELL if check.verdict == "critical" else 0


def _show(check: Check) -> None:
    word, colour = MARKS[check.verdict]
    click.echo(f"{click.style(word, fg=colour)}: {check.message}")
    if check.next:
        click.echo(f"  → {check.next}")


def _show_activated(done: Activated, as_json: bool, *, err: bool = False) -> None:
    if as_json:
        print_json(done.results())
        return
    click.echo(f"{done.name}: {done.handle} is in use. {done.stored}", err=err)
    click.echo(f"  → {done.next}", err=err)
