"""A SQLAlchemy engine whose statements end by a deadline, for pandas, Alembic and ad-hoc questions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg2.extensions
import sqlalchemy
import sqlalchemy.pool

from runbook_lib.deadlines import WATCHDOG, Deadline, shut_descriptor


def guarded_engine(
    connect: Callable[..., psycopg2.extensions.connection],
    path: str,
    deadline_seconds: float,
    *,
    read_only: bool = False,
) -> sqlalchemy.Engine:
    """An engine without a pool of its own over `connect`; `path` is the schemas to search.

    With `read_only` each of its transactions begins as `READ ONLY`.

    Every statement and commit ends within `deadline_seconds`, also when the link stalls: then the
    socket is shut and the connection is of no more use.
    """

    class Cursor(psycopg2.extensions.cursor):
        def execute(self, query: Any, vars: Any = None) -> None:
            with _guard(self.connection, deadline_seconds):
                super().execute(query, vars)

        def executemany(self, query: Any, vars_list: Any) -> None:
            with _guard(self.connection, deadline_seconds):
                super().executemany(query, vars_list)

    class GuardedConnection(psycopg2.extensions.connection):
        def commit(self) -> None:
            with _guard(self, deadline_seconds):
                super().commit()

        def rollback(self) -> None:
            with _guard(self, deadline_seconds):
                super().rollback()

    def open_connection() -> psycopg2.extensions.connection:
        raw = connect(connection_factory=GuardedConnection, cursor_factory=Cursor)
        # Not a setting of the session, which a pooler would hand on: psycopg2 sends BEGIN READ ONLY.
        raw.set_session(readonly=read_only or None, autocommit=False)
        return raw

    def begin(link: sqlalchemy.Connection) -> None:
        timeout = f"{max(1, int(deadline_seconds * 1000))}ms"
        local = {
            "search_path": path,
            "statement_timeout": timeout,
            "lock_timeout": f"{max(1, int(deadline_seconds * 500))}ms",
        }
        settings = [sqlalchemy.func.set_config(name, text, True) for name, text in local.items()]
        link.execute(sqlalchemy.select(*settings))

    engine = sqlalchemy.create_engine(
        "postgresql+psycopg2://", creator=open_connection, poolclass=sqlalchemy.pool.NullPool
    )
    sqlalchemy.event.listen(engine, "begin", begin)
    return engine


def _guard(raw: psycopg2.extensions.connection, seconds: float) -> Any:
    return WATCHDOG.guard(Deadline.after(seconds), lambda: shut_descriptor(raw.fileno()))
