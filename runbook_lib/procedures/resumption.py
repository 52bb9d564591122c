"""A run that goes on where another one did not get through.

The kernel of the other run is gone, and with it whatever its cells left in memory. So every cell runs
again from the first one on, in a kernel of its own, except those whose author tagged them
`not-again-when-resumed`: what they showed is carried over, marked with the run it comes from. Only
procedures that change nothing are resumed, and only as they stood.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runbook_lib.archive.entries import find_entry
from runbook_lib.archive.notebook_files import read_notebook
from runbook_lib.archive.store import open_store
from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.errors import UsageError
from runbook_lib.procedures import evidence
from runbook_lib.procedures.catalogue import Procedure
from runbook_lib.settings import Settings

RESUMABLE = ("failed", "killed", "timed_out", "lost")


@dataclass(frozen=True)
class Earlier:
    """The run that did not get through, and the code cell at which it is gone on."""

    run_id: str
    parameters: dict[str, Any]
    notebook: Any
    at_cell: int


def find(
    run_id: str,
    procedure: Procedure,
    database: Database,
    settings: Settings,
    from_cell: int | None = None,
) -> Earlier:
    """The run to go on from. Raises `UsageError` when that would not be honest, saying why."""
    entry = find_entry(database, run_id)
    said = f"Run {entry['run_id']}"
    if entry["procedure"] != procedure.name:
        raise UsageError(f"{said} is one of {entry['procedure']}, not of {procedure.name}.")
    if not procedure.card.read_only:
        raise UsageError(
            f"{procedure.name} changes {procedure.card.changes}: it is not resumed, since what was "
            "changed already would be changed again. Run it anew and look at its preview."
        )
    if entry["status"] not in RESUMABLE:
        raise UsageError(f"{said} {entry['status']}; only {', '.join(RESUMABLE)} runs are resumed.")
    if entry["source_sha256"] != procedure.sha256:
        raise UsageError(f"{said} was one of another version of {procedure.name}. Run it anew.")
    if entry["archive_notebook"] is None:
        raise UsageError(f"{said} left nothing in the archive to go on from. Run it anew.")
    notebook = read_notebook(open_store(settings).read(entry["archive_notebook"]))
    total = len(evidence.code_cells(notebook))
    at_cell = from_cell or evidence.first_not_done(notebook)
    if not 1 <= at_cell <= total:
        raise UsageError(f"There is no cell {at_cell}: {said} has cells 1 to {total}.")
    return Earlier(entry["run_id"], entry["parameters"], notebook, at_cell)


def go_on(earlier: Earlier, notebook: Any, run_id: str, database: Database) -> None:
    """Carries over what need not run again, and links the new run to the earlier one."""
    evidence.carry_over(notebook, earlier.notebook, earlier.at_cell, earlier.run_id)
    with database.transaction() as transaction:
        transaction.run(
            load("notebook_runs")["link_resumed"], run_id=run_id,
            resumed_from=earlier.run_id, at_cell=earlier.at_cell,
        )  # fmt: skip
