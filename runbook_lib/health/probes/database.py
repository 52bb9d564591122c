"""The database from outside in: address, name, connection, protocol, login, then what stands inside."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import psycopg2.extensions

from runbook_lib.database.connection import (
    Connection,
    Database,
    Transaction,
    address_without_secret,
    normalise_url,
)
from runbook_lib.database.statements import Statement, load
from runbook_lib.errors import ConfigurationError, RunbookError
from runbook_lib.health.checks import Check
from runbook_lib.health.probes import Probe
from runbook_lib.health.probes.login_failures import explain_login_failure
from runbook_lib.health.probes.network import connect, is_this_machine, resolve
from runbook_lib.health.probes.tables import probe_tables

ANSWER_SECONDS = 3.0
LOGIN_SECONDS = 10
STATEMENT_SECONDS = 5.0
OLDEST_VERSION = 140_000
CLOCK_WARNING_SECONDS = 2.0
CONNECTIONS_WARNING_SHARE = 0.8
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # protocol, section 55.7 "SSLRequest"

_SQL = load("doctor")


def probe_database(url: str, schema: str) -> Probe:
    """All steps for one address. Reads in read-only transactions, changes nothing."""
    try:
        address = normalise_url(url)
        options = psycopg2.extensions.parse_dsn(address)
    except (ConfigurationError, psycopg2.ProgrammingError) as error:
        words = (
            str(error)
            if isinstance(error, ConfigurationError)
            else "DATABASE_URL is not an address that libpq understands."
        )
        yield Check(
            "database.address",
            "critical",
            words,
            source="DATABASE_URL",
            next="Correct DATABASE_URL.",
        )
        return
    yield _address(address, options, "options=" in url)
    if not (yield from _reach(options)):
        return
    connection = yield from _log_in(address, schema)
    if connection is None:
        return
    database = Database(
        address,
        schema=schema,
        deadline_seconds=STATEMENT_SECONDS,
        application_name="runbook doctor",
    )
    with connection:
        yield from _inside(connection, database)


def _address(address: str, options: dict[str, Any], dropped_options: bool) -> Check:
    shown = address_without_secret(address)
    words = f"The database is {shown}, user {options.get('user', 'not given')}."
    if dropped_options:
        words += " What stands in options= is left out: poolers refuse it."
    return Check("database.address", "ok", words, value=shown, source="DATABASE_URL")


def _reach(options: dict[str, Any]) -> Generator[Check, None, bool]:
    host, port = str(options.get("host", "")), int(options.get("port", 5432))
    if not host or host.startswith("/"):
        return True  # a Unix socket: the login tells
    addresses = yield from resolve("database", host, port, "DATABASE_URL")
    if not addresses:
        return False
    link = yield from connect("database", addresses, host, port, "DATABASE_URL")
    if link is None:
        return False
    with link:
        return (yield from _speaks_postgresql(link, host, port))


def _speaks_postgresql(link: socket.socket, host: str, port: int) -> Generator[Check, None, bool]:
    name, source = "database.protocol", f"SSLRequest to {host}:{port}"
    link.settimeout(ANSWER_SECONDS)
    try:
        link.sendall(_SSL_REQUEST)
        answer = link.recv(1)
    except TimeoutError:
        yield Check(
            name,
            "critical",
            f"{host}:{port} takes connections, but says nothing within {ANSWER_SECONDS:g} s: the server hangs.",
            source=source,
            next="Look at the server: stopped process, full disk, a stuck pooler. Restarting workers does not help.",
        )
        return False
    except OSError as error:
        answer = b""
        words = f"{host}:{port} ends the connection at the first word ({error})."
    else:
        words = f"What answers at {host}:{port} is not PostgreSQL."
    if answer in (b"S", b"N"):
        encryption = "with" if answer == b"S" else "without"
        yield Check(
            name, "ok", f"PostgreSQL answers, {encryption} encryption on offer.", source=source
        )
        return True
    if not answer:
        words = f"{host}:{port} takes the connection and ends it at once."
    yield Check(
        name,
        "critical",
        words,
        source=source,
        next="Correct host and port in DATABASE_URL; if they are right, read the log of the server or proxy there.",
    )
    return False


def _log_in(address: str, schema: str) -> Generator[Check, None, Connection | None]:
    try:
        raw = psycopg2.connect(
            address, application_name="runbook doctor", connect_timeout=LOGIN_SECONDS
        )
    except psycopg2.OperationalError as error:
        failure = explain_login_failure(str(error))
        yield Check(
            f"database.{failure.step}",
            "critical",
            f"{failure.meaning} It said: {_last_reason(error)}",
            source="login",
            next=failure.advice,
        )
        return None
    raw.autocommit = True
    yield _logged_in(raw)
    return Connection(raw, schema, STATEMENT_SECONDS)


def _logged_in(raw: psycopg2.extensions.connection) -> Check:
    host = raw.info.host or ""
    in_clear = not raw.info.ssl_in_use and not (host.startswith("/") or is_this_machine(host))
    return Check(
        "database.login",
        "warning" if in_clear else "ok",
        f"Logged in as {raw.info.user}, but over the network in clear text."
        if in_clear
        else f"Logged in as {raw.info.user}.",
        raw.info.user,
        source="login",
        next="Add ?sslmode=require to DATABASE_URL." if in_clear else None,
    )


def _last_reason(error: Exception) -> str:
    # One paragraph for each address that was tried; the last one is the one that got furthest.
    paragraphs = [line.strip() for line in str(error).strip().split("\n") if line.strip()]
    telling = [line for line in paragraphs if "failed:" in line or "FATAL" in line] or paragraphs
    return telling[-1].rpartition("failed: ")[2]


def _inside(connection: Connection, database: Database) -> Probe:
    steps: tuple[tuple[str, Callable[[], Probe]], ...] = (
        ("version", lambda: _server(connection)),
        ("clock", lambda: _clock(connection)),
        ("pooler", lambda: _pooler(connection, database)),
        ("connections", lambda: _connections(connection)),
        ("tables", lambda: probe_tables(connection, database)),
    )
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


def _server(connection: Connection) -> Probe:
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
    """In transaction mode a server process is free again after each transaction, so a second client gets
    it, or the first client gets another one while the second holds what it got."""
    statement = _SQL["backend"]
    try:
        with database.connect(connect_timeout_seconds=3) as second, _reading(second) as transaction:
            if transaction.value(statement) == process:
                return "transaction"
            again = _one(first, statement).pg_backend_pid
            return "session" if again == process else "transaction"
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
