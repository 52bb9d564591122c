"""What schedulers share: claims of due times and what became of them, pauses, signs of life."""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psutil

from runbook_lib import __version__
from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.processes import boot_id
from runbook_lib.scheduling.decisions import Decision
from runbook_lib.scheduling.schedules import Schedule, Schedules
from runbook_lib.spool import Entry, Spool

# A scheduler on another host that gives no sign of life for this long is taken for gone.
SILENT_SECONDS = 45.0

_SQL = load("scheduling")


@dataclass(frozen=True)
class Settlement:
    """What became of a due time that was run."""

    outcome: str
    run_id: str | None = None
    note: str | None = None
    verdict: str | None = None

    @property
    def told(self) -> str | None:
        return one_line(self.note, 500) if self.note else None


@dataclass
class Ledger:
    """The tables that schedulers share, as one of them uses them."""

    database: Database
    directory: str
    # Not the process id alone: in containers every scheduler has the same.
    name: str = field(
        default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    )

    def last_due(self, schedule_id: str) -> datetime | None:
        """The newest due time that anybody dealt with."""
        with self.database.transaction(read_only=True) as transaction:
            found: datetime | None = transaction.value(_SQL["last_due"], schedule_id=schedule_id)
        return found.astimezone(UTC) if found else None

    def running(self, schedule_id: str) -> Any | None:
        """The run of a schedule that still goes on, if any."""
        with self.database.transaction(read_only=True) as transaction:
            return transaction.row(_SQL["running_now"], schedule_id=schedule_id)

    def claim(self, schedule_id: str, decision: Decision) -> bool:
        """Whether the due time is ours to deal with; else somebody dealt with it already."""
        with self.database.transaction() as transaction:
            claimed = transaction.value(
                _SQL["claim_due"], schedule_id=schedule_id, due_at=decision.due_at,
                claimed_by=self.name, outcome=decision.outcome, note=decision.note,
            )  # fmt: skip
        return claimed is not None

    def settle(self, schedule_id: str, due_at: datetime, settlement: Settlement) -> None:
        """Says what became of a due time that we claimed."""
        with self.database.transaction() as transaction:
            transaction.run(
                _SQL["settle_due"], schedule_id=schedule_id, due_at=due_at,
                outcome=settlement.outcome, run_id=settlement.run_id, note=settlement.told,
            )  # fmt: skip

    def settle_later(
        self, schedule_id: str, due_at: datetime, settlement: Settlement, spool: Spool
    ) -> None:
        """As `settle`, kept in the spool since the database went away."""
        spool.put("schedule_settled", {
            "schedule_id": schedule_id, "due_at": due_at, "outcome": settlement.outcome,
            "run_id": settlement.run_id, "note": settlement.told,
        })  # fmt: skip

    def settle_unclaimed(
        self, schedule_id: str, due_at: datetime, settlement: Settlement, spool: Spool
    ) -> None:
        """Keeps in the spool what became of a due time that could not be claimed."""
        spool.put("schedule_unclaimed", {
            "schedule_id": schedule_id, "due_at": due_at, "claimed_at": datetime.now(UTC),
            "claimed_by": self.name, "outcome": settlement.outcome, "run_id": settlement.run_id,
            "note": settlement.told,
        })  # fmt: skip

    def pauses(self) -> dict[str, str]:
        """The pauses by hand that hold, as schedule → reason. Ends those whose time is over."""
        with self.database.transaction() as transaction:
            transaction.run(_SQL["end_overdue_pauses"])
            rows = transaction.rows(_SQL["pauses"])
        return {row.schedule_id: row.reason for row in rows}

    def beat(self) -> None:
        """A sign of life."""
        with self.database.transaction(deadline_seconds=10) as transaction:
            transaction.run(
                _SQL["beat"], scheduler=self.name, host=socket.gethostname(), pid=os.getpid(),
                boot_id=boot_id(), version=__version__, directory=self.directory,
            )  # fmt: skip

    def stopped(self) -> None:
        """Says that we stop because we were asked to."""
        with self.database.transaction(deadline_seconds=10) as transaction:
            transaction.run(_SQL["stopped"], scheduler=self.name)

    def keep(self, found: Schedules, now: datetime) -> None:
        """Leaves the schedules as they were read, for those who look for absent runs."""
        entries = [_as_row(each, now) for each in found.schedules.values()]
        entries += [
            {"schedule_id": name, "problem": one_line(text, 1000)}
            for name, text in found.problems.items()
        ]
        with self.database.transaction() as transaction:
            transaction.rows(
                _SQL["keep_schedules"], schedules=json.dumps(entries), directory=self.directory,
                scheduler=self.name,
            )  # fmt: skip
            transaction.rows(
                _SQL["forget_schedules"], directory=self.directory,
                known=[entry["schedule_id"] for entry in entries],
            )  # fmt: skip
            transaction.run(_SQL["forget_schedulers"])

    def settle_abandoned(self) -> list[tuple[str, datetime, str]]:
        """Settles what a scheduler left that vanished; returns schedule, due time and outcome of each.

        By the run that it made, else as failed. Nothing is run again by itself.
        """
        with self.database.transaction(read_only=True) as transaction:
            rows = transaction.rows(_SQL["abandoned"], silent_seconds=SILENT_SECONDS)
        settled = []
        for row in rows:
            if row.claimed_by == self.name or not self._gone(row):
                continue
            outcome, note = _outcome_of(row)
            with self.database.transaction() as transaction:
                mine = transaction.value(
                    _SQL["settle_abandoned"], schedule_id=row.schedule_id, due_at=row.due_at,
                    outcome=outcome, run_id=row.run_id, note=note,
                )  # fmt: skip
            if mine is not None:
                settled.append((row.schedule_id, row.due_at.astimezone(UTC), outcome))
        return settled

    def _gone(self, row: Any) -> bool:
        if row.silent or row.stopped_at is not None:
            return True
        if row.host != socket.gethostname():
            return False
        return row.boot_id != boot_id() or not psutil.pid_exists(row.pid)


def file_settled(transaction: Transaction, entry: Entry) -> None:
    """Files what became of a due time that was claimed before the database went away."""
    transaction.run(_SQL["settle_due"], **entry.content)


def file_unclaimed(transaction: Transaction, entry: Entry) -> None:
    """Files what became of a due time while the database was away."""
    transaction.rows(_SQL["file_unclaimed"], **entry.content)


def last_dealt_with(database: Database) -> Mapping[str, Any]:
    """The newest due time of each schedule and what became of it."""
    with database.transaction(read_only=True) as transaction:
        return {row.schedule_id: row for row in transaction.rows(_SQL["last_dealt_with"])}


def _outcome_of(row: Any) -> tuple[str, str | None]:
    if row.run_id is None:
        return "failed", "The scheduler vanished before it began."
    outcomes = {"succeeded": "ran", "refused": "refused"}
    return outcomes.get(row.status, "failed"), row.error


def _as_row(schedule: Schedule, now: datetime) -> dict[str, Any]:
    following: Iterable[datetime] = schedule.next_times(now, 1)
    paused = schedule.is_paused(now)
    until = schedule.paused_until if paused else None
    return {
        "schedule_id": schedule.id,
        "procedure": schedule.procedure,
        "cron": schedule.cron,
        "timezone": schedule.timezone,
        "read_only": schedule.read_only,
        "next_due_at": next((each.isoformat() for each in following), None),
        "paused_reason": schedule.paused_reason if paused else None,
        "paused_until": until.isoformat() if until else None,
    }
