"""Indexes that are missing for our own statements: the server is asked how it would answer each of them.

Nothing is executed. A plan that reads all of a large table to keep a few of its rows is what an index is
missing for; statistics of columns, which the written runbook looks at, say nothing of that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg2

from runbook_lib.database.connection import Connection, quoted_name
from runbook_lib.database.statements import Statement, load
from runbook_lib.errors import RunbookError
from runbook_lib.health.answers import size_words
from runbook_lib.health.sources import Sources
from runbook_lib.maintenance.indexes import Suggestion

_SQL = load("index_review")
# The statements that workers, checks and commands ask again and again.
FILES = ("jobs", "retries", "queue_checks", "stuck", "jobs_seen", "operations", "history", "brakes", "permits")  # fmt: skip
LARGE_PAGES = 1_000
# An index helps where so small a share of the rows is kept.
SELECTIVE_SHARE = 0.05
PLAN_SECONDS = 5.0
_BIND = re.compile(r"%\((\w+)\)s")
_CONDITION = re.compile(r"\(?\b(\w+)\b(?:\)?::\w+(?: \w+)*)? (=|<=|>=|<|>) ")
_NULL_TEST = re.compile(r"\b(\w+) IS (NOT )?NULL")
_PAGE_BYTES = 8192


@dataclass(frozen=True)
class Scan:
    """A plan that reads all of a large table and keeps few of its rows."""

    source: str
    table_name: str
    filter: str
    pages: int
    share: float


@dataclass(frozen=True)
class OwnPlans:
    """What was asked, what could not be planned, and which plans read too much."""

    planned: int
    not_planned: Mapping[str, str]
    scans: tuple[Scan, ...]
    tables: Mapping[str, Any]

    def suggestions(self) -> list[Suggestion]:
        """An index for each table and set of columns, whatever number of statements want it."""
        wanted: dict[tuple[str, tuple[str, ...]], list[Scan]] = {}
        for scan in self.scans:
            if columns := index_columns(scan.filter):
                wanted.setdefault((scan.table_name, columns), []).append(scan)
        return [
            _suggested(root, columns, scans, self.tables[scans[0].table_name])
            for (_, columns), scans in wanted.items()
            for root in [self.tables[scans[0].table_name].root]
        ]


def own_plans(sources: Sources, files: Iterable[str] = FILES) -> OwnPlans:
    """Plans our statements for any value and looks for scans that an index would spare.

    Raises what the database raises when it cannot be asked at all.
    """
    planned, not_planned = 0, {}
    scans: list[Scan] = []
    with sources.pipeline.connect() as connection:
        with connection.transaction(read_only=True) as transaction:
            tables = {row.table_name: row for row in transaction.rows(_SQL["large_tables"])}
        for statement in _statements(files):
            try:
                plan = _plan(connection, sources.reading(statement))
            except (psycopg2.Error, RunbookError) as error:
                not_planned[statement.source] = str(error).strip().split("\n")[0]
                continue
            planned += 1
            scans += _wasteful(statement.source, plan, tables)
    return OwnPlans(planned, not_planned, tuple(scans), tables)


def index_columns(condition: str) -> tuple[str, ...]:
    """The columns of a filter in an index's order: those compared for equality, then one range."""
    equal = [name for name, sign in _CONDITION.findall(condition) if sign == "="]
    ranges = [name for name, sign in _CONDITION.findall(condition) if sign != "="]
    names = [*dict.fromkeys(equal), *[name for name in dict.fromkeys(ranges) if name not in equal][:1]]  # fmt: skip
    return tuple(name for name in names if not name.isdigit())


def _statements(files: Iterable[str]) -> Iterator[Statement]:
    for file in files:
        for statement in load(file).values():
            if re.match(r"\s*(WITH|SELECT|UPDATE|DELETE)\b", statement.text, re.IGNORECASE):
                yield statement


def _plan(connection: Connection, statement: Statement) -> Any:
    """The plan for any value: prepared and explained in one transaction, so a pooler may stand in between."""
    names = list(dict.fromkeys(_BIND.findall(statement.text)))
    text = _BIND.sub(lambda found: f"${names.index(found[1]) + 1}", statement.text).replace("%%", "%")  # fmt: skip
    values = f"({', '.join(['NULL'] * len(names))})" if names else ""
    with connection.transaction(read_only=True, deadline_seconds=PLAN_SECONDS) as transaction:
        transaction.rows(_SQL["generic_plans"])
        with transaction.raw.cursor() as cursor:
            cursor.execute(str(_SQL["prepare"]).replace("{statement}", text))
            cursor.execute(str(_SQL["may_fail"]))
            try:
                cursor.execute(str(_SQL["explain"]).replace("{values}", values))
                row = cursor.fetchone()
            except psycopg2.Error:
                cursor.execute(str(_SQL["failed"]))
                raise
            finally:
                # Prepared statements outlive the transaction, and behind a pooler the session is not ours.
                cursor.execute(str(_SQL["forget"]))
    assert row is not None
    found = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return found[0]["Plan"]


def _wasteful(source: str, plan: Mapping[str, Any], tables: Mapping[str, Any]) -> Iterator[Scan]:
    for node in _nodes(plan):
        table = tables.get(node.get("Relation Name", ""))
        if node["Node Type"] != "Seq Scan" or table is None or "Filter" not in node:
            continue
        if " OR " in node["Filter"]:  # conditions that may be left out: no index serves all of them
            continue
        share = node["Plan Rows"] / max(1, table.estimated_rows)
        if table.pages >= LARGE_PAGES and share <= SELECTIVE_SHARE:
            yield Scan(source, table.table_name, node["Filter"], table.pages, share)


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _suggested(table_name: str, columns: tuple[str, ...], scans: list[Scan], table: Any) -> Suggestion:  # fmt: skip
    named = ", ".join(sorted({scan.source for scan in scans}))
    keys = ", ".join(quoted_name(column) for column in columns)
    partition = scans[0].table_name
    statement = f"CREATE INDEX CONCURRENTLY ON {quoted_name(partition)} ({keys})"
    if partition != table_name:
        statement += f"; the same on each partition of {table_name}, then CREATE INDEX ON ONLY {quoted_name(table_name)} ({keys}) and ALTER INDEX … ATTACH PARTITION"
    size = 24 * len(columns) * table.estimated_rows
    partial = " Its filter names one state only: a partial index (WHERE that state) is smaller." if "status" in columns else ""  # fmt: skip
    return Suggestion(
        "missing", table_name, "(none yet)",
        f"{named}: reads {size_words(scans[0].pages * _PAGE_BYTES)} to keep {100 * scans[0].share:.1f} % of the rows.",
        f"about {size_words(size)}, an entry for each row written; an update of {', '.join(columns)} can then not be HOT",
        statement, f"that the server will use it: compare the plan before and after on a copy.{partial}",
    )  # fmt: skip
