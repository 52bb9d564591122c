"""Indexes that nobody uses, that do the same twice, or that are broken: suggestions, never applied by themselves.

Use is counted since the statistics were last reset, on this server alone: a replica's reads and a question
that is asked once a quarter do not show. So an index is called unused only after enough days, and every
suggestion says what it costs to keep, what it costs to write, and what it does not prove.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from runbook_lib.database import Transaction
from runbook_lib.database.connection import quoted_name
from runbook_lib.database.statements import load
from runbook_lib.health.answers import size_words

_SQL = load("index_review")
# A month has its reports; before that, unused means little.
LEAST_DAYS = 30.0


@dataclass(frozen=True)
class Index:
    """An index of a table; one of a partitioned table stands for those of its partitions."""

    table_name: str
    index_name: str
    method: str
    partitioned: bool
    size_bytes: int
    scans: int
    last_used: datetime | None
    written: int | None
    updated: int | None
    hot: int | None
    is_unique: bool
    is_valid: bool
    is_constraint: bool
    keys: Sequence[str]
    ordering: str
    included: Sequence[str]
    predicate: str | None
    definition: str


@dataclass(frozen=True)
class Standing:
    """Since when use is counted, and whose use is not."""

    counted_since: datetime
    never_reset: bool
    days: float
    standby: bool
    replicas: int

    @property
    def words(self) -> str:
        told = f"Use is counted since {self.counted_since:%Y-%m-%d} ({self.days:.0f} days), on this server alone."
        if self.replicas or self.standby:
            told += f" There are {self.replicas or 'other'} replicas: look there too before you drop one."
        return told


@dataclass(frozen=True)
class Suggestion:
    """What may be done about an index. `statement` is for a person to run, outside a transaction."""

    finding: str
    table_name: str
    index_name: str
    reason: str
    write_cost: str
    statement: str
    does_not_prove: str

    def as_row(self) -> dict[str, Any]:
        return vars(self)


def read_indexes(transaction: Transaction) -> tuple[list[Index], Standing]:
    """The indexes of the schema's tables, and since when their use is counted."""
    standing = transaction.row(_SQL["standing"])
    assert standing is not None
    indexes = [Index(**row._asdict()) for row in transaction.rows(_SQL["indexes"])]
    return indexes, Standing(**standing._asdict())


def suggestions(indexes: Iterable[Index], standing: Standing) -> list[Suggestion]:
    """Invalid, duplicate, redundant and unused ones; each index once, the surest finding first."""
    indexes = list(indexes)
    found = [_invalid(index) for index in indexes if not index.is_valid and not index.partitioned]
    found += list(_repeated(indexes, {each.index_name for each in found}))
    named = {each.index_name for each in found}
    if standing.days >= LEAST_DAYS:
        found += [
            _unused(index, standing)
            for index in indexes
            if index.index_name not in named and _may_be_unused(index)
        ]
    return found


def too_young(standing: Standing) -> str | None:
    """Why nothing is said of unused indexes; None when it is."""
    if standing.days >= LEAST_DAYS:
        return None
    return f"Unused indexes are not named: use is counted for {standing.days:.1f} days only, {LEAST_DAYS:g} are needed."


def _may_be_unused(index: Index) -> bool:
    return index.scans == 0 and not index.is_unique and not index.is_constraint and index.is_valid


def _repeated(indexes: Sequence[Index], named: set[str]) -> Iterable[Suggestion]:
    for index in indexes:
        if index.is_constraint or index.is_unique or not index.is_valid:
            continue
        for other in indexes:
            if other.index_name in {index.index_name, *named} or not other.is_valid:
                continue
            finding = _does_the_work_of(other, index)
            if finding is not None:
                named.add(index.index_name)
                yield _redundant(finding, index, other)
                break


def _does_the_work_of(other: Index, index: Index) -> str | None:
    """`duplicate` or `redundant` when `other` finds everything that `index` finds."""
    same_place = (index.table_name, index.method, index.predicate) == (other.table_name, other.method, other.predicate)  # fmt: skip
    if not same_place or not set(index.included) <= {*other.included, *other.keys}:
        return None
    if (list(index.keys), index.ordering) == (list(other.keys), other.ordering):
        # Of two equal ones that no constraint needs, one has to stay: the one that is named first.
        first = other.is_unique or other.is_constraint or other.index_name < index.index_name
        return "duplicate" if first or set(index.included) < set(other.included) else None
    width = len(index.keys)
    if index.method == "btree" and width < len(other.keys) and list(other.keys[:width]) == list(index.keys):  # fmt: skip
        return "redundant" if _same_ordering(index, other, width) else None
    return None


def _same_ordering(index: Index, other: Index, width: int) -> bool:
    # Three lists one after the other: operator classes, collations, options, each as wide as its index.
    mine, theirs = index.ordering.split(), other.ordering.split()
    wide = len(theirs) // 3
    return all(
        mine[part * width : (part + 1) * width] == theirs[part * wide : part * wide + width]
        for part in range(3)
    )


def _invalid(index: Index) -> Suggestion:
    name = quoted_name(index.index_name)
    return Suggestion(
        "invalid", index.table_name, index.index_name,
        "A concurrent build of it failed: it is written to and never read.", _write_cost(index),
        f"REINDEX INDEX CONCURRENTLY {name}", "why the build failed: a duplicate key or a time-out, the server's log tells",
    )  # fmt: skip


def _redundant(finding: str, index: Index, other: Index) -> Suggestion:
    how = "is the same as" if finding == "duplicate" else "begins with the same columns as"
    return Suggestion(
        finding, index.table_name, index.index_name, f"{other.index_name} {how.replace('is the same as', 'does the same')}"
        if finding == "duplicate" else f"{other.index_name} {how} this one, and finds what it finds",
        _write_cost(index), _drop(index), "that it is never the faster one: a narrow index reads fewer pages",
    )  # fmt: skip


def _unused(index: Index, standing: Standing) -> Suggestion:
    return Suggestion(
        "unused", index.table_name, index.index_name,
        f"No scan in {standing.days:.0f} days; it takes {size_words(index.size_bytes)}.", _write_cost(index), _drop(index),
        "that nothing needs it: replicas, and what is asked once a quarter, do not count here",
    )  # fmt: skip


def _write_cost(index: Index) -> str:
    """What it costs to keep: an entry for each row that is written, and updates that cannot be HOT."""
    if index.written is None:
        return f"{size_words(index.size_bytes)}; writes are not known"
    told = f"{size_words(index.size_bytes)}; an entry for each of {index.written:,} rows written so far"
    if index.updated:
        told += f"; {100 * (index.hot or 0) / index.updated:.0f} % of updates leave indexes alone"
    return told


def _drop(index: Index) -> str:
    name = quoted_name(index.index_name)
    if index.partitioned:
        return f"SET lock_timeout = '2s'; DROP INDEX {name}"
    return f"DROP INDEX CONCURRENTLY {name}"
