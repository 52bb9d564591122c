"""One run of a procedure with effects at a time, by hand or by schedule, on whatever host.

A row with a lease by the database's clock: it needs no session that stays, so it works through a pooler,
and a runner that vanished keeps it for one lease.
"""

from __future__ import annotations

import socket

from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone

LEASE_SECONDS = 60.0


class ProcedureBusy(CouldNotBeDone):
    """Another run of this procedure goes on, and it changes something."""


def claim(database: Database, procedure: str, run_id: str, actor: str) -> None:
    """Claims a procedure for one run. Raises `ProcedureBusy` naming the run that has it."""
    with database.transaction() as transaction:
        mine = transaction.value(
            load("procedure_claims")["claim"], procedure=procedure, run_id=run_id,
            actor=one_line(actor, 200), host=socket.gethostname(), lease_seconds=LEASE_SECONDS,
        )  # fmt: skip
        held = (
            None
            if mine
            else transaction.row(load("procedure_claims")["holder"], procedure=procedure)
        )
    if mine is None:
        who = (
            f"by {held.actor} on {held.host} since {held.claimed_at:%H:%M:%S %Z}, run {held.run_id}"
            if held
            else "by another run"
        )
        raise ProcedureBusy(
            f"{procedure} was not run: it changes something and is being run {who}. "
            "Wait until that has ended, or end it with `runbook cancel`."
        )


def renew(database: Database, procedure: str, run_id: str) -> bool:
    """Keeps the claim for another lease; False when another run has it by now."""
    with database.transaction(deadline_seconds=5) as transaction:
        kept = transaction.value(
            load("procedure_claims")["renew"], procedure=procedure, run_id=run_id,
            lease_seconds=LEASE_SECONDS,
        )  # fmt: skip
    return kept is not None


def release(database: Database, procedure: str, run_id: str) -> None:
    """Gives the claim back. Never raises: it runs out by itself."""
    try:
        with database.transaction(deadline_seconds=5) as transaction:
            transaction.run(load("procedure_claims")["release"], procedure=procedure, run_id=run_id)
    except CouldNotBeDone:
        pass
