"""Connections: every call ends by its deadline on any link, and no error shows a password."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from urllib.parse import quote, urlsplit

import psycopg2
import psycopg2.errors
import pytest

from runbook_lib import known_secrets
from runbook_lib.database import Database
from runbook_lib.database.connection import normalise_url
from runbook_lib.deadlines import Deadline, Watchdog
from runbook_lib.errors import (
    ConfigurationError,
    CouldNotBeDone,
    DatabaseNotMigrated,
    DatabaseUnreachable,
    DeadlineExceeded,
)

PASSWORD = "s3cret-Pass-word"


class Proxy:
    """A TCP proxy that can stall: it goes on reading, so the other side's TCP sees every byte taken."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._links: list[socket.socket] = []
        self.stalled = threading.Event()
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._links += [client, server]
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    if not self.stalled.is_set():
                        (server if ready is client else client).sendall(data)

    def close(self) -> None:
        self._listener.close()
        for link in self._links:
            link.close()


@pytest.fixture
def proxy(database: Database) -> Iterator[Proxy]:
    parts = urlsplit(database.url)
    proxy = Proxy((str(parts.hostname), int(parts.port or 5432)))
    yield proxy
    proxy.close()


def through(proxy: Proxy, database: Database) -> Database:
    port = urlsplit(database.url).port
    return Database(database.url.replace(f":{port}/", f":{proxy.port}/"), deadline_seconds=1)


def ends_within(seconds: float, call: Callable[[], object], error: type[Exception]) -> None:
    begun = time.monotonic()
    with pytest.raises(error):
        call()
    assert time.monotonic() - begun < seconds


def test_a_stalled_link_ends_within_its_deadline_and_the_connection_is_not_used_again(
    proxy: Proxy, database: Database
) -> None:
    with through(proxy, database).connect() as connection:
        with connection.transaction() as transaction:
            assert transaction.value("SELECT 1") == 1
        proxy.stalled.set()

        def ask() -> None:
            with connection.transaction() as transaction:
                transaction.value("SELECT 2")

        ends_within(2, ask, DeadlineExceeded)
        assert connection.broken


def test_a_link_that_stalls_inside_a_transaction_ends_it_within_its_deadline_too(
    proxy: Proxy, database: Database
) -> None:
    with through(proxy, database).connect() as connection:

        def ask() -> None:
            with connection.transaction() as transaction:
                transaction.value("SELECT 1")
                proxy.stalled.set()
                raise KeyError("the rollback has to cross the stalled link")

        ends_within(2, ask, KeyError)
        assert connection.broken


def test_the_engine_for_pandas_and_alembic_ends_on_a_stalled_link_too(
    proxy: Proxy, database: Database
) -> None:
    import sqlalchemy
    import sqlalchemy.exc

    with through(proxy, database).engine().connect() as link:
        assert link.execute(sqlalchemy.text("SELECT 1")).scalar() == 1
        proxy.stalled.set()
        question = sqlalchemy.text("SELECT 2")
        ends_within(2, lambda: link.execute(question), sqlalchemy.exc.DBAPIError)


