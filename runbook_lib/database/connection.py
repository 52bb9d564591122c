"""Connections to PostgreSQL: the address in one form, transactions under a total deadline.

Everything works through a transaction-mode pooler: no `options=` in the address, no session `SET`,
no session locks, no server-side prepared statements. What a transaction needs is `SET LOCAL`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import psycopg2
import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras

from runbook_lib import known_secrets
from runbook_lib.database.statements import Statement
from runbook_lib.deadlines import WATCHDOG, Deadline, Guard, shut_descriptor
from runbook_lib.errors import (
    ConfigurationError,
    CouldNotBeDone,
    DatabaseNotMigrated,
    DatabaseUnreachable,
    DeadlineExceeded,
    RunbookError,
    UsageError,
)

if TYPE_CHECKING:
    import pandas
    import sqlalchemy

psycopg2.extras.register_uuid()

_SCHEMES = ("postgres", "postgresql", "postgresql+psycopg2")
_NOT_AN_ADDRESS = (
    "DATABASE_URL is not an address. Expected postgresql://user:password@host:port/database; "
    "characters such as / # ? @ or % in the password must be percent-encoded."
)
# How much sooner the server gives up than the link is shut: a slow statement then ends in an answer,
# and the connection stays of use.
_SERVER_LEAD = 0.9
_LONGEST_SERVER_LEAD_SECONDS = 0.5
NOTHING_IS_WRITTEN = (
    "RUNBOOK_MAPPING says that this pipeline is not ours: nothing is ever written in its database. "
    "What is ours stands in the database that `runbook db status` shows."
)
# How the server says that ordinary roles get no connection any more; libpq gives no code for it.
NO_CONNECTION_LEFT = r"remaining connection slots are reserved|sorry, too many clients already"
_HOW_TO_GET_IN = (
    "None is left for this role. Close a program of yours, or end a worker (SIGTERM at its host: it finishes its jobs and "
    "gives its own back); or do this with the DATABASE_URL of a role that may use reserved ones: a superuser, or since "
    "PostgreSQL 16 one with pg_use_reserved_connections."
)
# Shut down or terminated (57P…), connection failure (08…; what PgBouncer answers too), idle too long.
_ENDED_BY_THE_SERVER = ("57P", "08", "25P03", "25P04")


def normalise_url(url: str) -> str:
    """A database address as libpq takes it: `postgresql://…`, without a driver and without `options`.

    Takes `postgres://`, `postgresql://` and `postgresql+psycopg2://`. Raises `ConfigurationError`
    that never shows the address, since it holds a password.
    """
    address = url.strip()
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        raise ConfigurationError(_NOT_AN_ADDRESS) from None
    if parts.scheme not in _SCHEMES:
        shown = (
            parts.scheme if parts.scheme.isalnum() and len(parts.scheme) < 12 else "something else"
        )
        raise ConfigurationError(
            f"DATABASE_URL must start with postgresql:// (or postgres://); it starts with {shown!r}."
        )
    # A password with / ? # or @ in it ends too early: what looks like the host or the database is
    # then a part of the password, and would be shown.
    elsewhere = "@" not in parts.netloc and "@" in parts.path + parts.query
    if parts.fragment or elsewhere or parts.netloc.count("@") > 1:
        raise ConfigurationError(_NOT_AN_ADDRESS)
    query = "&".join(
        each for each in parts.query.split("&") if each and each.split("=")[0] != "options"
    )
    # Not urlunsplit: it drops the // of an address without a host (a Unix socket).
    normalised = f"postgresql://{parts.netloc}{parts.path}{'?' if query else ''}{query}"
    try:
        psycopg2.extensions.parse_dsn(normalised)
    except psycopg2.ProgrammingError:
        # Its message quotes what it does not understand, which may be the password.
        raise ConfigurationError(_NOT_AN_ADDRESS) from None
    return normalised


def address_without_secret(url: str) -> str:
    """Host, port and database of an address, to show to people: `host:port/database`."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"


