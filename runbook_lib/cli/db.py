"""`runbook db`: the embedded server up and down, where the database is, and its schema."""

from __future__ import annotations

from typing import Any

import click
from psycopg2.errors import InsufficientPrivilege

from runbook_lib.cli.output import actor_option, json_option, print_json
from runbook_lib.database import Database, embedded, own_tables, roles, schema
from runbook_lib.database.connection import address_without_secret, normalise_url
from runbook_lib.database.roles import PURPOSES
from runbook_lib.database.statements import load
from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL, CouldNotBeDone, RunbookError, UsageError
from runbook_lib.settings import Settings, current_actor, load_settings

STOP_SECONDS = 60
APPLICATION_NAME = "runbook db"


@click.group()
def db() -> None:
    """The database with our own tables. Where none is named: a PostgreSQL under RUNBOOK_HOME, started as needed.

    With RUNBOOK_MAPPING that is never the pipeline's own: RUNBOOK_DATABASE_URL, or the schema
    RUNBOOK_DATABASE_SCHEMA beside theirs, or the PostgreSQL under RUNBOOK_HOME.
    """


@db.command()
@json_option
def up(as_json: bool) -> None:
    """Start the embedded PostgreSQL and keep it until `runbook db down`, or a restart of the machine.

    Without this it runs for as long as some command or worker needs it.
    """
    settings = load_settings()
    if settings.own_tables_url() is not None:
        _answer(
            as_json,
            {"started": False, "kept": False, "reason": not_ours(settings)},
            not_ours(settings),
        )
        return
    database = _database(settings, embedded.keep(settings.runbook_home))
    schema.migrate(database)
    _answer(
        as_json,
        {"started": True, "kept": True, "address": database.address},
        f"PostgreSQL is up at {database.address} until `runbook db down`. "
        "`runbook db url` prints its address with the password.",
    )


@db.command()
@json_option
def down(as_json: bool) -> None:
    """Let go of the embedded PostgreSQL; it stops once no command or worker needs it."""
    settings = load_settings()
    if settings.own_tables_url() is not None:
        _answer(as_json, {"stopped": False, "reason": not_ours(settings)}, not_ours(settings))
        return
    process = embedded.server(settings.runbook_home)
    was_kept = process.let_go()
    if process.status().held:
        words = "It is no longer kept, and stops when the commands and workers that use it end."
        _answer(as_json, {"stopped": False, "was_kept": was_kept, "in_use": True}, words)
        return
    if not process.wait_until_stopped(STOP_SECONDS):
        raise CouldNotBeDone(
            f"PostgreSQL did not stop within {STOP_SECONDS} s. Its log is {process.log}."
        )
    words = "PostgreSQL is down." if was_kept else "PostgreSQL is down; it was not kept up."
    _answer(as_json, {"stopped": True, "was_kept": was_kept, "in_use": False}, words)


@db.command()
@json_option
def status(as_json: bool) -> int:
    """Which database is used, whether it runs, and whether its schema is current.

    Starts nothing. Exit status 1 when a database is not reachable or not migrated; an embedded one
    that nobody needs just now is well.
    """
    settings = load_settings()
    found = _look(settings)
    words = [f"{name.replace('_', ' ') + ':':<17} {_shown(value)}" for name, value in found.items()]
    _answer(as_json, found, "\n".join(words))
    resting = found["embedded"] and not found["running"]
    return EXIT_DONE if resting or found["schema_current"] else EXIT_NOT_WELL


@db.command()
@json_option
def url(as_json: bool) -> None:
    """Print the database's address WITH its password, for psql and other programs.

    The embedded server must be up (`runbook db up`).
    """
    found = _address(load_settings())
    if found is None:
        raise CouldNotBeDone(
            "The embedded PostgreSQL is not running. `runbook db up` starts it and keeps it."
        )
    _answer(as_json, {"url": found}, found)


@db.command()
@click.option("--sql", "as_sql", is_flag=True, help="Print the statements and connect to nothing.")
@actor_option
@json_option
def migrate(as_sql: bool, actor: str | None, as_json: bool) -> None:
    """Bring the schema to the version that this program needs: all of it, or nothing."""
    settings = load_settings()
    if as_sql:
        text = schema.migration_sql(settings.runbook_database_schema)
        _answer(as_json, {"sql": text}, text.rstrip())
        return
    who = current_actor(actor)
    _refuse_theirs(settings)
    with own_tables(settings, APPLICATION_NAME) as database:
        before, after = schema.migrate(database), schema.expected_version()
        if before != after:
            _record(database, who, before, after)
    record = {"before": before, "after": after, "changed": before != after}
    where = f"The schema {database.schema!r} at {database.address}"
    done = f"went from {before or 'nothing'} to version {after}"
    words = f"{where} {done}." if before != after else f"{where} is at version {after} already."
    _answer(as_json, record, words)