def test_a_server_that_accepts_and_never_answers_ends_the_connecting(database: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = urlsplit(database.url).port
        url = database.url.replace(f":{port}/", f":{silent.getsockname()[1]}/")
        call = Database(url).connect
        ends_within(3, lambda: call(connect_timeout_seconds=2), DatabaseUnreachable)


def test_a_slow_statement_ends_in_time_and_leaves_the_connection_of_use(database: Database) -> None:
    with database.connect() as connection:

        def ask() -> None:
            with connection.transaction(deadline_seconds=1) as transaction:
                transaction.value("SELECT pg_sleep(20)")

        ends_within(2, ask, DeadlineExceeded)
        assert not connection.broken
        with connection.transaction() as transaction:
            assert transaction.value("SELECT 1") == 1


def test_a_block_that_dawdles_between_its_statements_meets_the_deadline_as_well(
    database: Database,
) -> None:
    with database.connect() as connection:

        def dawdle() -> None:
            with connection.transaction(deadline_seconds=0.3) as transaction:
                transaction.value("SELECT 1")
                time.sleep(0.6)
                transaction.value("SELECT 2")

        with pytest.raises(DeadlineExceeded):
            dawdle()
        assert connection.broken


def test_waiting_for_a_lock_is_told_from_a_slow_statement(database: Database) -> None:
    with database.transaction() as holder:
        holder.run("LOCK TABLE workers IN ACCESS EXCLUSIVE MODE")
        with (
            pytest.raises(psycopg2.errors.LockNotAvailable),
            database.transaction(lock_timeout_seconds=0.1) as transaction,
        ):
            transaction.run("SELECT FROM workers")


def cancel_sleep(database: Database, pid: int) -> None:
    asleep = (
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
        " WHERE pid = %(pid)s AND wait_event = 'PgSleep'"
    )
    with database.connect() as connection:
        cancelled = False
        while not cancelled:
            with connection.transaction() as transaction:
                cancelled = bool(transaction.value(asleep, pid=pid))


def test_a_statement_that_somebody_cancels_is_not_taken_for_a_slow_one(database: Database) -> None:
    with database.connect() as connection:
        pid = connection.raw.info.backend_pid

        def sleep() -> None:
            with connection.transaction() as transaction:
                transaction.value("SELECT pg_sleep(25)")

        canceller = threading.Thread(target=cancel_sleep, args=(database, pid))
        canceller.start()
        with pytest.raises(CouldNotBeDone, match="cancelled") as raised:
            sleep()
        canceller.join()
    assert not isinstance(raised.value, DeadlineExceeded)


def test_a_session_that_is_terminated_is_told_as_unreachable_and_broken(database: Database) -> None:
    with database.connect() as connection:
        with database.transaction() as transaction:
            pid = connection.raw.info.backend_pid
            assert transaction.value("SELECT pg_terminate_backend(%(pid)s, 5000)", pid=pid)
        with pytest.raises(DatabaseUnreachable), connection.transaction() as transaction:
            transaction.value("SELECT 1")
        assert connection.broken


def test_an_error_rolls_everything_back_and_passes_as_postgresql_classed_it(
    database: Database,
) -> None:
    with database.connect() as connection:

        def fail_half_way() -> None:
            with connection.transaction() as transaction:
                transaction.run("INSERT INTO content_jobs (topic) VALUES ('one')")
                transaction.run("INSERT INTO content_jobs (topic) VALUES (NULL)")

        with pytest.raises(psycopg2.errors.NotNullViolation):
            fail_half_way()
        assert not connection.broken
        with connection.transaction() as transaction:
            assert transaction.value("SELECT count(*) FROM content_jobs") == 0


def test_an_absent_table_names_the_command_that_makes_it(
    new_database: Callable[..., Database],
) -> None:
    empty = new_database(migrated=False)
    with (
        pytest.raises(DatabaseNotMigrated, match="runbook db migrate"),
        empty.transaction() as transaction,
    ):
        transaction.rows("SELECT FROM content_jobs")


def test_a_schema_named_like_a_keyword_or_in_capitals_is_found(database: Database) -> None:
    with database.transaction() as transaction:
        transaction.run('CREATE SCHEMA "Order"; CREATE TABLE "Order".mine (); SELECT 1')
    with Database(database.url, schema="Order").transaction() as transaction:
        assert transaction.value("SELECT current_schema()") == "Order"
        assert transaction.value("SELECT count(*) FROM mine") == 0


def test_the_watchdog_lives_on_when_there_is_nothing_left_to_shut() -> None:
    watchdog = Watchdog()
    shut = threading.Event()

    def closed_already() -> None:
        raise psycopg2.InterfaceError("connection already closed")

    with watchdog.guard(Deadline.after(0), closed_already) as first:
        while not first.expired:
            time.sleep(0.01)
    with watchdog.guard(Deadline.after(0), shut.set):
        assert shut.wait(10)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgres://u:p@h:1/d", "postgresql://u:p@h:1/d"),
        ("  postgresql+psycopg2://u:p@h/d\n", "postgresql://u:p@h/d"),
        ("postgresql://u:p@h/d?options=-csearch_path%3Dx", "postgresql://u:p@h/d"),
        (
            "postgres://u.ref:p%40x@h:6543/d?options=x&sslmode=require&sslrootcert=%2Fa%20b",
            "postgresql://u.ref:p%40x@h:6543/d?sslmode=require&sslrootcert=%2Fa%20b",
        ),
        ("postgresql:///d?host=/var/run", "postgresql:///d?host=/var/run"),
    ],
)
def test_addresses_come_into_one_form(given: str, expected: str) -> None:
    assert normalise_url(given) == expected


@pytest.mark.parametrize("mark", ["/", "#", "?", "@", "%", "%zz", "[", ":/", "#@", "/@"])
@pytest.mark.parametrize("where", ["12{}-34secret", "{}secretword", "secretword{}"])
def test_a_password_that_was_not_encoded_is_refused_and_never_shown(mark: str, where: str) -> None:
    url = f"postgresql://user:{where.format(mark)}@db.example.com:5432/app"
    with pytest.raises(ConfigurationError) as raised:
        normalise_url(url)
    assert "secret" not in str(raised.value)
    assert "12" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_no_error_repr_or_address_shows_the_password(database: Database) -> None:
    parts = urlsplit(database.url)
    url = f"postgresql://nobody:{quote(PASSWORD)}@{parts.hostname}:{parts.port}{parts.path}"
    wrong = Database(url)
    with pytest.raises(DatabaseUnreachable) as raised:
        wrong.connect()
    assert raised.value.__cause__ is None
    with database.connect() as connection:
        real = str(parts.password)
        shown = [
            str(raised.value),
            repr(wrong),
            wrong.address,
            repr(database),
            repr(connection.raw),
        ]
    engine = wrong.engine()
    with pytest.raises(DatabaseUnreachable) as through_the_engine, engine.connect():
        pass
    shown += [repr(engine), str(engine.url), str(through_the_engine.value)]
    assert not [text for text in shown if PASSWORD in text or real in text]
    assert PASSWORD in known_secrets.forms()


def test_a_password_given_as_a_parameter_is_known_for_masking_too() -> None:
    Database("postgresql://host/db?user=u&password=param%2Dpassw0rd")
    assert "param-passw0rd" in known_secrets.forms()


STOPPED = """
import os
import sys
from runbook_lib.database import Database
database = Database(os.environ["URL"], deadline_seconds=1)
with database.transaction() as transaction:
    print(transaction.value("SELECT 1"), flush=True)
    sys.stdin.readline()
    transaction.value("SELECT 2")
"""


def test_a_process_that_was_stopped_past_its_deadline_changes_nothing_when_it_goes_on(
    database: Database,
) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {**os.environ, "URL": database.url}
    with subprocess.Popen([sys.executable, "-c", STOPPED], env=environment, **pipes) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(1.2)
        os.kill(process.pid, signal.SIGCONT)
        _, told = process.communicate(b"\n")
    assert b"DeadlineExceeded" in told
