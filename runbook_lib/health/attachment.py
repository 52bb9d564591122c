"""Checks a mapping against their catalog and writes the SELECTs by which their tables are read as ours."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

from runbook_lib.database.connection import Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.health.mapping_reader import PipelineMapping, TableMapping, complaint, nearest
from runbook_lib.health.relations import KEY, MOMENT, RELATIONS

# Keys that are joined as they are; any other is joined as text.
_KEY_TYPES = ("uuid", "smallint", "integer", "bigint", "text")
_MOMENTS = (MOMENT, "timestamp without time zone", "date")
_NUMBERS = ("integer", "bigint", "numeric", "double precision")

_SQL = load("relations")


@cache
def our_definitions() -> dict[str, str]:
    """How our own tables are read."""
    return {"jobs": str(_SQL["our_jobs"]), "runs": str(_SQL["our_runs"])}


class TheirDefinitions:
    """How their tables are read: found out once, when it is first needed. Any thread may ask."""

    def __init__(self, pipeline: Database, mapping: PipelineMapping) -> None:
        self._pipeline = pipeline
        self._mapping = mapping
        self._found: dict[str, str] | None = None
        self._asking = threading.Lock()

    def __call__(self) -> dict[str, str]:
        with self._asking:
            if self._found is None:
                with self._pipeline.transaction(read_only=True) as transaction:
                    self._found = their_definitions(transaction, self._mapping)
            return self._found


def their_definitions(transaction: Transaction, mapping: PipelineMapping) -> dict[str, str]:
    """How their tables are read. Reads catalogs only, no row of theirs.

    Raises `ConfigurationError` for a table or column that is not there, or of a type that does not fit.
    """
    found = {
        mapped.ours: _checked_columns(transaction, mapping, mapped) for mapped in mapping.tables
    }
    key = _key_type(mapping, found)
    return {
        ours: _definition(transaction, mapped, ours, key)
        for ours, mapped in (("jobs", mapping.jobs), ("runs", mapping.runs))
    }


def _checked_columns(
    transaction: Transaction, mapping: PipelineMapping, mapped: TableMapping
) -> dict[str, Any]:
    found = {
        row.name: row
        for row in transaction.rows(_SQL["their_columns"], schema=mapped.schema, table=mapped.table)
    }
    if not found:
        titles = [row.title for row in transaction.rows(_SQL["their_tables"])]
        raise complaint(
            mapping.file,
            f"{mapped.ours}.table",
            f"names {mapped.title}, which does not exist in this database; {nearest(mapped.title, titles)}",
        )
    for ours, theirs in mapped.columns.items():
        where, wanted = f"{mapped.ours}.columns.{ours}", RELATIONS[mapped.ours][ours]
        if theirs not in found:
            raise complaint(
                mapping.file,
                where,
                f"names {theirs!r}, which {mapped.title} does not have; {nearest(theirs, found)}",
            )
        if not _fits(wanted, found[theirs]):
            raise complaint(
                mapping.file,
                where,
                f"names {theirs!r}, whose type is {found[theirs].type_name}; expected {wanted}",
            )
    return found


def _fits(wanted: str, column: Any) -> bool:
    if wanted == MOMENT:
        return column.type_name in _MOMENTS
    if wanted in _NUMBERS:
        return bool(column.type_category == "N")
    return wanted != "boolean" or bool(column.type_category == "B")


def _key_type(mapping: PipelineMapping, found: Mapping[str, Mapping[str, Any]]) -> str:
    types = {
        found[mapped.ours][mapped.columns["job_id"]].type_name
        for mapped in mapping.tables
        if "job_id" in mapped.columns
    }
    only = next(iter(types)) if len(types) == 1 else "text"
    return only if only in _KEY_TYPES else "text"


def _definition(transaction: Transaction, mapped: TableMapping | None, ours: str, key: str) -> str:
    types = {name: key if wanted == KEY else wanted for name, wanted in RELATIONS[ours].items()}
    if mapped is None:
        return str(transaction.value(_SQL["no_rows"], ours=list(types), types=list(types.values())))
    columns = dict(mapped.columns)
    if "job_id" in columns:
        columns["job_key"] = columns["job_id"]
    words = mapped.words if "status" in columns else {}
    text: str = transaction.value(
        _SQL["definition"],
        schema=mapped.schema,
        table=mapped.table,
        ours=list(types),
        types=list(types.values()),
        theirs=[columns.get(name) for name in types],
        status=columns.get("status"),
        words=list(words),
        meanings=list(words.values()),
        left_out=list(mapped.left_out) if "status" in columns else [],
        required=columns.get("execution_time"),
        only_known=mapped.only_known,
        timezone=mapped.timezone,
    )
    # It becomes part of statements with binds, in which a percent sign is doubled.
    return text.replace("%", "%%")
