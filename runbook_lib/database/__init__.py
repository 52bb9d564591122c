"""The database: connections, statements, the embedded server and the schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook_lib.database.connection import (
    Connection,
    Database,
    Transaction,
    UnavailableDatabase,
)
from runbook_lib.errors import (
    ConfigurationError,
    DatabaseUnreachable,
    DeadlineExceeded,
    ServiceNotStarted,
)

if TYPE_CHECKING:
    from runbook_lib.settings import Settings

__all__ = [
    "Connection",
    "Database",
    "Transaction",
    "UnavailableDatabase",
    "open_database",
    "open_own_pipeline",
    "open_reachable_or_not",
    "own_tables",
]


def open_database(
    settings: Settings, application_name: str = "runbook", *, require_schema: bool = True
) -> Database:
    """The database that holds our own tables; where none is named, the embedded server, started and migrated.

    For our own pipeline that is `DATABASE_URL`, and the pipeline's tables are there too. For one that is
    not ours it is never theirs: `health.sources.open_sources` opens both. In a database that the settings
    name nothing is started and nothing migrated. Raises `ConfigurationError` for settings that contradict
    each other, `DatabaseNotMigrated` when its schema is not the one this version expects and
    `DatabaseUnreachable` when there is no connection (unless `require_schema` is False: then nothing is
    connected to), and `ServiceNotStarted` when the embedded server does not come up.
    """
    from runbook_lib.database import schema

    database = own_tables(settings, application_name)
    if settings.own_tables_url() is not None:
        if require_schema:
            schema.require_current(database)
    elif schema.current_version(database) != schema.expected_version():
        schema.migrate(database)
    return database


def open_reachable_or_not(settings: Settings, application_name: str = "runbook") -> Database:
    """As `open_database`, for work that also goes on while the database is away.

    Whoever asks the database then gets the reason, and an answer as soon as it is back; an embedded
    server that did not come up is not tried again.
    """
    try:
        return open_database(settings, application_name)
    except (DatabaseUnreachable, DeadlineExceeded):
        if settings.own_tables_url() is None:
            raise
        return own_tables(settings, application_name)
    except ServiceNotStarted as error:
        return UnavailableDatabase(error)


def open_own_pipeline(
    settings: Settings, application_name: str = "runbook", *, reachable_or_not: bool = False
) -> Database:
    """As the two above, for what works on a pipeline of our own: jobs, posts, pauses, limits.

    Raises `ConfigurationError` as well when the pipeline is not ours.
    """
    if settings.attached:
        raise ConfigurationError(
            "RUNBOOK_MAPPING says that the pipeline is not ours: the workbench watches it and writes nothing there, "
            "so there is no worker, and no job, post, pause or limit of ours. Unset RUNBOOK_MAPPING to work on our "
            "own tables; docs/adopting.md says what works with a pipeline that is not ours."
        )
    opening = open_reachable_or_not if reachable_or_not else open_database
    return opening(settings, application_name)


def own_tables(settings: Settings, application_name: str = "runbook") -> Database:
    """Where our own tables are, migrated or not; the embedded server is started."""
    from runbook_lib.database import embedded
    from runbook_lib.database.addresses import followed_address

    address, hold = settings.own_tables_url(), None
    if address is None:
        url, hold = embedded.acquire(settings.runbook_home)
    else:
        url = address.get_secret_value()
    return Database(
        url,
        schema=settings.runbook_database_schema,
        deadline_seconds=settings.runbook_database_deadline_seconds,
        application_name=application_name,
        hold=hold,
        only_schema=settings.attached,
        present_url=None if address is None else followed_address(settings),
    )
