"""The database from outside in: address, name, connection, protocol, login, then what stands inside."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Generator
from typing import Any

import psycopg2
import psycopg2.extensions

from runbook_lib.database.connection import (
    Connection,
    Database,
    address_without_secret,
    normalise_url,
)
from runbook_lib.errors import ConfigurationError
from runbook_lib.health.checks import Check
from runbook_lib.health.probes import Probe
from runbook_lib.health.probes.login_failures import explain_login_failure
from runbook_lib.health.probes.network import CONNECT_SECONDS, connect, is_this_machine, resolve
from runbook_lib.health.probes.session import STATEMENT_SECONDS, probe_session

LOGIN_SECONDS = 10
# Over a slow link a login takes so many times as long as the first word (encryption, start, password, ready), and
# is given that time, within reason: a time-out before it would be no sign of a server that hangs.
LOGIN_ROUND_TRIPS, LONGEST_LOGIN_SECONDS = 8, 6.0
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # protocol, section 55.7 "SSLRequest"


def probe_database(
    url: str,
    schema: str,
    *,
    patience_seconds: float = CONNECT_SECONDS,
    never_writes: bool = False,
) -> Probe:
    """All steps for one address. Reads in read-only transactions, changes nothing.

    `never_writes`: the pipeline there is not ours, and none of our tables is looked for.
    """
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
    if (yield from _reach(options, patience_seconds)) is None:
        return
    connection = yield from _log_in(address, schema, LOGIN_SECONDS)
    if connection is None:
        return
    database = Database(
        address,
        schema=schema,
        deadline_seconds=STATEMENT_SECONDS,
        application_name="runbook doctor",
        never_writes=never_writes,
    )
    with connection:
        yield from probe_session(connection, database)


def probe_entrance(url: str, *, patience_seconds: float = CONNECT_SECONDS) -> Probe:
    """The steps up to the login, and no question: a new session is made and ended at once."""
    address = normalise_url(url)
    options = psycopg2.extensions.parse_dsn(address)
    first_word_seconds = yield from _reach(options, patience_seconds)
    if first_word_seconds is None:
        return
    needed_seconds = min(LONGEST_LOGIN_SECONDS, LOGIN_ROUND_TRIPS * first_word_seconds)
    connection = yield from _log_in(address, "public", max(patience_seconds, needed_seconds))
    if connection is not None:
        connection.close()


def _address(address: str, options: dict[str, Any], dropped_options: bool) -> Check:
    shown = address_without_secret(address)
    words = f"The database is {shown}, user {options.get('user', 'not given')}."
    if dropped_options:
        words += " What stands in options= is left out: poolers refuse it."
    return Check("database.address", "ok", words, value=shown, source="DATABASE_URL")


def _reach(
    options: dict[str, Any], patience_seconds: float
) -> Generator[Check, None, float | None]:
    """How long the first word took; None where there was none."""
    host, port = str(options.get("host", "")), int(options.get("port", 5432))
    if not host or host.startswith("/"):
        return 0.0  # a Unix socket: the login tells
    addresses = yield from resolve("database", host, port, "DATABASE_URL")
    if not addresses:
        return None
    link = yield from connect("database", addresses, host, port, "DATABASE_URL", patience_seconds)
    if link is None:
        return None
    with link:
        return (yield from _speaks_postgresql(link, host, port, patience_seconds))


def _speaks_postgresql(
    link: socket.socket, host: str, port: int, patience_seconds: float
) -> Generator[Check, None, float | None]:
    name, source = "database.protocol", f"SSLRequest to {host}:{port}"
    link.settimeout(patience_seconds)
    begun = time.monotonic()
    try:
        link.sendall(_SSL_REQUEST)
        answer = link.recv(1)
    except TimeoutError:
        yield Check(
            name,
            "critical",
            f"{host}:{port} takes connections, but says nothing within {patience_seconds:g} s: the server hangs.",
            source=source,
            next="Look at the server: stopped process, full disk, a stuck pooler. Restarting workers does not help.",
            details={"reason": "silent"},
        )
        return None
    except OSError as error:
        answer = b""
        words = f"{host}:{port} ends the connection at the first word ({error})."
    else:
        words = f"What answers at {host}:{port} is not PostgreSQL."
    if answer in (b"S", b"N"):
        encryption = "with" if answer == b"S" else "without"
        seconds = time.monotonic() - begun
        words = f"PostgreSQL answers, {encryption} encryption on offer."
        yield Check(name, "ok", words, round(seconds, 3), "s", source=source)
        return seconds
    if not answer:
        words = f"{host}:{port} takes the connection and ends it at once."
    yield Check(
        name,
        "critical",
        words,
        source=source,
        next="Correct host and port in DATABASE_URL; if they are right, read the log of the server or proxy there.",
    )
    return None


def _log_in(
    address: str, schema: str, patience_seconds: float
) -> Generator[Check, None, Connection | None]:
    try:
        raw = psycopg2.connect(
            address,
            application_name="runbook doctor",
            # The least that libpq knows is two.
            connect_timeout=max(2, int(patience_seconds)),
        )
    except psycopg2.OperationalError as error:
        failure = explain_login_failure(str(error))
        yield Check(
            f"database.{failure.step}",
            "critical",
            f"{failure.meaning} It said: {_last_reason(error)}",
            source="login",
            next=failure.advice,
            details={"step": failure.step, "kind": failure.kind},
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
