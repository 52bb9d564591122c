"""What a declared check is, and what it is given to look with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from runbook_lib.database.connection import Connection
from runbook_lib.database.statements import Statement
from runbook_lib.deadlines import Deadline
from runbook_lib.health.checks import Check, Verdict
from runbook_lib.health.connections import Connections
from runbook_lib.health.context import Context
from runbook_lib.policy import Policy
from runbook_lib.settings import Settings

# A statement that takes longer is given up, so that the other checks still get their turn.
STATEMENT_SECONDS = 2.0
LOCK_SECONDS = 0.5


@dataclass(frozen=True)
class View:
    """What a check may look at. Statements run read-only, each under a deadline of its own.

    `reading` and its kin ask the pipeline's database, where `jobs` and `runs` may be named; `own_rows`
    and its kin ask the one that holds our tables.
    """

    context: Context
    deadline: Deadline
    pipeline: Connections
    bookkeeping: Connections

    @property
    def policy(self) -> Policy:
        return self.context.policy

    @property
    def settings(self) -> Settings:
        return self.context.settings

    def rows(self, statement: Statement, **parameters: Any) -> list[Any]:
        """All rows of a statement about the pipeline's database, `jobs` and `runs`."""
        reading = self.context.sources.reading(statement)
        return self._rows(self.pipeline, reading, parameters)

    def row(self, statement: Statement, **parameters: Any) -> Any:
        """The first row, or None."""
        return next(iter(self.rows(statement, **parameters)), None)

    def own_rows(self, statement: Statement, **parameters: Any) -> list[Any]:
        """All rows of a statement about our own tables."""
        return self._rows(self.bookkeeping, statement, parameters)

    def own_row(self, statement: Statement, **parameters: Any) -> Any:
        return next(iter(self.own_rows(statement, **parameters)), None)

    def _rows(
        self, connections: Connections, statement: Statement, parameters: dict[str, Any]
    ) -> list[Any]:
        with connections.lent(self.deadline) as connection:
            seconds = max(0.1, min(STATEMENT_SECONDS, self.deadline.remaining_seconds()))
            return rows_of(connection, statement, seconds, parameters)


def rows_of(
    connection: Connection, statement: Statement, seconds: float, parameters: dict[str, Any]
) -> list[Any]:
    """One statement in a read-only transaction that neither runs nor waits for a lock for long."""
    with connection.transaction(
        read_only=True, deadline_seconds=seconds, lock_timeout_seconds=LOCK_SECONDS
    ) as transaction:
        return transaction.rows(statement, **parameters)


@dataclass(frozen=True)
class DeclaredCheck:
    """A check that a survey runs: its name, what it needs, and the function that answers.

    `needs` are columns such as `runs.started_at`; where the pipeline has no such column, the check
    answers `not_enough_data` and names it. `asks_database` is False for what looks elsewhere.
    `also` are the names of further checks that the function may answer with. A check that hangs is
    `when_hung`: critical only where hanging is itself the finding.
    """

    name: str
    summary: str
    function: Callable[[View], Check | Iterable[Check]]
    needs: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    asks_database: bool = True
    when_hung: Verdict = "not_enough_data"

    @property
    def part(self) -> str:
        return self.name.split(".")[0]

    @property
    def names(self) -> tuple[str, ...]:
        """All names under which it may answer."""
        return (self.name, *self.also)


def not_allowed(name: str, right: str, advice: str | None = None) -> Check:
    """The answer of a check whose role lacks a right."""
    return Check(
        name,
        "not_allowed",
        f"This role may not look: {right}.",
        next=advice or "Grant the role what it needs to read (`runbook db grants ROLE` prints it).",
    )
