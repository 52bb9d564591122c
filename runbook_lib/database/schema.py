"""The schema: its version, and bringing it up to date.

What is needed at every start (is the schema current?) reads one row and imports no Alembic.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.errors

from runbook_lib.database.connection import Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone, DatabaseNotMigrated, RunbookError

if TYPE_CHECKING:
    import alembic.config

VERSION_TABLE = "runbook_schema_version"
MIGRATIONS_DIRECTORY = Path(__file__).resolve().parent / "migrations"
MIGRATION_DEADLINE_SECONDS = 600

_INDEX = re.compile(r"^CREATE (UNIQUE )?INDEX (\w+) ON (\w+)\s+([^;]+);", re.MULTILINE)
_CREATED = re.compile(
    r"^\s*CREATE (TABLE|VIEW|(?:UNIQUE )?INDEX|(?:OR REPLACE )?FUNCTION) (\w+)", re.MULTILINE
)


@cache
def expected_version() -> str:
    """The version that this program works with: the newest migration's number, such as `0001`."""
    return max(path.name.split("_")[0] for path in _versions().glob("[0-9]*_*.py"))


def current_version(database: Database) -> str | None:
    """The version that the database has; None when it was never migrated.

    Raises `CouldNotBeDone` when the role may not read it.
    """
    with database.transaction(read_only=True) as transaction:
        return _version(transaction, database)


def require_current(database: Database) -> None:
    """Raises `DatabaseNotMigrated`, with what to do, unless the schema is the one we work with."""
    current, expected = current_version(database), expected_version()
    where = f"The schema {database.schema!r} at {database.address}"
    if current is None:
        raise DatabaseNotMigrated(
            f"{where} does not hold the workbench's tables. Run `runbook db migrate`, "
            "or set RUNBOOK_DATABASE_SCHEMA to the schema that does."
        )
    if current < expected:
        raise DatabaseNotMigrated(
            f"{where} is at version {current}, this program needs {expected}. Run `runbook db migrate`."
        )
    if current > expected:
        raise DatabaseNotMigrated(_newer(where, current, expected))


def migrate(database: Database) -> str | None:
    """Brings the schema to the expected version, all or nothing; does nothing when it is there.

    Returns the version that it had before. Migrations of one schema wait for each other. Raises
    `DatabaseNotMigrated` when something foreign stands under one of our names or the schema is newer
    than this program, and `CouldNotBeDone` when the role may not make what is missing.
    """
    import alembic.command

    config = _configuration(database.schema)
    with _in_words(database), database.engine(MIGRATION_DEADLINE_SECONDS).begin() as link:
        transaction = Transaction(link.connection.driver_connection)  # type: ignore[arg-type]
        before = _prepare(transaction, database)
        if before != expected_version():
            config.attributes["connection"] = link
            alembic.command.upgrade(config, "head")
    return before


def migration_sql(schema: str = "public") -> str:
    """The statements that `migrate` runs on an empty database, for teams that run DDL elsewhere."""
    import alembic.command

    config = _configuration(schema)
    config.output_buffer = io.StringIO()
    alembic.command.upgrade(config, "head", sql=True)
    return config.output_buffer.getvalue()


@cache
def tables() -> tuple[str, ...]:
    """Our tables by name, in order; weekly partitions are reached through theirs."""
    return tuple(sorted({name for kind, name in _created() if kind == "TABLE"}))


def _prepare(transaction: Transaction, database: Database) -> str | None:
    """Locks, looks, refuses what is not ours, makes the schema. Returns the version that it had."""
    statements = load("schema")
    transaction.rows(statements["lock_migration"], schema=database.schema)
    before = _version(transaction, database)
    if before is None:
        _refuse_foreign(transaction, database)
    elif before > expected_version():
        where = f"The schema {database.schema!r} at {database.address}"
        raise DatabaseNotMigrated(_newer(where, before, expected_version()))
    if not transaction.value(statements["schema_exists"], schema=database.schema):
        transaction.run(statements["create_schema"], schema=database.schema)
    return before


