"""What an open session tells: the server, its clock, a pooler in between, limits, and the tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2

from runbook_lib.database.connection import Connection, Database, Transaction
from runbook_lib.database.statements import Statement, load
from runbook_lib.errors import RunbookError
from runbook_lib.health.checks import Check
from runbook_lib.health.probes import Probe
from runbook_lib.health.probes.tables import probe_tables

STATEMENT_SECONDS = 5.0
OLDEST_VERSION = 140_000
CLOCK_WARNING_SECONDS = 2.0
CONNECTIONS_WARNING_SHARE = 0.8

_SQL = load("doctor")


def probe_session(connection: Connection, database: Database) -> Probe:
    """Version, read-only, clock, pooler, connections, tables: one that fails does not stop the next."""
    steps: tuple[tuple[str, Callable[[], Probe]], ...] = (
        ("version", lambda: _server(connection, database)),
        ("clock", lambda: _clock(connection)),
        ("pooler", lambda: _pooler(connection, database)),
        ("connections", lambda: _connections(connection)),
        ("tables", lambda: probe_tables(connection, database)),
    )
    if database.never_writes:
        # Of a pipeline that is not ours the part of its mapping looks at the tables.
        steps = steps[:-1]
    for name, step in steps:
        # One step that fails says so, and the next one is still taken.
        try:
            yield from step()
        except (psycopg2.Error, RunbookError) as error:
            words = f"This could not be asked: {str(error).strip().splitlines()[0]}"
            yield Check(f"database.{name}", "not_enough_data", words)
        if connection.broken:
            yield Check(
                "database.session",
                "critical",
                "The server or the pooler ended the session in the middle.",
                next="Run `runbook doctor` again; if it stays, read the server's log.",
            )
            return


@contextmanager
def _reading(connection: Connection) -> Iterator[Transaction]:
    with connection.transaction(read_only=True, deadline_seconds=STATEMENT_SECONDS) as transaction:
        yield transaction


def _one(connection: Connection, statement: Statement) -> Any:
    with _reading(connection) as transaction:
        return transaction.row(statement)


def _server(connection: Connection, database: Database) -> Probe:
    statement = _SQL["server"]
    server = _one(connection, statement)
    old = server.version_number < OLDEST_VERSION
    yield Check(
        "database.version",
        "critical" if old else "ok",
        f"PostgreSQL {server.version}, database {server.database}.",
        server.version_number,
        threshold=OLDEST_VERSION,
        source=statement.source,
        next="PostgreSQL 14 or newer is needed." if old else None,
    )
    if database.never_writes:
        yield _only_read(server, statement)
        return
    if server.standby:
        words, advice = (
            "This is a standby: it can be read, not written.",
            "Point DATABASE_URL at the primary. After a failover the name may still lead to the old one.",
        )
    elif server.read_only:
        words, advice = (
            f"New transactions are read-only here (set by: {server.read_only_source}).",
            "ALTER ROLE or ALTER DATABASE … RESET default_transaction_read_only. Supabase sets it when the disk is nearly full.",
        )
    else:
        yield Check(
            "database.writable", "ok", "The database can be written.", source=statement.source
        )
        return
    yield Check(
        "database.writable", "critical", words, value=False, source=statement.source, next=advice
    )


def _only_read(server: Any, statement: Statement) -> Check:
    """What writing would be is no matter where nothing is ever written."""
    words = "Nothing is written here: the pipeline is not ours (RUNBOOK_MAPPING)."
    if server.standby:
        words += " This is a standby, which is as good to read from."
    elif not server.read_only:
        words += " The role itself could write, as far as it has rights."
    return Check("database.only_read", "ok", words, value=server.read_only, source=statement.source)


def _clock(connection: Connection) -> Probe:
    statement = _SQL["clock"]
    best: tuple[float, float] | None = None
    with _reading(connection) as transaction:
        for _ in range(3):
            before = time.time()
            there = transaction.value(statement)
            after = time.time()
            measured = (after - before, (before + after) / 2 - there)
            best = measured if best is None else min(best, measured)
    assert best is not None
    round_trip, offset = best
    wrong = abs(offset) - round_trip / 2 > CLOCK_WARNING_SECONDS
    yield Check(
        "database.clock",
        "warning" if wrong else "ok",
        f"{_clocks_in_words(offset)} A question there and back takes {round_trip * 1000:.3g} ms.",
        round(offset, 4),
        "s",
        CLOCK_WARNING_SECONDS,
        statement.source,
        "which of the two clocks is right" if wrong else None,
        "Correct the clock (timedatectl). Leases do not suffer, they use the database's clock; log times and certificates do."
        if wrong
        else None,
    )


def _clocks_in_words(offset_seconds: float) -> str:
    if abs(offset_seconds) < 0.01:
        return "This machine's clock and the database's agree."
    side = "ahead of" if offset_seconds > 0 else "behind"
    return f"This machine's clock is {abs(offset_seconds):.2f} s {side} the database's."


def _pooler(connection: Connection, database: Database) -> Probe:
    statement = _SQL["backend"]
    here = connection.raw.info.backend_pid
    process = _one(connection, statement).pg_backend_pid
    if process == here:
        yield Check(
            "database.pooler",
            "ok",
            "Connected to the server directly.",
            "none",
            source=statement.source,
        )
        return
    mode = _pooler_mode(connection, process, database)
    words = {
        "transaction": "A pooler in transaction mode stands in between. Everything works; only the hint that wakes "
        "idle workers at once does not pass, so they look every RUNBOOK_IDLE_POLL_SECONDS.",
        "session": "A pooler in session mode stands in between: each worker holds one of its server connections.",
        "full": "A pooler stands in between, and had no second server connection for us in time.",
    }
    yield Check(
        "database.pooler",
        "warning" if mode == "full" else "ok",
        words[mode],
        mode,
        source=statement.source,
        does_not_prove="the pooler's limits; its own console shows them (SHOW POOLS)",
        next="Raise the pooler's pool size, or close idle clients." if mode == "full" else None,
    )


def _pooler_mode(first: Connection, process: int, database: Database) -> str:
    """In session mode a client keeps its server process. In transaction mode it is free again after each
    transaction: the same client gets another one if the pooler takes them in turn; if it takes the last
    used one, a second client gets it, or the first gets another while the second holds it."""
    statement = _SQL["backend"]

    def moved() -> bool:
        return any(_one(first, statement).pg_backend_pid != process for _ in range(2))

    try:
        if moved():
            return "transaction"
        with database.connect(connect_timeout_seconds=3) as second, _reading(second) as transaction:
            if transaction.value(statement) == process:
                return "transaction"
            return "transaction" if moved() else "session"
    except (psycopg2.Error, RunbookError):
        return "full"


def _connections(connection: Connection) -> Probe:
    statement = _SQL["connections"]
    row = _one(connection, statement)
    for owner, used, limit, advice in (
        ("server", row.used, row.server_limit, "max_connections"),
        ("role", row.used_by_role, row.role_limit, "ALTER ROLE … CONNECTION LIMIT"),
        ("database", row.used_by_database, row.database_limit, "ALTER DATABASE … CONNECTION LIMIT"),
    ):
        if limit is None:
            continue
        high = used >= limit * CONNECTIONS_WARNING_SHARE
        yield Check(
            f"database.connections_of_{owner}",
            "warning" if high else "ok",
            f"{used} of {limit} connections that this {owner} may have are in use.",
            used,
            "connections",
            int(limit * CONNECTIONS_WARNING_SHARE),
            statement.source,
            None,
            f"Close idle connections, lower concurrency, or raise the limit ({advice})."
            if high
            else None,
        )
