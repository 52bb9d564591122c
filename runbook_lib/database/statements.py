"""Loads the SQL statements, each named and described, from `runbook_lib/sql/*.sql`.

A statement starts with `-- name: the_name`; the comment lines below it describe it; binds are
psycopg2's `%(name)s`, and a literal percent sign is doubled.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SQL_DIRECTORY = Path(__file__).resolve().parent.parent / "sql"
_NAME = re.compile(r"^-- name: (\w+)\s*$")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Statement:
    """One SQL statement. `source` is `file.name`, the way a check cites it."""

    source: str
    description: str
    text: str

    def __str__(self) -> str:
        return self.text


@cache
def load(file: str) -> dict[str, Statement]:
    """The statements of `sql/<file>.sql` by name. Raises as `read_statements`."""
    return read_statements(SQL_DIRECTORY / f"{file}.sql")


def find_statement(source: str) -> Statement | None:
    """The statement that is cited as `file.name`, whatever follows it; None for what is none, such as a probe."""
    file, _, rest = source.partition(".")
    name = _WORD.match(rest)
    if not name or not _WORD.fullmatch(file) or not (SQL_DIRECTORY / f"{file}.sql").is_file():
        return None
    return load(file).get(name[0])


def read_statements(path: Path) -> dict[str, Statement]:
    """The statements of a file by name; their source is `file.name`.

    Raises `ValueError` for a statement without a description or with a name that occurs twice.
    """
    file = path.stem
    statements: dict[str, Statement] = {}
    name, description, text = "", [""], [""]
    for line in [*path.read_text("utf-8").splitlines(), "-- name: end"]:
        if heading := _NAME.match(line):
            if name:
                body = "\n".join(text).strip().rstrip(";")
                if not description or not body or name in statements:
                    raise ValueError(
                        f"{path.parent.name}/{path.name}: {name} needs a description, a body and a name of its own"
                    )
                statements[name] = Statement(f"{file}.{name}", " ".join(description), body)
            name, description, text = heading[1], [], []
        elif line.startswith("--") and not any(text):
            description.append(line.removeprefix("--").strip())
        else:
            text.append(line)
    return statements