def _version(transaction: Transaction, database: Database) -> str | None:
    statements = load("schema")
    if not transaction.value(statements["version_table_exists"], schema=database.schema):
        return None
    try:
        found: str | None = transaction.value(statements["read_version"])
    except psycopg2.errors.InsufficientPrivilege:
        raise CouldNotBeDone(
            f"This role may not read {database.schema}.{VERSION_TABLE} at {database.address}. "
            "`runbook db grants ROLE`, run by the owner, prints what a worker's role needs."
        ) from None
    return found


def _refuse_foreign(transaction: Transaction, database: Database) -> None:
    names = [name for _, name in _created()]
    found = transaction.rows(
        load("schema")["occupied_names"], schema=database.schema, names=[*names, VERSION_TABLE]
    )
    if not found:
        return
    listed = "; ".join(
        f"{row.kind} {row.name}" + (f" ({', '.join(row.columns[:12])})" if row.columns else "")
        for row in found[:6]
    )
    raise DatabaseNotMigrated(
        f"The schema {database.schema!r} at {database.address} already holds {listed}, "
        "which the workbench did not make. Nothing was changed. Set RUNBOOK_DATABASE_SCHEMA to a name "
        "of its own (it is made if the role may), or let `runbook doctor` propose how to read these."
    )


def _newer(where: str, current: str, expected: str) -> str:
    return (
        f"{where} is at version {current}, this program knows versions up to {expected}. "
        "Update the program; going back would lose data."
    )


@dataclass(frozen=True)
class OwnIndex:
    """An index as our migrations make it: `rest` is what follows the table's name."""

    name: str
    table: str
    unique: bool
    rest: str


@cache
def own_indexes() -> tuple[OwnIndex, ...]:
    """Every index that the migrations make by name."""
    return tuple(
        OwnIndex(name, table, bool(unique), " ".join(rest.split()))
        for path in sorted(_versions().glob("*.sql"))
        for unique, name, table, rest in _INDEX.findall(path.read_text("utf-8"))
    )


@contextmanager
def _in_words(database: Database) -> Iterator[None]:
    """Turns what PostgreSQL and Alembic say into what to do."""
    import sqlalchemy.exc

    try:
        yield
    except RunbookError:
        raise
    except (psycopg2.Error, sqlalchemy.exc.SQLAlchemyError) as error:
        reason = getattr(error, "orig", None) or error
        told = str(reason).strip().split("\n")[0]
        if isinstance(reason, psycopg2.errors.InsufficientPrivilege):
            raise CouldNotBeDone(
                f"The role may not make the schema {database.schema!r} at {database.address}: {told}. "
                "Nothing was changed. Have its owner grant it (GRANT USAGE, CREATE ON SCHEMA …; for a "
                "schema that is absent, GRANT CREATE ON DATABASE …), or run `runbook db migrate --sql` "
                "and have somebody run what it prints."
            ) from None
        if isinstance(reason, psycopg2.errors.LockNotAvailable | psycopg2.errors.QueryCanceled):
            raise CouldNotBeDone(
                f"The migration of {database.address} waited too long and was undone: {told}. "
                "Another session holds a lock; look at `pg_stat_activity`, then try again."
            ) from None
        raise CouldNotBeDone(
            f"The migration of {database.address} failed and was undone: {told}"
        ) from error


def _configuration(schema: str) -> alembic.config.Config:
    import alembic.config

    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS_DIRECTORY).replace("%", "%%"))
    config.attributes["schema"] = schema
    return config


@cache
def _created() -> tuple[tuple[str, str], ...]:
    """Kind and name of everything that the migrations make."""
    found: list[tuple[str, str]] = []
    for path in sorted(_versions().glob("*.sql")):
        found += [(kind, name) for kind, name in _CREATED.findall(path.read_text("utf-8"))]
    return tuple(found)


def _versions() -> Path:
    return MIGRATIONS_DIRECTORY / "versions"


def execute_file(context: Any, file: Path) -> None:
    """Runs a migration's `.sql` file, or prints it in offline mode. Called by the migrations."""
    text = file.read_text("utf-8")
    if context.as_sql:
        context.impl.static_output(text)
        return
    with context.connection.connection.cursor() as cursor:
        cursor.execute(text)
