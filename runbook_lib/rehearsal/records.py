"""The record of rehearsals: when each procedure was last proven, by whom, in how many minutes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.policy import Rehearsals

if TYPE_CHECKING:
    from runbook_lib.rehearsal.outcome import Outcome

_SQL = load("rehearsal")
Standing = Literal["proven", "overdue", "never", "routine"]


@dataclass(frozen=True)
class Proof:
    """When a procedure was last run in a rehearsal that passed. `routine`: it need not be rehearsed, and was not."""

    procedure: str
    standing: Standing
    due_days: int
    ended_at: datetime | None = None
    actor: str | None = None
    fault: str | None = None
    minutes: float | None = None

    @property
    def is_due(self) -> bool:
        return self.standing in ("overdue", "never")

    @property
    def words(self) -> str:
        """For people: who proved it, on what and when; and whether it is time to do so again."""
        if self.ended_at is None:
            return (
                "never in a rehearsal, and it should be" if self.is_due else "never in a rehearsal"
            )
        late = f"; overdue, it should be every {self.due_days} days" if self.is_due else ""
        return f"{self.ended_at:%Y-%m-%d} by {self.actor} on a staged fault ({self.fault}), in {self.minutes:.0f} minutes{late}"

    @property
    def brief(self) -> str:
        """For a table."""
        if self.ended_at is None:
            return "never" if self.is_due else ""
        return f"{self.ended_at:%Y-%m-%d} {self.actor}{', overdue' if self.is_due else ''}"

    def as_dictionary(self) -> dict[str, Any]:
        return {
            "standing": self.standing, "ended_at": self.ended_at, "actor": self.actor, "fault": self.fault,
            "minutes": self.minutes,
        }  # fmt: skip


def record(
    database: Database, outcome: Outcome, *, procedure: str, actor: str, begun_at: str
) -> None:
    """One rehearsal, in the workbench's own database."""
    with database.transaction() as transaction:
        transaction.run(
            _SQL["record_rehearsal"], fault=outcome.fault, procedure=procedure, actor=actor, begun_at=begun_at,
            result=outcome.result, found=list(outcome.found), truth=list(outcome.truth),
            seconds_to_found=outcome.seconds_to_found, details=json.dumps(outcome.as_dictionary()),
        )  # fmt: skip


def newest(database: Database, count: int = 50) -> list[dict[str, Any]]:
    """The newest rehearsals."""
    with database.transaction(read_only=True) as transaction:
        return [row._asdict() for row in transaction.rows(_SQL["rehearsals"], count=count)]


def last_proven(database: Database) -> dict[str, dict[str, Any]]:
    """Procedure → its newest rehearsal that passed."""
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows(_SQL["last_proven"])
    return {row.procedure: row._asdict() for row in rows}


def proofs(database: Database, procedures: Iterable[str], policy: Rehearsals) -> dict[str, Proof]:
    """Of each procedure when it was last proven, and whether it should be again by now."""
    proven = last_proven(database)
    return {name: proof_of(name, proven.get(name), policy) for name in procedures}


def proof_of(procedure: str, proven: dict[str, Any] | None, policy: Rehearsals) -> Proof:
    """`proven` is its newest rehearsal that passed."""
    wanted = procedure.partition("/")[0] in policy.chapters
    if proven is None:
        return Proof(procedure, "never" if wanted else "routine", policy.due_days)
    late = wanted and proven["days"] > policy.due_days
    return Proof(
        procedure, "overdue" if late else "proven", policy.due_days, proven["ended_at"], proven["actor"],
        proven["fault"], proven["minutes"],
    )  # fmt: skip
