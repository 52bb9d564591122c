"""Indexes that our schema has and the database lacks: made again as a planned change, beside running work.

Each is made as the migration has it, CONCURRENTLY: nobody who reads or writes waits. One whose build failed
before is dropped first. A large table takes minutes, and the database's disk needs room for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import psycopg2

from runbook_lib.changes import (
    ChangedRow,
    Preview,
    SeenRow,
    StepwiseKind,
    register,
    undo_parameters,
)
from runbook_lib.database import Database, Transaction
from runbook_lib.database.connection import Connection
from runbook_lib.database.schema import OwnIndex, own_indexes
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone, UsageError
from runbook_lib.health.answers import size_words

_SQL = load("index_changes")
BUILD_SECONDS = 3600.0


class CreateIndexes(StepwiseKind):
    """Makes the schema's own indexes again that are absent or whose build failed."""

    name = "indexes.create"
    summary = (
        "Makes indexes of the schema again that are absent or broken, without stopping anybody."
    )
    parameters: ClassVar[Mapping[str, str]] = {"names": "only these, separated by commas"}
    inverse = "indexes.drop"
    row_limit = 50
    row_deadline_seconds = BUILD_SECONDS

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        named = given.get("names") or []
        names = sorted(
            {each.strip() for each in (named.split(",") if isinstance(named, str) else named)}
        )
        known = {index.name for index in own_indexes()}
        if unknown := [name for name in names if name not in known]:
            raise UsageError(f"The schema has no index {', '.join(unknown)}: only its own are made.")  # fmt: skip
        return {"names": names or None}

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        rows = [_seen(row) for row in wanted_indexes(transaction, parameters["names"])]
        return Preview(rows, len(rows))

    @contextmanager
    def applier(
        self, database: Database, parameters: Mapping[str, Any], actor: str
    ) -> Iterator[Callable[[SeenRow], ChangedRow]]:
        definitions = {index.name: index for index in own_indexes()}
        with database.connect() as connection:
            yield lambda row: _make(connection, row, definitions[row.key])


class DropIndexes(StepwiseKind):
    """Drops the indexes again that a change made."""

    name = "indexes.drop"
    summary = "Drops the indexes again that a change made."
    parameters: ClassVar[Mapping[str, str]] = {"change": "the change that made them"}
    row_limit = CreateIndexes.row_limit
    row_deadline_seconds = 600.0

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return undo_parameters(given)

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        rows = [
            SeenRow(row.name, {"schema": row.schema_name}, {"size": size_words(row.size_bytes)})
            for row in transaction.rows(_SQL["indexes_made"], change_id=parameters["change"])
        ]
        return Preview(rows, len(rows))

    @contextmanager
    def applier(
        self, database: Database, parameters: Mapping[str, Any], actor: str
    ) -> Iterator[Callable[[SeenRow], ChangedRow]]:
        with database.connect() as connection:

            def drop(row: SeenRow) -> ChangedRow:
                if _state(connection, row.seen["schema"], row.key) != "absent":
                    _drop(connection, row.seen["schema"], row.key)
                return ChangedRow(row.key, {"state": "valid"}, {"state": "absent"})

            yield drop


def wanted_indexes(transaction: Transaction, names: list[str] | None = None) -> list[Any]:
    """The schema's own indexes that are absent or cannot be used; only these, where some are named."""
    wanted = [index for index in own_indexes() if names is None or index.name in names]
    return transaction.rows(
        _SQL["indexes_wanted"],
        names=[index.name for index in wanted],
        tables=[index.table for index in wanted],
    )


def _seen(row: Any) -> SeenRow:
    shown = {
        "table": row.table_name, "rows": max(0, row.estimated_rows), "table_size": size_words(row.table_bytes),
        "owner": row.owner,
    }  # fmt: skip
    return SeenRow(row.name, {"state": row.state, "schema": row.schema_name, "may": row.may}, shown)


def _make(connection: Connection, row: SeenRow, index: OwnIndex) -> ChangedRow:
    schema = row.seen["schema"]
    if not row.seen["may"]:
        raise CouldNotBeDone(f"Only {row.shown.get('owner', 'its owner')}, who owns the table {index.table}, may make {index.name}.")  # fmt: skip
    state = _state(connection, schema, index.name)
    if state == "invalid":
        _drop(connection, schema, index.name)
    if state != "valid":
        definition = {"unique": index.unique, "name": index.name, "table": index.table, "rest": index.rest}  # fmt: skip
        _run(connection, "create_statement", BUILD_SECONDS, schema=schema, **definition)
    after = {"state": _state(connection, schema, index.name), "schema": schema}
    return ChangedRow(row.key, {"state": row.seen["state"]}, after)


def _drop(connection: Connection, schema: str, name: str) -> None:
    _run(connection, "drop_statement", DropIndexes.row_deadline_seconds, schema=schema, name=name)


def _run(connection: Connection, made_by: str, seconds: float, **names: Any) -> None:
    with connection.transaction(read_only=True) as transaction:
        statement: str = transaction.value(_SQL[made_by], **names)
    try:
        connection.run_alone(statement, deadline_seconds=seconds)
    except psycopg2.Error as error:
        told = str(error).strip().splitlines()[0]
        raise CouldNotBeDone(f"The index {names['name']} was not made or dropped: {told}. Nothing else was changed.") from None  # fmt: skip


def _state(connection: Connection, schema: str, name: str) -> str:
    with connection.transaction(read_only=True) as transaction:
        found: str = transaction.value(_SQL["index_state"], schema=schema, name=name)
    return found


register(CreateIndexes())
register(DropIndexes())