@db.command()
@click.argument("role")
@click.option(
    "--as",
    "purpose",
    type=click.Choice(PURPOSES),
    default="worker",
    show_default=True,
    help="What ROLE is for.",
)
@click.option(
    "--apply", "apply_them", is_flag=True, help="Run them: ROLE then has this and no more."
)
@click.option(
    "--attached",
    is_flag=True,
    help="What ROLE needs to read a pipeline that is not ours, by RUNBOOK_MAPPING.",
)
@actor_option
@json_option
def grants(
    role: str, purpose: str, apply_them: bool, attached: bool, actor: str | None, as_json: bool
) -> None:
    """Print the statements that make ROLE fit its purpose and no more; the tables' owner runs them.

    A reader looks at everything and writes nothing; an operator plans, applies, runs procedures, console,
    monitor and scheduler; a worker runs jobs. What ROLE has on our tables beyond that is taken away.
    """
    settings = load_settings()
    if attached and apply_them:
        raise UsageError("The tables of a pipeline that is not ours are their owner's: print the statements, and let them run them.")  # fmt: skip
    if attached:
        from runbook_lib.health.grants import reading_grants

        statements = reading_grants(settings, role)
    else:
        with own_tables(settings, APPLICATION_NAME) as database:
            schema.require_current(database)
            statements = _grants(database, role, purpose, current_actor(actor) if apply_them else None)  # fmt: skip
    record = {"role": role, "purpose": purpose, "applied": apply_them, "statements": statements}
    done = f"{role} is {roles.titled(purpose)} now, and no more: {len(statements)} statements were run."
    _answer(as_json, record, done if apply_them else "\n".join(statements))


def _grants(database: Database, role: str, purpose: str, actor: str | None) -> list[str]:
    """The statements; run as well, and recorded, where somebody is named who does it."""
    if actor is None:
        return roles.grants(database, role, purpose)
    from runbook_lib.changes import admin_action

    with admin_action(database, actor=actor, action="db.grants", target=f"{role} as {purpose}") as action:  # fmt: skip
        try:
            with database.transaction() as transaction:
                statements = roles.apply_grants(transaction, database.schema, role, purpose)
                action.done(transaction, after={"statements": statements})
        except InsufficientPrivilege as error:
            raise CouldNotBeDone(f"This role may not grant that: {str(error).strip().splitlines()[0]}. Run the printed statements as the tables' owner.") from None  # fmt: skip
    return statements


def not_ours(settings: Settings) -> str:
    """Why no server is started or stopped."""
    named = "RUNBOOK_DATABASE_URL" if settings.runbook_database_url else "DATABASE_URL"
    return f"{named} is set: the workbench uses that server, and starts or stops none."


def _answer(as_json: bool, record: dict[str, Any], words: str) -> None:
    if as_json:
        print_json(record)
    else:
        click.echo(words)


def _database(settings: Settings, address: str) -> Database:
    return Database(
        address,
        schema=settings.runbook_database_schema,
        deadline_seconds=settings.runbook_database_deadline_seconds,
        application_name=APPLICATION_NAME,
        only_schema=settings.attached,
    )


def _refuse_theirs(settings: Settings) -> None:
    """Our tables never stand beside those of a pipeline that is not ours."""
    if settings.runbook_mapping is None:
        return
    from runbook_lib.health.mapping_reader import read_mapping
    from runbook_lib.health.sources import refuse_their_schema, refuse_their_tables

    mapping = read_mapping(settings.runbook_mapping)
    refuse_their_schema(settings, mapping)
    with (
        own_tables(settings, APPLICATION_NAME) as database,
        database.transaction(read_only=True) as transaction,
    ):
        refuse_their_tables(transaction, database, mapping)


def _address(settings: Settings) -> str | None:
    """The address with its password; None when the embedded server does not run."""
    url = settings.own_tables_url()
    if url is not None:
        return normalise_url(url.get_secret_value())
    process = embedded.server(settings.runbook_home).status()
    return embedded.address(settings.runbook_home, process.state) if process.ready else None


def _look(settings: Settings) -> dict[str, Any]:
    process = embedded.server(settings.runbook_home).status()
    ours = settings.own_tables_url() is None
    found: dict[str, Any] = {
        "attached_to": _pipeline_address(settings),
        "embedded": ours,
        "address": None,
        "running": process.ready if ours else None,
        "kept": process.kept if ours else None,
        "in_use": process.held if ours else None,
        "server_version": None,
        "schema": settings.runbook_database_schema,
        "schema_version": None,
        "schema_expected": schema.expected_version(),
        "schema_current": False,
        "problem": None,
    }
    address = _address(settings)
    if address is None:
        return found
    database = _database(settings, address)
    found["address"] = database.address
    try:
        with database.transaction(read_only=True) as transaction:
            found["server_version"] = transaction.value(load("schema")["server_version"])
        found["schema_version"] = schema.current_version(database)
        schema.require_current(database)
        found["schema_current"] = True
    except RunbookError as error:
        found["problem"] = str(error)
    return found


def _pipeline_address(settings: Settings) -> str | None:
    """Where the pipeline is when it is not ours, without the password."""
    if not settings.attached or settings.database_url is None:
        return None
    return address_without_secret(normalise_url(settings.database_url.get_secret_value()))


def _shown(value: Any) -> str:
    return {True: "yes", False: "no", None: "-"}.get(value, str(value))


def _record(database: Database, actor: str, before: str | None, after: str) -> None:
    from runbook_lib.changes import admin_action

    with admin_action(database, actor=actor, action="db.migrate", target=database.schema) as action:
        action.before, action.after = {"version": before}, {"version": after}
