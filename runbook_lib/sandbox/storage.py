"""The sandbox's SQLite file: what it holds survives a restart and a kill -9.

Every statement is committed by itself or within `transaction`. The journal is written ahead without
waiting for the disk: a process that is killed loses nothing, a machine that loses power may.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_STATEMENT = re.compile(r"^-- name: (\w+)\n(?:--.*\n)*((?:.|\n)*?);\s*$", re.MULTILINE)
STATEMENTS: dict[str, str] = dict(
    _STATEMENT.findall((Path(__file__).parent / "statements.sql").read_text("utf-8"))
)

Row = dict[str, Any]


class Storage:
    """One connection, used by one thread."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(file, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._depth = 0
        for pragma in ("journal_mode = WAL", "synchronous = OFF", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        with self.transaction():
            for name in STATEMENTS:
                if name.startswith("create_"):
                    self.execute(name)

    def execute(self, name: str, /, **binds: Any) -> int:
        """Runs a statement that changes something; the id of the row that it made."""
        return self._connection.execute(STATEMENTS[name], binds).lastrowid or 0

    def count(self, name: str, /, **binds: Any) -> int:
        """Runs a statement that changes something; the number of rows that it changed."""
        return self._connection.execute(STATEMENTS[name], binds).rowcount

    def rows(self, name: str, /, **binds: Any) -> list[Row]:
        return [dict(row) for row in self._connection.execute(STATEMENTS[name], binds)]

    def row(self, name: str, /, **binds: Any) -> Row | None:
        found = self._connection.execute(STATEMENTS[name], binds).fetchone()
        return None if found is None else dict(found)

    def value(self, name: str, /, **binds: Any) -> Any:
        found = self._connection.execute(STATEMENTS[name], binds).fetchone()
        return None if found is None else found[0]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; one inside another belongs to the outer."""
        self._depth += 1
        if self._depth == 1:
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._depth -= 1
            if self._depth == 0:
                self._connection.execute("ROLLBACK")
            raise
        self._depth -= 1
        if self._depth == 0:
            self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()
