"""What a declared check is, and what it is given to look with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from runbook_lib.database.connection import Connection
from runbook_lib.database.statements import Statement, load
from runbook_lib.deadlines import Deadline
from runbook_lib.health.checks import Check, Verdict
from runbook_lib.health.connections import Connections
from runbook_lib.health.context import Context
from runbook_lib.policy import Policy
from runbook_lib.settings import Settings

# A statement that takes longer is given up, so that the other checks still get their turn.
STATEMENT_SECONDS = 2.0
LOCK_SECONDS = 0.5

_HIDDEN = load("database_checks")["rows_hidden"]


@dataclass(frozen=True)
class View:
    """What a check may look at. Statements run read-only, each under a deadline of its own.

    `row` and `rows` ask the pipeline's database, where `jobs` and `runs` may be named; `own_row` and
    `own_rows` ask the one that holds our tables.
    """

    context: Context
    deadline: Deadline
    pipeline: Connections
    bookkeeping: Connections

    @cached_property
    def hidden_relations(self) -> frozenset[str]:
        """Of `jobs` and `runs`, those whose rows row-level security may hide from this role.

        An answer from them would be a false "none found".
        """
        tables = self.context.sources.tables
        rows = self.rows(_HIDDEN, tables=list(tables.values()))
        hidden = {row.title for row in rows if row.rows_hidden}
        return frozenset(name for name, title in tables.items() if title in hidden)

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
    answers `not_enough_data` and names it. `also` are the names of further checks that the function may
    answer with. `own` says that it looks at what only our own pipeline writes. `grant` is what to grant
    when the role may not look. A check that hangs is `when_hung`: critical only where hanging is itself
    the finding.
    """

    name: str
    summary: str
    function: Callable[[View], Check | Iterable[Check]]
    needs: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    own: bool = False
    grant: str | None = None
    when_hung: Verdict = "not_enough_data"

    @property
    def parts(self) -> frozenset[str]:
        """All parts that it may answer about."""
        return frozenset(name.split(".")[0] for name in self.names)

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


def graded(value: float, warning: float, critical: float) -> Verdict:
    """The verdict on a figure that is worse the higher it is."""
    if value >= critical:
        return "critical"
    return "warning" if value >= warning else "ok"


def with_procedure(check: Check, procedure: str) -> Check:
    """The check, with the procedure to open when it is not well."""
    return (
        replace(check, procedure=procedure) if check.verdict in ("warning", "critical") else check
    )
