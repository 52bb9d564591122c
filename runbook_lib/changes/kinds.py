"""What a kind of change is: a read-only preview, and how its rows are changed."""

from __future__ import annotations

import hashlib
import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from runbook_lib.changes.catalogue import KIND_MODULES
from runbook_lib.database.connection import Database, Transaction
from runbook_lib.errors import NotFoundError, UsageError


@dataclass(frozen=True)
class SeenRow:
    """One row or object as the preview saw it.

    `seen` is what the change depends on: when it differs at apply, the plan has drifted. `shown` is
    for people only. Both hold plain JSON values. `at` is the row's time, for oldest and newest; what holds
    many rows has an `until` too.
    """

    key: str
    seen: dict[str, Any]
    shown: dict[str, Any] = field(default_factory=dict)
    at: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Preview:
    """The rows that a change would touch, and how many there are in all."""

    rows: Sequence[SeenRow]
    count: int

    @property
    def digest(self) -> str:
        """sha256 over the rows, whatever order they were read in."""
        digest = hashlib.sha256()
        for row in sorted(self.rows, key=lambda row: row.key):
            line = json.dumps([row.key, row.seen], sort_keys=True, ensure_ascii=True)
            digest.update(line.encode("ascii") + b"\n")
        return digest.hexdigest()


@dataclass(frozen=True)
class ChangedRow:
    """What became of one row. `changed` False: there was nothing left to do."""

    key: str
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    changed: bool = True


@dataclass(frozen=True)
class Undo:
    """The kind and parameters of the change that takes another one back."""

    kind: str
    parameters: dict[str, Any]


class ChangeKind(ABC):
    """A kind of change. Subclass `TransactionalKind` or `StepwiseKind`, not this."""

    name: ClassVar[str]
    summary: ClassVar[str]
    parameters: ClassVar[Mapping[str, str]] = {}
    inverse: ClassVar[str | None] = None
    row_limit: ClassVar[int] = 10_000
    deadline_seconds: ClassVar[float] = 60
    lock_timeout_seconds: ClassVar[float] = 5

    @abstractmethod
    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters as plain JSON values, with times made absolute.

        Takes texts (from a command line) and values. Raises `UsageError` for what does not fit;
        unknown names are refused before this is called.
        """

    @abstractmethod
    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        """Reads, without changing anything, at most `row_count` of the rows, and counts all."""

    def kept(self, parameters: Mapping[str, Any], preview: Preview) -> dict[str, Any]:
        """The parameters as the plan keeps them. A kind whose rows may drift one by one, without the others being
        wrong for it, keeps here which it saw; its preview then shows exactly those again."""
        del preview
        return dict(parameters)

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """`check` after refusing names that the kind does not have."""
        if unknown := sorted(set(given) - set(self.parameters)):
            raise UsageError(
                f"{self.name} has no parameter {', '.join(unknown)}. "
                f"It has: {', '.join(self.parameters) or 'none'}."
            )
        return self.check(given)


class TransactionalKind(ChangeKind):
    """A change whose effects all lie in this database: one transaction, all or nothing."""

    @abstractmethod
    def lock(self, transaction: Transaction, rows: Sequence[SeenRow]) -> None:
        """Locks the rows, so that what is seen after it stays."""

    @abstractmethod
    def apply(
        self,
        transaction: Transaction,
        rows: Sequence[SeenRow],
        parameters: Mapping[str, Any],
        actor: str,
    ) -> Sequence[ChangedRow]:
        """Changes the locked rows; returns one `ChangedRow` for each."""


RowApplier = Callable[[SeenRow], ChangedRow]


class StepwiseKind(ChangeKind):
    """A change with effects outside the database: row by row, each recorded as it is done.

    `row_deadline_seconds` is the longest that one row may take; somebody else may take the change
    over when nothing was recorded for that long.
    """

    row_deadline_seconds: ClassVar[float] = 120
    stop_after_failures_in_a_row: ClassVar[int] = 3

    @abstractmethod
    def applier(
        self, database: Database, parameters: Mapping[str, Any], actor: str
    ) -> AbstractContextManager[RowApplier]:
        """Opens what is needed (a client) and gives the function that changes one row, repeatably."""


def undo_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """`check` of a kind that takes another change back: `change` is that change's id."""
    try:
        return {"change": str(UUID(str(given.get("change", "")).strip()))}
    except ValueError:
        raise UsageError(
            "It takes change=ID, the whole id of the change that is taken back."
        ) from None


_KINDS: dict[str, ChangeKind] = {}


def register(kind: ChangeKind) -> None:
    """Makes a kind known by its name; the module that defines it calls this, and `catalogue.py` names it."""
    _KINDS[kind.name] = kind


def kinds() -> dict[str, ChangeKind]:
    """All kinds of change, by name."""
    for module in KIND_MODULES.values():
        importlib.import_module(module)
    return dict(sorted(_KINDS.items()))


def kind_named(name: str) -> ChangeKind:
    """The kind of this name. Raises `NotFoundError` that lists the known ones."""
    if name not in _KINDS and name in KIND_MODULES:
        importlib.import_module(KIND_MODULES[name])
    if name not in _KINDS:
        raise NotFoundError(f"There is no kind of change {name!r}. Known: {', '.join(kinds())}.")
    return _KINDS[name]
