"""Pauses of a schedule by hand: rows, so that no file has to be changed and deployed at night."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from runbook_lib.changes.actions import admin_action
from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.errors import UsageError

_SQL = load("scheduling")


@dataclass(frozen=True)
class Pause:
    """A pause that holds, or held until it was ended just now. Without `until` it does not end by itself."""

    schedule_id: str
    reason: str
    paused_by: str
    paused_at: datetime
    until: datetime | None


def pause(
    database: Database, schedule_id: str, *, actor: str, reason: str, until: datetime | None = None
) -> Pause:
    """Pauses a schedule: what comes due is recorded as skipped. Changes the pause that holds already."""
    if not reason.strip():
        raise UsageError("A pause needs a reason, for whoever finds it.")
    if until is not None and until <= datetime.now(UTC):
        raise UsageError(f"The pause would end at {until.isoformat()}, which is over.")
    with (
        admin_action(database, actor=actor, action="schedule.pause", target=schedule_id, reason=reason)
        as action,
        database.transaction() as transaction,
    ):  # fmt: skip
        row = transaction.row(
            _SQL["open_pause"], schedule_id=schedule_id, actor=actor, until=until,
            reason=one_line(reason),
        )  # fmt: skip
        assert row is not None
        paused = Pause(**row._asdict())
        action.done(transaction, after=asdict(paused))
    return paused


def resume(database: Database, schedule_id: str, *, actor: str) -> Pause | None:
    """Ends the pause of a schedule; None when there was none by hand."""
    with (
        admin_action(database, actor=actor, action="schedule.resume", target=schedule_id) as action,
        database.transaction() as transaction,
    ):
        row = transaction.row(_SQL["end_pause"], schedule_id=schedule_id, actor=actor)
        ended = None if row is None else Pause(**row._asdict())
        action.done(transaction, before=ended and asdict(ended))
    return ended


def pauses(database: Database) -> Mapping[str, Pause]:
    """The pauses by hand that hold now, by schedule."""
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows(_SQL["pauses"])
    return {row.schedule_id: Pause(**row._asdict()) for row in rows}
