"""What a role needs to read a pipeline that is not ours: printed for its owner, never run."""

from __future__ import annotations

from runbook_lib.database.statements import load
from runbook_lib.errors import UsageError
from runbook_lib.health.attachment import their_definitions
from runbook_lib.health.mapping_reader import read_mapping
from runbook_lib.health.sources import their_database
from runbook_lib.settings import Settings

_SQL = load("relations")


def reading_grants(settings: Settings, role: str) -> list[str]:
    """SELECT on exactly the columns that the mapping names, and what is optional, with what it buys.

    Raises `UsageError` without `RUNBOOK_MAPPING`, and `ConfigurationError` for one that does not fit.
    """
    if settings.runbook_mapping is None:
        raise UsageError(
            "RUNBOOK_MAPPING is not set: it says which tables and columns are read. "
            "`runbook doctor --propose-mapping FILE` writes one."
        )
    mapping = read_mapping(settings.runbook_mapping)
    own_schema = settings.own_tables_url() == settings.database_url
    with (
        their_database(settings, mapping) as pipeline,
        pipeline.transaction(read_only=True) as transaction,
    ):
        their_definitions(transaction, mapping)
        found = transaction.rows(
            _SQL["reading_grants"],
            role=role,
            **mapping.places(),
            own_schema=settings.runbook_database_schema if own_schema else None,
        )
    return [row.statement for row in found]
