"""Facts about the server's upkeep: dead rows, old transactions, deadlocks, and crashes that it recovered from."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

from runbook_lib.health.checks import Check
from runbook_lib.triage.evidence import Evidence
from runbook_lib.triage.facts import Fact, fact_of_check, figure_of, rounded

LARGE_TABLE_ROWS = 10_000
# Far more than run at once between two vacuums of a busy queue.
MANY_TRANSACTIONS = 1000
DEAD_ROWS_SHARE, FEWEST_DEAD_ROWS = 0.5, 20_000
# Helpers of a server start with it, within moments; later means that it recovered from a crash.
RESTART_SECONDS = 3.0
RECENT_CRASH = timedelta(minutes=15)
# Once, and jobs flow again: to be watched. Again and again, it is never long ago.
JUST_RECOVERED = timedelta(minutes=1)
STATISTICS_SECONDS = 30.0
_fact = partial(fact_of_check, figure=figure_of)


def upkeep_facts(evidence: Evidence) -> Iterator[Fact]:
    yield from _upkeep(evidence)
    yield from _restarts(evidence)


def _upkeep(evidence: Evidence) -> Iterator[Fact]:
    rows, source = evidence.rows.get("table_statistics"), evidence.source("table_statistics")
    largest = max((row.live_rows for row in rows or ()), default=None)
    yield Fact("database.table_large", "claim", None if rows is None else (largest or 0) >= LARGE_TABLE_ROWS,
               "A table of the pipeline is so large that reading all of it takes long.", largest, LARGE_TABLE_ROWS, source)  # fmt: skip
    dead = [
        row
        for row in rows or ()
        if row.dead_rows >= FEWEST_DEAD_ROWS
        and row.dead_rows > DEAD_ROWS_SHARE * max(1, row.live_rows)
    ]
    yield Fact("database.dead_rows_many", "query", None if rows is None else bool(dead),
               "Dead rows of a table outnumber what autovacuum should leave.", dead[0].dead_rows if dead else None, FEWEST_DEAD_ROWS, source)  # fmt: skip
    oldest = evidence.checks.get("database.oldest_transaction")
    prepared = evidence.checks.get("database.prepared_transactions")
    holder = next(
        (
            check
            for check in (oldest, prepared)
            if check is not None and check.verdict in ("warning", "critical")
        ),
        None,
    )
    yield _fact(
        "database.old_transaction",
        "query",
        holder is not None if oldest or prepared else None,
        holder or oldest,
        "An old transaction keeps dead rows from being removed.",
        subject=_oldest(oldest),
    )
    snapshot, asked = evidence.row("snapshot"), evidence.source("snapshot")
    yield Fact(
        "database.snapshot_held", "query", None if snapshot is None else snapshot.transactions_behind >= MANY_TRANSACTIONS,
        f"{snapshot.transactions_behind if snapshot else 0} transactions began since the oldest that still runs: dead rows since then cannot be removed.",
        snapshot.transactions_behind if snapshot else None, MANY_TRANSACTIONS, asked,
    )  # fmt: skip
    yield Fact(
        "database.autovacuum_off", "query", None if snapshot is None else snapshot.autovacuum == "off",
        "Autovacuum is switched off." if snapshot and snapshot.autovacuum == "off" else "Autovacuum is on.",
        snapshot.autovacuum if snapshot else None, "on", f"{asked}: autovacuum",
    )  # fmt: skip
    running = evidence.row("running_statements")
    yield Fact("database.statements_slow", "query", None if running is None else running.statements > 0,
               "Statements have run for longer than a second, and wait for no lock.", running.longest_seconds if running else None, 1.0, evidence.source("running_statements"))  # fmt: skip


def _oldest(check: Check | None) -> dict[str, Any]:
    sessions = check.details.get("sessions", ()) if check is not None else ()
    return {"pid": sessions[0]["pid"]} if sessions else {}


def _restarts(evidence: Evidence) -> Iterator[Fact]:
    times, source = evidence.row("server_times"), evidence.source("server_times")
    counted = None if times is None else times.deadlocks or 0
    yield Fact(
        "database.deadlocks_counted", "record", None if counted is None else counted >= 1,
        "The server has counted deadlocks in this database.", counted, 1, f"{source}: pg_stat_database",
    )  # fmt: skip
    pair = evidence.rows.get("deadlocks", ())
    grown = pair[-1].deadlocks - pair[0].deadlocks if len(pair) == 2 else None
    yield Fact(
        "database.deadlocks_go_on", "record", None if grown is None else grown > 0,
        f"{grown} deadlocks more were counted while this was looked at." if grown else "No deadlock was counted while this was looked at.",
        grown, 0, evidence.source("deadlocks"), symptom=True,
    )  # fmt: skip
    if times is None:
        return
    # An ordinary role may not see the server's helpers; a crash sets the statistics back as well.
    helper = times.checkpointer_started_at or times.statistics_since
    if helper is None:
        return
    late = (helper - times.started_at).total_seconds() > RESTART_SECONDS
    yield Fact(
        "database.recovered_from_a_crash", "connect", late and times.now - helper < RECENT_CRASH,
        "The server's helpers were started anew long after the server: it recovered from a crash lately.",
        helper, times.started_at, source, symptom=True, severe=True,
    )  # fmt: skip
    yield Fact(
        "database.recovered_just_now", "connect", late and times.now - helper < JUST_RECOVERED,
        "That was within the last minute.", helper, None, source,
    )  # fmt: skip
    since = times.statistics_since
    together = (
        times.checkpointer_started_at is not None
        and since is not None
        and abs((since - helper).total_seconds()) < STATISTICS_SECONDS
    )
    yield Fact(
        "database.statistics_began_with_it", "connect", late and together,
        "The server's statistics begin at the same moment: they were lost in the crash.",
        since, helper, f"{source}: pg_stat_bgwriter",
    )  # fmt: skip
    sessions = evidence.rows.get("worker_sessions", ())
    oldest = max((row.age_seconds for row in sessions), default=None)
    up_seconds = (times.now - helper).total_seconds()
    yield Fact(
        "database.sessions_all_new", "connect",
        late and oldest <= up_seconds + RESTART_SECONDS if oldest is not None else None,
        "All sessions of workers began after that moment: those before were dropped.",
        rounded(oldest), round(up_seconds, 1), evidence.source("worker_sessions"),
    )  # fmt: skip
