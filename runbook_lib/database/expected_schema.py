"""What the migrations make of the tables that a worker writes: so that what others changed is seen.

`expected_schema.txt` holds a line for each table, column, check, trigger and policy: table, kind, name. A test
compares it with a migrated database and says how it is written again.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("expected_schema.txt")


@cache
def expected_names(kind: str) -> dict[str, frozenset[str]]:
    """Table → the names of its columns, constraints, triggers or policies."""
    found: dict[str, set[str]] = {}
    for line in FILE.read_text("utf-8").splitlines():
        table, of, name = line.split()
        found.setdefault(table, set())
        if of == kind:
            found[table].add(name)
    return {table: frozenset(names) for table, names in found.items()}
