"""The database: connections, statements, the embedded server and the schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook_lib.database.connection import (
    Connection,
    Database,
    Transaction,
    UnavailableDatabase,
)
from runbook_lib.errors import DatabaseUnreachable, DeadlineExceeded, ServiceNotStarted

if TYPE_CHECKING:
    from runbook_lib.settings import Settings

__all__ = [
    "Connection",
    "Database",
    "Transaction",
    "UnavailableDatabase",
    "open_database",
    "open_reachable_or_not",
]


def open_database(
    settings: Settings, application_name: str = "runbook", *, require_schema: bool = True
) -> Database:
    """The database that the settings name; without one, the embedded server, started and migrated.

    With `DATABASE_URL` set nothing is started and nothing migrated. Raises `DatabaseNotMigrated`
    when its schema is not the one this version expects and `DatabaseUnreachable` when there is no
    connection (unless `require_schema` is False: then nothing is connected to), and
    `ServiceNotStarted` when the embedded server does not come up.
    """
    from runbook_lib.database import schema

    if settings.database_url is not None:
        database = _named(settings, application_name)
        if require_schema:
            schema.require_current(database)
        return database
    return _embedded(settings, application_name)


def open_reachable_or_not(settings: Settings, application_name: str = "runbook") -> Database:
    """As `open_database`, for work that also goes on while the database is away.

    Whoever asks the database then gets the reason, and an answer as soon as it is back; an embedded
    server that did not come up is not tried again.
    """
    try:
        return open_database(settings, application_name)
    except (DatabaseUnreachable, DeadlineExceeded):
        if settings.database_url is None:
            raise
        return _named(settings, application_name)
    except ServiceNotStarted as error:
        return UnavailableDatabase(error)


def _named(settings: Settings, application_name: str) -> Database:
    assert settings.database_url is not None
    return Database(
        settings.database_url.get_secret_value(),
        schema=settings.runbook_database_schema,
        deadline_seconds=settings.runbook_database_deadline_seconds,
        application_name=application_name,
    )


def _embedded(settings: Settings, application_name: str) -> Database:
    from runbook_lib.database import embedded, schema

    url, hold = embedded.acquire(settings.runbook_home)
    database = Database(
        url,
        schema=settings.runbook_database_schema,
        deadline_seconds=settings.runbook_database_deadline_seconds,
        application_name=application_name,
        hold=hold,
    )
    if schema.current_version(database) != schema.expected_version():
        schema.migrate(database)
    return database
