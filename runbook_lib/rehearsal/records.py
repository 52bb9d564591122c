"""The record of rehearsals: when each procedure was last proven, by whom, in how many minutes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runbook_lib.database import Database
from runbook_lib.database.statements import load

if TYPE_CHECKING:
    from runbook_lib.rehearsal.outcome import Outcome

_SQL = load("rehearsal")


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
