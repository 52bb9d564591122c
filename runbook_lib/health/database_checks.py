"""The database: reached, fast, writable, with connections left."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import psycopg2

from runbook_lib.database.statements import load
from runbook_lib.deadlines import WATCHDOG, Deadline, shut_descriptor
from runbook_lib.errors import DatabaseUnreachable, RunbookError
from runbook_lib.health.checks import Check, Verdict
from runbook_lib.health.probes.login_failures import explain_login_failure
from runbook_lib.health.registry import DeclaredCheck, View, graded

# Longer than any that looks may wait itself.
POOLER_WAIT_SECONDS = 2.5
_SQL = load("database_checks")
_DOCTOR = load("doctor")
LATENCY_SAMPLES = 5
APPLICATIONS_NAMED = 5
SYSTEM_DOWN = "emergency/system_down"
DATABASE_ERRORS = "troubleshooting/database_errors"


def reachable(view: View) -> Check:
    """Connects, logs in and asks who answers."""
    name, statement = "database.reachable", _SQL["server"]
    try:
        server = view.row(statement)
    except DatabaseUnreachable as error:
        failure = explain_login_failure(str(error))
        return Check(
            name,
            "critical",
            f"{failure.meaning} {error}",
            False,
            source="login",
            next=failure.advice,
            procedure=SYSTEM_DOWN,
            details={"step": failure.step, "kind": failure.kind},
        )
    milliseconds = round((view.pipeline.connect_seconds or 0) * 1000, 1)
    return Check(
        name,
        "ok",
        f"PostgreSQL {server.version} answers; connecting took {milliseconds:g} ms.",
        milliseconds,
        "ms",
        source=statement.source,
        does_not_prove="that it can be written, or that another role can log in",
        details={"version": server.version, "started_at": server.started_at},
    )


def latency(view: View) -> Check:
    """How long a question takes whose only cost is the way there and back."""
    statement, limits = _DOCTOR["backend"], view.policy.thresholds
    samples = []
    with (
        view.pipeline.lent(view.deadline) as connection,
        connection.transaction(
            read_only=True, deadline_seconds=max(0.1, view.deadline.remaining_seconds())
        ) as transaction,
    ):
        for _ in range(LATENCY_SAMPLES):
            started = time.perf_counter()
            transaction.value(statement)
            samples.append((time.perf_counter() - started) * 1000)
    median = statistics.median(samples)
    verdict = graded(
        median,
        limits.database_latency_warning_milliseconds,
        limits.database_latency_critical_milliseconds,
    )
    return Check(
        "database.latency",
        verdict,
        f"A question to the database and back takes {median:.3g} ms.",
        round(median, 2),
        "ms",
        limits.database_latency_warning_milliseconds,
        statement.source,
        "that statements which read tables are fast",
        "Look at the server's load and the network in between; a pooler that is full looks like this too."
        if verdict != "ok"
        else None,
        procedure=DATABASE_ERRORS if verdict != "ok" else None,
    )


def writable(view: View) -> Check:
    """Whether this is a primary whose transactions may write."""
    name, statement = "database.writable", _SQL["server"]
    server = view.row(statement)
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
        return Check(name, "ok", "The database can be written.", True, source=statement.source)
    expected = view.context.sources.attached
    return Check(
        name,
        "ok" if expected else "critical",
        f"{words} Nothing is written to a pipeline that is not ours." if expected else words,
        False,
        source=statement.source,
        next=None if expected else advice,
        procedure=None if expected else DATABASE_ERRORS,
    )


def clock(view: View) -> Check:
    """This machine's clock against the database's."""
    statement, limit = _DOCTOR["clock"], view.policy.thresholds.clock_skew_warning_seconds
    best: tuple[float, float] | None = None
    for _ in range(3):
        before = time.time()
        there = view.row(statement)[0]
        after = time.time()
        measured = (after - before, (before + after) / 2 - there)
        best = measured if best is None else min(best, measured)
    assert best is not None
    round_trip, offset = best
    # Within half the way there and back nothing can be said.
    wrong = abs(offset) - round_trip / 2 > limit
    side = "ahead of" if offset > 0 else "behind"
    return Check(
        "database.clock",
        "warning" if wrong else "ok",
        f"This machine's clock is {abs(offset):.2f} s {side} the database's.",
        round(offset, 3),
        "s",
        limit,
        statement.source,
        "which of the two clocks is right",
        "Correct the clock (timedatectl). Leases do not suffer, they use the database's clock; certificates and log times do."
        if wrong
        else None,
    )


def connections(view: View) -> Iterator[Check]:
    """Connections against the limits of server, role and database, and who holds them."""
    statement = _DOCTOR["connections"]
    row = view.row(statement)
    holders = [each._asdict() for each in view.rows(_SQL["connections_by_application"])]
    hidden = sum(each["hidden"] for each in holders)
    for owner, used, limit, advice in (
        ("server", row.used, row.server_limit, "max_connections"),
        ("role", row.used_by_role, row.role_limit, "ALTER ROLE … CONNECTION LIMIT"),
        ("database", row.used_by_database, row.database_limit, "ALTER DATABASE … CONNECTION LIMIT"),
    ):
        name = "database.connections" if owner == "server" else f"database.connections_of_{owner}"
        if limit is None:
            words = f"This {owner} has no limit of connections of its own; {used} are in use."
            yield Check(name, "ok", words, used, "connections", source=statement.source)
            continue
        yield _against_limit(view, name, owner, used, limit, advice, holders, hidden)


def _against_limit(
    view: View, name: str, owner: str, used: int, limit: int, advice: str,
    holders: list[dict[str, Any]], hidden: int,
) -> Check:  # fmt: skip
    limits = view.policy.thresholds
    # A role may be barred altogether (limit 0) while this session still runs.
    percent = 100.0 * used / limit if limit > 0 else 100.0
    verdict = graded(
        percent, limits.connections_warning_percent, limits.connections_critical_percent
    )
    most = ", ".join(
        f"{each['application']} ({each['role']}) {each['connections']}"
        for each in holders[:APPLICATIONS_NAMED]
    )
    return Check(
        name,
        verdict,
        f"{used} of {limit} connections that this {owner} may have are in use. Most are held by: {most}.",
        used,
        "connections",
        int(limit * limits.connections_warning_percent / 100),
        _DOCTOR["connections"].source,
        f"what {hidden} of the sessions do: this role may not see it (pg_monitor may)"
        if hidden
        else None,
        f"Close idle sessions of your own applications, lower RUNBOOK_CONCURRENCY, or raise the limit ({advice})."
        if verdict != "ok"
        else None,
        procedure=DATABASE_ERRORS if verdict != "ok" else None,
        details={"limit": limit, "percent": round(percent, 1), "by_application": holders},
    )


def pooler(view: View) -> Check:
    """Whether a pooler stands in between, and whether clients wait for it."""
    name, statement = "database.pooler", _DOCTOR["backend"]
    here, there, unanswered = _backends(view)
    if unanswered is None and here == there:
        words = "Connected to the server directly; there is no pooler in between."
        return Check(name, "ok", words, "none", source=statement.source)
    try:
        pools = _pools(view)
    except (psycopg2.Error, RunbookError):
        if unanswered is not None:
            raise unanswered from None
        return Check(
            name,
            "not_allowed",
            "A pooler stands in between, and this user may not ask it (SHOW POOLS) how many clients wait.",
            source="SHOW POOLS",
            next="PgBouncer: add the user to stats_users. Supabase: the pooler's figures are in the dashboard's reports.",
        )
    waiting = sum(int(pool.get("cl_waiting", 0)) for pool in pools)
    longest = max((float(pool.get("maxwait", 0)) for pool in pools), default=0.0)
    # How many wait at one moment says little: those that ask here wait for each other.
    # Nobody gets through, and every connection that the pooler has is in somebody's hands.
    full = unanswered is not None and any(int(pool.get("sv_active", 0)) and not int(pool.get("sv_idle", 0)) for pool in pools)  # fmt: skip
    verdict: Verdict = "critical" if longest >= 5 or full else "warning" if longest >= POOLER_WAIT_SECONDS else "ok"  # fmt: skip
    return Check(
        name,
        verdict,
        f"A pooler stands in between: {waiting} clients wait for a server connection, the longest for {longest:g} s.",
        longest,
        "s",
        POOLER_WAIT_SECONDS,
        "SHOW POOLS",
        "that it takes more clients: max_client_conn is another limit",
        "Raise the pooler's pool size, or lower the number of clients."
        if verdict != "ok"
        else None,
        procedure=DATABASE_ERRORS if verdict != "ok" else None,
        details={"waiting_clients": waiting},
    )


def _backends(view: View) -> tuple[int | None, int | None, RunbookError | None]:
    """The server's process as this connection was told, and as the server says; or why nobody answers.

    A pooler whose connections are all in use answers about itself while it lets nothing through.
    """
    try:
        with (
            view.pipeline.lent(Deadline.after(POOLER_WAIT_SECONDS)) as connection,
            connection.transaction(read_only=True, deadline_seconds=2) as transaction,
        ):
            return connection.raw.info.backend_pid, transaction.value(_DOCTOR["backend"]), None
    except RunbookError as error:
        return None, None, error


def _pools(view: View) -> list[dict[str, Any]]:
    """PgBouncer's pools, as its own console shows them."""
    console = view.context.sources.pipeline.beside("pgbouncer")
    with console.connect(connect_timeout_seconds=2) as connection:
        raw = connection.raw
        # The console knows neither transactions nor time-outs.
        with (
            WATCHDOG.guard(view.deadline, lambda: shut_descriptor(raw.fileno())),
            raw.cursor() as cursor,
        ):
            cursor.execute("SHOW POOLS")
            names = [column.name for column in cursor.description or ()]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return [row for row in rows if row.get("database") != "pgbouncer"]


CHECKS: tuple[DeclaredCheck, ...] = (
    DeclaredCheck(
        "database.reachable",
        "The database takes a connection and answers.",
        reachable,
        when_hung="critical",
    ),
    DeclaredCheck("database.latency", "A question there and back is fast.", latency),
    DeclaredCheck("database.writable", "It is a primary that can be written.", writable),
    DeclaredCheck("database.clock", "This machine's clock and the database's agree.", clock),
    DeclaredCheck(
        "database.connections",
        "Connections are left, of the server's, the role's and the database's.",
        connections,
        also=("database.connections_of_role", "database.connections_of_database"),
    ),
    DeclaredCheck("database.pooler", "No client waits for the pooler.", pooler),
)