def quoted_name(name: str) -> str:
    """A name as SQL takes it, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


class Transaction:
    """Statements inside one open transaction. Rows come as named tuples."""

    def __init__(self, raw: psycopg2.extensions.connection) -> None:
        self._raw = raw

    def rows(self, statement: Statement | str, **parameters: Any) -> list[Any]:
        """All rows of a statement, as named tuples; an empty list for a statement without rows."""
        with self._raw.cursor(cursor_factory=psycopg2.extras.NamedTupleCursor) as cursor:
            cursor.execute(str(statement), parameters)
            return cursor.fetchall() if cursor.description else []

    def row(self, statement: Statement | str, **parameters: Any) -> Any | None:
        """The first row, or None."""
        found = self.rows(statement, **parameters)
        return found[0] if found else None

    def value(self, statement: Statement | str, **parameters: Any) -> Any:
        """The first column of the first row, or None."""
        found = self.row(statement, **parameters)
        return found[0] if found is not None else None

    def run(self, statement: Statement | str, **parameters: Any) -> int:
        """Executes a statement; returns how many rows it touched."""
        with self._raw.cursor() as cursor:
            cursor.execute(str(statement), parameters)
            return cursor.rowcount

    def run_many(self, statement: Statement | str, rows: Sequence[Sequence[Any]]) -> None:
        """`INSERT … VALUES %s` for many rows in few round trips."""
        with self._raw.cursor() as cursor:
            psycopg2.extras.execute_values(cursor, str(statement), rows, page_size=1000)

    def frame(self, statement: Statement | str, **parameters: Any) -> pandas.DataFrame:
        """The rows as a DataFrame, with the statement's column names."""
        import pandas

        with self._raw.cursor() as cursor:
            cursor.execute(str(statement), parameters)
            names = [column.name for column in cursor.description or ()]
            return pandas.DataFrame(cursor.fetchall(), columns=names)

    @property
    def raw(self) -> psycopg2.extensions.connection:
        """The psycopg2 connection, for COPY and server-side cursors."""
        return self._raw


