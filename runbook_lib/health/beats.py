"""Signs of life of the monitors: rows that the others and the checks look at."""

from __future__ import annotations

import os
import socket

from runbook_lib import __version__
from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.processes import boot_id

_SQL = load("alert_deliveries")
DEADLINE_SECONDS = 10.0


def beat(
    database: Database, monitor: str, interval_seconds: float, *, problem: str | None = None,
    stopped: bool = False,
) -> None:  # fmt: skip
    """Writes this process's sign of life, and closes those of processes on this host that are gone.

    A monitor that was killed and started again is the same to people: only where none came in its
    place it stays silent, and is missed.
    """
    host, boot = socket.gethostname(), boot_id()
    with database.transaction(deadline_seconds=DEADLINE_SECONDS) as transaction:
        begins = transaction.value(
            _SQL["beat"], monitor=monitor, host=host, pid=os.getpid(), boot_id=boot,
            version=__version__, interval_seconds=interval_seconds, problem=problem,
            stopped=stopped,
        )  # fmt: skip
        replaced = []
        if begins:
            replaced = [
                row.monitor for row in transaction.rows(_SQL["beats"])
                if row.host == host and row.monitor != monitor and _is_gone(row.pid, row.boot_id, boot)
            ][:1]  # fmt: skip
        transaction.run(_SQL["close_beats"], monitors=replaced)
        transaction.run(_SQL["forget_old_beats"])


def _is_gone(pid: int, its_boot_id: str | None, boot: str) -> bool:
    if its_boot_id != boot:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
