"""Clean-up of old runs beside the written runbook's DELETE: WAL, room, rows a second, equality, memory."""

from __future__ import annotations

import os
import resource
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2

from benchmarks.figures import report
from benchmarks.history_figures import _PARTITION, _RUNS
from benchmarks.scratch import Server, server
from runbook_lib import changes
from runbook_lib.changes import Plan
from runbook_lib.database import Database
from runbook_lib.maintenance.parquet_files import Column, open_parquet, totals
from runbook_lib.settings import load_settings

ROWS, DAYS = 10_000_000, 90
# The weeks that are wholly older than this hold about a tenth of the rows.
KEEP_DAYS = 76
DEADLINE_SECONDS = 3600.0
# As the written runbook has it, up to the same border.
_DELETE = "DELETE FROM job_runs WHERE execution_time < %(border)s"
_SIZE = "SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree('job_runs')"
_TOTALS = "SELECT count(*) AS rows, sum(tokens) AS tokens, sum(cost_usd) AS cost FROM job_runs WHERE execution_time < %(border)s"
_BORDER = "SELECT max(newest) + interval '1 microsecond' AS border FROM (SELECT tableoid, max(execution_time) AS newest FROM job_runs WHERE tableoid::regclass::text = ANY (%(tables)s) GROUP BY 1) AS old"
_EXPORTS = "SELECT file, rows, checksum, sums, rows_removed, bytes_returned, write_seconds, check_seconds FROM run_exports ORDER BY export_id"


def main() -> None:
    """`make bench NAME="cleanup 200000"`: with fewer rows than ten million."""
    rows = next((int(word) for word in sys.argv[1:] if word.isdigit()), ROWS)
    with server() as running:
        os.environ.update(RUNBOOK_HOME=str(running.home / "home"), RUNBOOK_ENV_FILE="")
        load_settings.cache_clear()
        theirs, ours = filled(running, rows), filled(running, rows)
        plan = changes.plan(ours, "job_runs.clean_up", {"keep_days": KEEP_DAYS}, actor="benchmark")
        border = one(ours, _BORDER, tables=[row["key"] for row in plan.sample]).border
        before = one(ours, _TOTALS, border=border)
        deleted = by_delete(theirs, border)
        cleaned = by_clean_up(ours, plan)
    report("WAL of the clean-up", cleaned["wal_bytes"] / 1e6, "MB", ratio=deleted["wal_bytes"] / cleaned["wal_bytes"],
           against=f"DELETE and VACUUM of the same {deleted['rows']:,} rows, less by", bar="≥ 100 ×",
           met=deleted["wal_bytes"] >= 100 * cleaned["wal_bytes"], samples={"ours": cleaned, "delete": deleted})  # fmt: skip
    report("room that the clean-up returned", cleaned["returned_bytes"] / 1e6, "MB", bar="> 0", met=cleaned["returned_bytes"] > 0,
           against=f"DELETE and VACUUM returned {deleted['returned_bytes'] / 1e6:.1f} MB", samples=cleaned)  # fmt: skip
    report("rows exported to Parquet, on the disk", cleaned["rows"] / cleaned["write_seconds"], "rows/s", bar="≥ 300,000",
           met=cleaned["rows"] >= 300_000 * cleaned["write_seconds"], samples=cleaned)  # fmt: skip
    report("rows cleaned up: exported, read again, compared, dropped", cleaned["rows"] / cleaned["seconds"], "rows/s", samples=cleaned)  # fmt: skip
    report("memory that the clean-up added at its peak", cleaned["memory_megabytes"], "MB", bar="≤ 400 at any number of rows",
           met=cleaned["memory_megabytes"] <= 400, samples=cleaned)  # fmt: skip
    equal = cleaned["equal"] and (cleaned["rows"], cleaned["tokens"], cleaned["cost"]) == tuple(before)  # fmt: skip
    report("files equal to what was removed: count, sums, checksums", float(equal), "yes is 1", bar="1", met=equal, samples=cleaned)  # fmt: skip


def filled(running: Server, rows: int) -> Database:
    """Weekly partitions over ninety days, filled evenly. The rollup is another benchmark's."""
    database = running.new_database()
    begins = datetime.now(UTC) - timedelta(days=DAYS)
    outside(database, "ALTER TABLE job_runs DISABLE TRIGGER USER", _PARTITION.replace("%%", "%"))
    for day in range(DAYS):
        with database.transaction(deadline_seconds=DEADLINE_SECONDS) as transaction:
            transaction.run(_RUNS, day=day, begins=begins + timedelta(days=day), count=rows // DAYS)
    outside(database, "ALTER TABLE job_runs ENABLE TRIGGER USER", "VACUUM ANALYZE job_runs", "CHECKPOINT")  # fmt: skip
    return database


def by_delete(database: Database, border: datetime) -> dict[str, Any]:
    """The written runbook's way, and the VACUUM that has to follow."""
    before, since, started = size(database), position(database), time.perf_counter()
    with database.transaction(deadline_seconds=DEADLINE_SECONDS) as transaction:
        rows = transaction.run(_DELETE, border=border)
    seconds = time.perf_counter() - started
    outside(database, "VACUUM job_runs")
    return {"rows": rows, "seconds": seconds, "wal_bytes": position(database) - since, "returned_bytes": before - size(database)}  # fmt: skip


def by_clean_up(database: Database, plan: Plan) -> dict[str, Any]:
    """Ours, and what its files hold when they are read once more."""
    before, since, memory = size(database), position(database), peak_megabytes()
    started = time.perf_counter()
    result = changes.apply(database, plan.change_id, actor="benchmark", dry_run=False)
    seconds = time.perf_counter() - started
    wal_bytes, memory = position(database) - since, peak_megabytes() - memory
    with database.transaction(read_only=True) as transaction:
        exports = transaction.rows(_EXPORTS)
    sums = [each.sums for each in exports]
    return {
        "status": result.status, "rows": sum(each.rows_removed for each in exports), "seconds": seconds,
        "tokens": sum(int(each["tokens"] or 0) for each in sums), "cost": sum(_decimal(each["cost_usd"] or "0") for each in sums),
        "write_seconds": sum(each.write_seconds for each in exports), "check_seconds": sum(each.check_seconds for each in exports),
        "returned_bytes": before - size(database), "wal_bytes": wal_bytes, "memory_megabytes": memory,
        "equal": all(equal(database, each) for each in exports),
    }  # fmt: skip


def equal(database: Database, export: Any) -> bool:
    """Whether a file still holds what was noted of the removed rows."""
    from pathlib import Path

    from runbook_lib.database.statements import load

    with database.transaction(read_only=True) as transaction, open_parquet() as parquet:
        columns = [Column(*row) for row in transaction.rows(load("run_exports")["columns"])]
        found = totals(parquet, columns, Path(export.file))
    return (found.totals.rows, found.totals.checksum) == (export.rows, export.checksum)


def size(database: Database) -> int:
    return int(one(database, _SIZE)[0])


def position(database: Database) -> float:
    """How much WAL the server has written; the benchmark is alone on it."""
    return float(one(database, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') AS bytes").bytes)  # fmt: skip


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(database: Database, statement: str, **parameters: Any) -> Any:
    with database.transaction(deadline_seconds=DEADLINE_SECONDS) as transaction:
        return transaction.row(statement, **parameters)


def outside(database: Database, *statements: str) -> None:
    """Statements outside a transaction."""
    raw = psycopg2.connect(database.url)
    raw.autocommit = True
    try:
        with raw.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    finally:
        raw.close()


def _decimal(value: str) -> Any:
    from decimal import Decimal

    return Decimal(value)
