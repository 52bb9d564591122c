"""Room: the database's size, its write-ahead log, disks, partitions, and transaction numbers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from runbook_lib.database.statements import load
from runbook_lib.health.checks import Check
from runbook_lib.health.lock_checks import GIGABYTE, PG_MONITOR
from runbook_lib.health.probes.network import is_this_machine
from runbook_lib.health.probes.tables import judge_partitions
from runbook_lib.health.registry import DeclaredCheck, View, graded

_SQL = load("database_checks")
# Above this share of a size limit, there is little time left to act.
SIZE_WARNING_PERCENT, SIZE_CRITICAL_PERCENT = 80.0, 95.0
DATABASE_REVIEW = "monthly/database_optimization"


def size(view: View) -> Check:
    """What the database takes, against the plan's limit where the policy names one."""
    name, statement = "database.size", _SQL["size"]
    row = view.row(statement)
    limit = view.policy.thresholds.database_size_limit_gigabytes
    taken = row.database_bytes / GIGABYTE
    percent = None if limit is None else 100 * taken / limit
    verdict = (
        graded(percent, SIZE_WARNING_PERCENT, SIZE_CRITICAL_PERCENT)
        if percent is not None
        else "ok"
    )
    words = f"The database takes {taken:.3g} GB"
    words += f" of {limit:g} GB ({percent:.0f} %)." if percent is not None else "."
    return Check(
        name,
        verdict,
        words,
        row.database_bytes,
        "bytes",
        None if limit is None else limit * GIGABYTE * SIZE_WARNING_PERCENT / 100,
        statement.source,
        "how much of the server's disk is free: SQL cannot see that"
        if limit is not None
        else "that there is room: database_size_limit_gigabytes in RUNBOOK_CONFIG is not set",
        "Archive and drop old partitions of job_runs, or have the disk enlarged."
        if verdict != "ok"
        else None,
        procedure=DATABASE_REVIEW if verdict != "ok" else None,
        details={"largest": list(row.largest)},
    )


def wal(view: View) -> Check:
    """What the write-ahead log takes on the server's disk."""
    name, statement = "database.wal", _SQL["wal_size"]
    row = view.row(statement)
    limits = view.policy.thresholds
    taken = row.wal_bytes / GIGABYTE
    verdict = graded(
        taken, limits.retained_wal_warning_gigabytes * 2, limits.retained_wal_critical_gigabytes * 2
    )
    return Check(
        name,
        verdict,
        f"The write-ahead log takes {taken:.2f} GB in {row.files} files.",
        row.wal_bytes,
        "bytes",
        limits.retained_wal_warning_gigabytes * 2 * GIGABYTE,
        statement.source,
        None,
        "See database.replication_slots, and whether WAL archiving fails (pg_stat_archiver)."
        if verdict != "ok"
        else None,
        procedure=DATABASE_REVIEW if verdict != "ok" else None,
    )


def data_disk(view: View) -> Check:
    """The disk under the server's data, where the server runs on this machine."""
    name, statement = "database.disk", _SQL["data_directory"]
    host = urlsplit(view.context.sources.pipeline.url).hostname or "localhost"
    if not is_this_machine(host):
        return _unseen(name, statement.source, "The server's disk cannot be seen from here")
    directory = Path(view.row(statement).directory)
    try:
        return disk(view, name, directory, "the database's data", statement.source)
    except OSError as error:
        return _unseen(
            name, statement.source, f"{directory} cannot be looked at ({error.strerror})"
        )


def _unseen(name: str, source: str, words: str) -> Check:
    return Check(
        name,
        "not_enough_data",
        f"{words}.",
        source=source,
        next="Watch it where the server is, or in the provider's dashboard; database.size tells what the database takes.",
    )


def disk(view: View, name: str, directory: Path, what: str, source: str) -> Check:
    """Free room under a folder of this machine. Raises `OSError`."""
    room = shutil.disk_usage(directory)
    free = 100 * room.free / room.total
    limits = view.policy.thresholds
    # Less is worse: what is taken is graded.
    verdict = graded(
        100 - free, 100 - limits.disk_free_warning_percent, 100 - limits.disk_free_critical_percent
    )
    return Check(
        name,
        verdict,
        f"{free:.0f} % ({room.free / GIGABYTE:.1f} GB) of the disk under {what} is free.",
        round(free, 1),
        "percent",
        limits.disk_free_warning_percent,
        source,
        None,
        "Make room: a full disk stops all writing." if verdict != "ok" else None,
        procedure=DATABASE_REVIEW if verdict != "ok" else None,
        details={"directory": str(directory), "free_bytes": room.free, "total_bytes": room.total},
    )


def wraparound(view: View) -> Check:
    """How far the transaction numbers are used up."""
    name, statement = "database.wraparound", _SQL["wraparound"]
    row = view.row(statement)
    percent, limits = float(row.used_percent), view.policy.thresholds
    verdict = graded(percent, limits.wraparound_warning_percent, limits.wraparound_critical_percent)
    return Check(
        name,
        verdict,
        f"{percent:.1f} % of the transaction numbers are used up (database {row.database}).",
        round(percent, 1),
        "percent",
        limits.wraparound_warning_percent,
        statement.source,
        None,
        "VACUUM (FREEZE) the oldest tables; first end what holds vacuum back (database.oldest_transaction, replication slots)."
        if verdict != "ok"
        else None,
        procedure=DATABASE_REVIEW if verdict != "ok" else None,
        details={
            "transactions": row.transactions,
            "multixacts": row.multixacts,
            "autovacuum_freeze_max_age": row.freeze_max_age,
        },
    )


def partitions(view: View) -> Iterator[Check]:
    """Partitions of job_runs are made ahead, and the default one is empty."""
    if view.context.sources.attached:
        words = "This pipeline's history is not ours: its partitions are its owner's."
        yield Check("database.partitions", "not_enough_data", words)
        return
    statements = load("doctor")
    row = view.row(statements["partitions"])
    strays = view.row(statements["stray_rows"])[0] if row.may_count else None
    yield from judge_partitions(row, strays)


CHECKS: tuple[DeclaredCheck, ...] = (
    DeclaredCheck("database.size", "The database fits into its plan.", size),
    DeclaredCheck(
        "database.wal", "The write-ahead log does not fill the disk.", wal, grant=PG_MONITOR
    ),
    DeclaredCheck(
        "database.disk", "The disk under the data has room.", data_disk, grant=PG_MONITOR
    ),
    DeclaredCheck("database.wraparound", "Transaction numbers are left.", wraparound),
    DeclaredCheck(
        "database.partitions",
        "Partitions are made ahead, and no row had to go into the default one.",
        partitions,
        also=("database.default_partition",),
    ),
)
