"""Which SQL statements take the time: pg_stat_statements between two moments, never reset.

Its counters grow since somebody reset them, and resetting takes them from every other reader. So they
are kept now and then, and subtracted.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg2
import psycopg2.errors

from runbook_lib.credentials.masking import one_line
from runbook_lib.database.statements import load
from runbook_lib.errors import RunbookError
from runbook_lib.health.checks import Verdict
from runbook_lib.health.context import Context

_SQL = load("statement_history")
SHOWN = 20
# In the log-normal distribution that a mean and a spread fit.
_Z = {"p50_milliseconds": 0.0, "p95_milliseconds": 1.644854, "p99_milliseconds": 2.326348}
# Utility statements come as they were typed, passwords included.
_WITH_SECRET = re.compile(r"\b(PASSWORD|SECRET)\b", re.IGNORECASE)
_NOT_INSTALLED = "The extension pg_stat_statements is not installed in this database."

Counters = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class StatementTimes:
    """The statements that took the most time, or why they cannot be told.

    `since` is where the difference begins; percentiles are estimates, since only mean and spread are kept.
    """

    verdict: Verdict
    message: str
    since: datetime | None = None
    statements: tuple[dict[str, Any], ...] = ()
    next: str | None = None

    def as_dictionary(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict, "message": self.message, "since": self.since, "next": self.next,
            "statements": list(self.statements),
        }  # fmt: skip


def statement_times(context: Context, hours: int, deadline_seconds: float = 10.0) -> StatementTimes:
    """What took the time in the last hours; keeps a snapshot on the way, where that may be done."""
    try:
        with context.sources.pipeline.transaction(
            read_only=True, deadline_seconds=deadline_seconds
        ) as transaction:
            place = transaction.row(_SQL["find_extension"])
            rows = transaction.rows(_SQL["counters"]) if place else []
    except psycopg2.errors.ObjectNotInPrerequisiteState:
        return StatementTimes("not_enough_data", "pg_stat_statements is installed, but the server did not load it.", next="Add it to shared_preload_libraries and restart the server.")  # fmt: skip
    except psycopg2.errors.InsufficientPrivilege as error:
        return StatementTimes("not_allowed", one_line(str(error).splitlines()[0]), next=_GRANT)
    except (psycopg2.Error, RunbookError) as error:
        return StatementTimes("not_enough_data", one_line(str(error).splitlines()[0]))
    if place is None:
        return StatementTimes("not_enough_data", _NOT_INSTALLED, next="CREATE EXTENSION pg_stat_statements; on Supabase it is there already.")  # fmt: skip
    visible = [row for row in rows if not row.hidden]
    if rows and not visible:
        return StatementTimes("not_allowed", f"All {len(rows)} statements are of other roles, and this role may not see them.", next=_GRANT)  # fmt: skip
    return _since_snapshot(context, place.database, visible, len(rows) - len(visible), hours)


_GRANT = "GRANT pg_read_all_stats TO this role."


def _since_snapshot(
    context: Context, database: str, rows: Sequence[Any], hidden: int, hours: int
) -> StatementTimes:
    now = {
        row.statement: (row.calls, row.total_milliseconds, row.squared_milliseconds, row.rows)
        for row in rows
    }
    reset = rows[0].stats_reset if rows else None
    before, problem = _remember(context, database, reset, now, hours)
    since = reset
    counted: Counters = {}
    if before is not None and before.stats_reset == reset:
        since, counted = before.taken_at, before.counters
    texts = {row.statement: (row.query, row.role) for row in rows}
    found = difference(now, counted)
    words = f"{len(found)} statements ran since {since:%Y-%m-%d %H:%M} UTC." if since else f"{len(found)} statements ran."  # fmt: skip
    if hidden:
        words += (
            f" {hidden} of other roles are hidden from this role (pg_read_all_stats shows them)."
        )
    if problem:
        words += f" {problem}"
    shown = tuple(
        {"query": _text(texts[row["statement"]][0]), "role": texts[row["statement"]][1],
         **{name: value for name, value in row.items() if name != "statement"}}
        for row in found[:SHOWN]
    )  # fmt: skip
    return StatementTimes("ok", words, since, shown)


def _remember(
    context: Context, database: str, reset: datetime | None, now: Counters, hours: int
) -> tuple[Any, str | None]:
    """The snapshot to subtract, and what went wrong with keeping another."""
    bookkeeping = context.sources.bookkeeping
    try:
        with bookkeeping.transaction(read_only=True) as transaction:
            before = transaction.row(_SQL["snapshot_before"], database=database, hours=hours)
    except (psycopg2.Error, RunbookError) as error:
        return None, f"No snapshot was read: {one_line(str(error).splitlines()[0], 200)}"
    try:
        with bookkeeping.transaction() as transaction:
            transaction.run(
                _SQL["keep_snapshot"],
                database=database,
                stats_reset=reset,
                counters=json.dumps(now),
            )
    except (psycopg2.Error, RunbookError) as error:
        return before, f"No snapshot was kept: {one_line(str(error).splitlines()[0], 200)}"
    return before, None


def difference(now: Counters, before: Counters) -> list[dict[str, Any]]:
    """What was counted between two snapshots, the most time first, with the share of all of it.

    A statement that was evicted in between, and counted anew, has fewer calls now: it counts from zero.
    """
    rows = []
    for statement, counted in now.items():
        earlier = before.get(statement, (0, 0.0, 0.0, 0))
        if earlier[0] > counted[0]:
            earlier = (0, 0.0, 0.0, 0)
        calls, total, squared, returned = (
            late - early for late, early in zip(counted, earlier, strict=True)
        )
        if calls > 0:
            rows.append({
                "statement": statement, "calls": int(calls), "total_milliseconds": round(total, 3),
                "mean_milliseconds": round(total / calls, 3), "rows": int(returned),
                **_percentiles(total / calls, squared / calls),
            })  # fmt: skip
    everything = sum(row["total_milliseconds"] for row in rows) or 1.0
    for row in rows:
        row["share_percent"] = round(100 * row["total_milliseconds"] / everything, 1)
    return sorted(rows, key=lambda row: -row["total_milliseconds"])


def _percentiles(mean: float, mean_square: float) -> dict[str, Any]:
    """Estimates: those of a log-normal distribution with this mean and spread."""
    if mean <= 0:
        return {**dict.fromkeys(_Z, 0.0), "percentiles": "estimated"}
    variance = max(0.0, mean_square - mean**2)
    shape = math.log(1 + variance / mean**2)
    middle = math.log(mean) - shape / 2
    return {
        **{name: round(math.exp(middle + z * math.sqrt(shape)), 3) for name, z in _Z.items()},
        "percentiles": "estimated",
    }


def _text(query: str) -> str:
    if _WITH_SECRET.search(query) and "$" not in query:
        return "(a statement that may hold a password is not shown)"
    return one_line(query, 500)
