"""The database: connections, statements, the embedded server and the schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook_lib.database.connection import Connection, Database, Transaction

if TYPE_CHECKING:
    from runbook_lib.settings import Settings

__all__ = ["Connection", "Database", "Transaction", "open_database"]


def open_database(
    settings: Settings, application_name: str = "runbook", *, require_schema: bool = True
) -> Database:
    """The database that the settings name; without one, the embedded server, started and migrated.

    With `DATABASE_URL` set nothing is started and nothing migrated. Raises `DatabaseNotMigrated`
    when its schema is not the one this version expects (unless `require_schema` is False: then nothing
    is connected to), and `ServiceNotStarted` when the embedded server does not come up.
    """
    from runbook_lib.database import embedded, schema

    if settings.database_url is not None:
        database = Database(
            settings.database_url.get_secret_value(),
            schema=settings.runbook_database_schema,
            deadline_seconds=settings.runbook_database_deadline_seconds,
            application_name=application_name,
        )
        if require_schema:
            schema.require_current(database)
        return database
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
