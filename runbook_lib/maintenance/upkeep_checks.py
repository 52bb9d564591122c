"""Checks that a month is soon enough for: vacuum, statistics, sequences, bloat."""

from __future__ import annotations

from typing import Any

import psycopg2
import psycopg2.errors

from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Transaction
from runbook_lib.database.statements import load
from runbook_lib.health.answers import size_words
from runbook_lib.health.checks import Check, Verdict
from runbook_lib.health.sources import Sources
from runbook_lib.maintenance.statistics import stale_tables

_SQL = load("database_review")
SEQUENCE_WARNING_PERCENT, SEQUENCE_CRITICAL_PERCENT = 50.0, 80.0
# Autovacuum comes by once a minute; so much over its threshold it should never find.
LAG_WARNING_RATIO = 2.0
FEW_ROWS = 10_000
BLOAT_WARNING_PERCENT = 50.0
BLOAT_SECONDS = 20.0


def statistics(transaction: Transaction) -> Check:
    """Tables that the planner knows too little of."""
    source = _SQL["statistics"].source
    found = stale_tables(transaction)
    if not found:
        return Check(
            "database.statistics",
            "ok",
            "The statistics of every table are fresh.",
            0,
            "tables",
            0,
            source,
        )
    large = [row for row in found if row.modified_rows >= FEW_ROWS]
    named = ", ".join(f"{row.relation} ({row.reason})" for row in found[:3])
    return Check(
        "database.statistics", "warning" if large else "ok",
        f"{len(found)} tables have stale statistics: {named}.", len(found), "tables", 0, source,
        "that a plan suffers from it", "Apply statistics.analyze below; it changes no row.",
        details={"tables": [row._asdict() for row in found]},
    )  # fmt: skip


def vacuum_lag(transaction: Transaction) -> Check:
    """Dead rows that autovacuum should have removed, by each table's own threshold and not by its lifetime."""
    source = _SQL["vacuum_lag"].source
    rows = transaction.rows(_SQL["vacuum_lag"])
    off = [row for row in rows if not row.enabled]
    late = [row for row in rows if row.dead_rows > LAG_WARNING_RATIO * row.threshold and row.dead_rows > FEW_ROWS]  # fmt: skip
    if not late and not off:
        return Check(
            "database.vacuum_lag",
            "ok",
            "Autovacuum keeps up with every table.",
            0,
            "tables",
            0,
            source,
        )
    worst = late[0] if late else off[0]
    words = f"{worst.relation} has {worst.dead_rows:,} dead rows; autovacuum should come at {worst.threshold:,}."
    if off:
        words += f" It is switched off for {', '.join(row.relation for row in off[:3])}."
    return Check(
        "database.vacuum_lag", "warning", words, len(rows), "tables", 0, source,
        "why: a long transaction or a replication slot may keep dead rows from going",
        "First look at database.oldest_transaction and database.replication_slots. Then VACUUM (VERBOSE) of that table, which says what holds it back.",
        details={"tables": [row._asdict() for row in rows]},
    )  # fmt: skip


def sequences(transaction: Transaction) -> Check:
    """How far the sequences are used up."""
    source = _SQL["sequences"].source
    rows = transaction.rows(_SQL["sequences"])
    if not rows:
        return Check(
            "database.sequences",
            "ok",
            "There is no sequence.",
            0.0,
            "percent",
            SEQUENCE_WARNING_PERCENT,
            source,
        )
    seen = [row for row in rows if row.used_percent is not None]
    if not seen:
        words = f"This role may not look into any of {len(rows)} sequences."
        return Check(
            "database.sequences",
            "not_allowed",
            words,
            source=source,
            next="GRANT SELECT ON the sequence TO this role.",
        )
    worst = max(seen, key=lambda row: row.used_percent)
    percent = float(worst.used_percent)
    verdict: Verdict = (
        "critical"
        if percent >= SEQUENCE_CRITICAL_PERCENT
        else "warning"
        if percent >= SEQUENCE_WARNING_PERCENT
        else "ok"
    )
    return Check(
        "database.sequences", verdict, f"{worst.sequence} has used {percent:.2g} % of its numbers; {len(seen)} of {len(rows)} sequences were looked at.",
        round(percent, 2), "percent", SEQUENCE_WARNING_PERCENT, source, "that its column holds so many: an integer column ends at 2,147,483,647",
        "Make the column and its sequence bigint before it is full: inserts fail then." if verdict != "ok" else None,
    )  # fmt: skip


def bloat(sources: Sources) -> Check:
    """How much of the large tables is empty: measured where the right is there, never estimated.

    Estimates need fresh statistics and SELECT on every column; without them they say "none" or a wrong
    figure, so no figure is given then.
    """
    name, source = "database.bloat", _SQL["bloat"].source
    try:
        with sources.pipeline.transaction(
            read_only=True, deadline_seconds=BLOAT_SECONDS
        ) as transaction:
            if transaction.row(_SQL["find_pgstattuple"]) is None:
                words = "Not measured: the extension pgstattuple is not installed, and an estimate would mislead."
                return Check(
                    name,
                    "not_enough_data",
                    words,
                    source=source,
                    next="CREATE EXTENSION pgstattuple, by an administrator.",
                )
            rows = transaction.rows(_SQL["bloat"])
    except psycopg2.errors.InsufficientPrivilege as error:
        return Check(name, "not_allowed", f"Not measured: {one_line(str(error).splitlines()[0], 200)}", source=source,
                     next="GRANT pg_stat_scan_tables TO this role.")  # fmt: skip
    return _judge_bloat(name, source, rows)


def _judge_bloat(name: str, source: str, rows: list[Any]) -> Check:
    if not rows:
        return Check(
            name,
            "ok",
            "No table is larger than 10 MB: nothing to measure.",
            0.0,
            "percent",
            BLOAT_WARNING_PERCENT,
            source,
        )
    worst = max(rows, key=lambda row: row.free_percent + row.dead_percent)
    percent = worst.free_percent + worst.dead_percent
    verdict: Verdict = "warning" if percent >= BLOAT_WARNING_PERCENT else "ok"
    return Check(
        name, verdict, f"{worst.relation} ({size_words(worst.size_bytes)}) is {percent:.0f} % empty or dead, the most of {len(rows)} tables.",
        round(percent, 1), "percent", BLOAT_WARNING_PERCENT, source, "that the room is lost: new rows use it again",
        "For job_runs: weekly/cleanup drops weeks. Else pg_repack, or VACUUM FULL in a maintenance window: it stops all reading and writing of the table." if verdict != "ok" else None,
        details={"tables": [row._asdict() for row in rows]},
    )  # fmt: skip