class Connection:
    """One connection; every transaction on it ends within its deadline, whatever the link does."""

    def __init__(
        self,
        raw: psycopg2.extensions.connection,
        schema: str,
        deadline_seconds: float,
        *,
        path: str | None = None,
        never_writes: bool = False,
        opened_with: str = "",
    ) -> None:
        self.raw = raw
        # With the password: to tell whether the address has changed since, and never to be shown.
        self.opened_with = opened_with
        self._schema = schema
        self._path = path or f"{quoted_name(schema)}, public"
        self._deadline_seconds = deadline_seconds
        self._never_writes = never_writes

    @contextmanager
    def transaction(
        self,
        *,
        deadline_seconds: float | None = None,
        lock_timeout_seconds: float | None = None,
        read_only: bool = False,
    ) -> Iterator[Transaction]:
        """One transaction: committed at the end of the block, rolled back on an error.

        `deadline_seconds` bounds the whole block, on the server (`statement_timeout`) and on the
        link (the socket is shut). `lock_timeout_seconds` must be shorter, so that waiting for a lock
        can be told from a slow statement. Raises `DeadlineExceeded`, `DatabaseUnreachable`,
        `DatabaseNotMigrated`; other database errors pass as psycopg2 classes them. Raises `UsageError` for
        a transaction that could write where nothing may be written.
        """
        if self._never_writes and not read_only:
            raise UsageError(NOTHING_IS_WRITTEN)
        seconds = deadline_seconds or self._deadline_seconds
        deadline = Deadline.after(seconds)
        with WATCHDOG.guard(deadline, lambda: shut_descriptor(self.raw.fileno())) as guard:
            try:
                with self.raw.cursor() as cursor:
                    cursor.execute(self._begin(seconds, lock_timeout_seconds, read_only))
                yield Transaction(self.raw)
                # A process that was stopped may go on sooner than its watchdog wakes.
                if deadline.remaining_seconds() <= 0:
                    raise DeadlineExceeded(f"The transaction was not done within {seconds:g} s.")
                with self.raw.cursor() as cursor:
                    cursor.execute("COMMIT")
            except psycopg2.Error as error:
                self._roll_back()
                schema = None if self._never_writes else self._schema
                explained = _ours(error, guard, seconds, schema)
                if explained is error:
                    raise
                raise explained from error
            except BaseException:
                self._roll_back()
                raise
            finally:
                # Its socket is shut: whoever looks at `broken` must not use it again.
                if guard.expired:
                    self.close()

    def run_alone(self, statement: str, *, deadline_seconds: float | None = None) -> None:
        """One statement that may not stand in a transaction, such as CREATE INDEX CONCURRENTLY.

        The names in it must be whole: no search_path is set, as a session setting would outlive it behind a
        pooler. Past the deadline the link is shut; the server may finish the statement all the same. Raises
        as `transaction`.
        """
        if self._never_writes:
            raise UsageError(NOTHING_IS_WRITTEN)
        seconds = deadline_seconds or self._deadline_seconds
        with WATCHDOG.guard(
            Deadline.after(seconds), lambda: shut_descriptor(self.raw.fileno())
        ) as guard:
            try:
                with self.raw.cursor() as cursor:
                    cursor.execute(statement)
            except psycopg2.Error as error:
                explained = _ours(error, guard, seconds, self._schema)
                if explained is error:
                    raise
                raise explained from error
            finally:
                if guard.expired:
                    self.close()

    def _begin(self, seconds: float, lock_timeout_seconds: float | None, read_only: bool) -> str:
        server = max(seconds * _SERVER_LEAD, seconds - _LONGEST_SERVER_LEAD_SECONDS)
        lock_timeout = min(lock_timeout_seconds or seconds * 0.5, server * 0.9)
        return (
            f"BEGIN{' READ ONLY' if read_only else ''}; "
            f"SET LOCAL search_path TO {self._path}; "
            f"SET LOCAL statement_timeout TO {max(1, int(server * 1000))}; "
            f"SET LOCAL lock_timeout TO {max(1, int(lock_timeout * 1000))}; "
            f"SET LOCAL idle_in_transaction_session_timeout TO {max(1, int(seconds * 1000)) + 1000}"
        )

    def _roll_back(self) -> None:
        try:
            if not self.raw.closed:
                with self.raw.cursor() as cursor:
                    cursor.execute("ROLLBACK")
        except psycopg2.Error:
            self.close()

    @property
    def broken(self) -> bool:
        return bool(self.raw.closed)

    def close(self) -> None:
        try:
            self.raw.close()
        except psycopg2.Error:
            pass

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Database:
    """Where the tables are and how to reach them. Opening it connects to nothing yet.

    `hold` is what keeps a shared embedded server up while this object is in use. `never_writes`: it is
    somebody else's, and every transaction on it must be read only. `only_schema`: names are looked up in
    the schema alone and not in `public` as well, where tables of the same name may be somebody else's.
    `present_url` is asked for each new connection, so that a rotated password is used from then on.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "public",
        deadline_seconds: float = 30,
        application_name: str = "runbook",
        hold: Any = None,
        never_writes: bool = False,
        only_schema: bool = False,
        present_url: Callable[[], str] | None = None,
    ) -> None:
        self._url = normalise_url(url)
        self._present_url = present_url
        known_secrets.register_address(self._url, "the database password")
        for password in parse_qs(urlsplit(self._url).query).get("password", ()):
            known_secrets.register(password, "the database password")
        self.schema = schema
        self.deadline_seconds = deadline_seconds
        self.application_name = application_name
        self.never_writes = never_writes
        self._path = quoted_name(schema) if only_schema else f"{quoted_name(schema)}, public"
        self._hold = hold

    def __repr__(self) -> str:
        return f"Database({self.address!r}, schema={self.schema!r})"

    @property
    def url(self) -> str:
        """The address with its password, as it is now: never log or print it."""
        if self._present_url is not None:
            self._url = self._present_url()
        return self._url

    @property
    def follows(self) -> bool:
        """Whether user and password may change while this process runs."""
        return self._present_url is not None

    @property
    def address(self) -> str:
        """The address without its password."""
        return address_without_secret(self._url)

    def beside(self, name: str) -> Database:
        """Another database of the same server, or the console of the pooler in front of it."""
        parts = urlsplit(self.url)
        query = f"?{parts.query}" if parts.query else ""
        return Database(
            f"postgresql://{parts.netloc}/{name}{query}", application_name=self.application_name
        )

    def connect(self, *, connect_timeout_seconds: float = 10) -> Connection:
        """A new connection. Raises `DatabaseUnreachable` with the server's reason.

        The time-out is for each address that the host's name has. An embedded server that was killed
        is started again.
        """
        url = self.url
        try:
            raw = self._connect(connect_timeout_seconds)
        except DatabaseUnreachable:
            if self._hold is None:
                raise
            self._hold.ensure()
            raw = self._connect(connect_timeout_seconds)
        raw.autocommit = True
        return Connection(
            raw,
            self.schema,
            self.deadline_seconds,
            path=self._path,
            never_writes=self.never_writes,
            opened_with=url,
        )

    def _connect(self, timeout_seconds: float, **factories: Any) -> psycopg2.extensions.connection:
        try:
            return psycopg2.connect(
                self.url,
                application_name=self.application_name,
                connect_timeout=max(2, int(timeout_seconds)),
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
                **factories,
            )
        except psycopg2.Error as error:
            told = _first_line(error)
            full = re.search(NO_CONNECTION_LEFT, told)
            raise DatabaseUnreachable(
                f"No connection to the database at {self.address}: {told}. "
                f"{_HOW_TO_GET_IN if full else 'Run `runbook doctor` to see which step fails.'}"
            ) from None

    @contextmanager
    def transaction(self, **options: Any) -> Iterator[Transaction]:
        """One transaction on a connection of its own; options as in `Connection.transaction`."""
        with self.connect() as connection, connection.transaction(**options) as transaction:
            yield transaction

    def engine(self, deadline_seconds: float | None = None) -> sqlalchemy.Engine:
        """A SQLAlchemy engine without a pool of its own, for pandas, Alembic and ad-hoc questions."""
        from runbook_lib.database.engine import guarded_engine

        seconds = deadline_seconds or self.deadline_seconds
        return guarded_engine(
            lambda **factories: self._connect(10, **factories),
            self._path,
            seconds,
            read_only=self.never_writes,
        )

    def close(self) -> None:
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class UnavailableDatabase(Database):
    """Stands where the database could not be opened: whoever asks it gets the reason."""

    def __init__(self, reason: RunbookError) -> None:
        super().__init__("postgresql://unavailable/")
        self.reason = reason

    def connect(self, **_: Any) -> Connection:
        raise self.reason


def _ours(error: psycopg2.Error, guard: Guard, seconds: float, schema: str | None) -> Exception:
    """The error in our words. `schema` is that of our own tables; None where the tables are not ours."""
    if isinstance(error, psycopg2.errors.QueryCanceled) and not _timed_out(guard, seconds):
        return CouldNotBeDone(f"The statement was cancelled at the server: {_first_line(error)}")
    if guard.expired or isinstance(error, psycopg2.errors.QueryCanceled):
        return DeadlineExceeded(f"The database did not answer within {seconds:g} s.")
    if isinstance(error, psycopg2.errors.UndefinedTable | psycopg2.errors.UndefinedColumn):
        if schema is None:
            return CouldNotBeDone(
                f"{_first_line(error)}. The pipeline's tables are not as RUNBOOK_MAPPING has them: `runbook doctor` compares them."
            )
        # The server says the same of a table in a schema that a role may not use.
        unseen = isinstance(error, psycopg2.errors.UndefinedTable)
        hint = (
            " If it is there, this role may not use the schema: `runbook doctor` tells."
            if unseen
            else ""
        )
        return DatabaseNotMigrated(
            f"{_first_line(error)} (schema {schema!r}). Run `runbook db migrate`, or set RUNBOOK_DATABASE_SCHEMA.{hint}"
        )
    if error.pgcode is None and (
        isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
        # What psycopg2 raises when the link breaks in the middle of an answer.
        or type(error) is psycopg2.DatabaseError
    ):
        return DatabaseUnreachable(f"The connection to the database broke: {_first_line(error)}")
    if error.pgcode is not None and error.pgcode.startswith(_ENDED_BY_THE_SERVER):
        return DatabaseUnreachable(f"The database ended the connection: {_first_line(error)}")
    return error


def _timed_out(guard: Guard, seconds: float) -> bool:
    """Whether a cancelled statement met our time-out; else somebody cancelled it."""
    lead = min(seconds * (1 - _SERVER_LEAD), _LONGEST_SERVER_LEAD_SECONDS)
    return guard.expired or guard.deadline.remaining_seconds() <= lead * 1.5


def _first_line(error: BaseException) -> str:
    # Only the first line: PostgreSQL's DETAIL prints whole rows, topics and bodies included.
    return str(error).strip().split("\n")[0]
