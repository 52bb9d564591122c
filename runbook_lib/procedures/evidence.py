"""The executed notebook as evidence: what really ran, what it concluded, ready to be archived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runbook_lib.credentials.masking import one_line
from runbook_lib.procedures.execution import Ending
from runbook_lib.procedures.parameters import injected_source
from runbook_lib.procedures.recorder import CONCLUSION, VERDICTS

if TYPE_CHECKING:
    import nbformat

# How an execution ended → the run's status. `completed` still has to be true of every cell.
_STATUS_OF = {
    "completed": "succeeded",
    "raised": "failed",
    "not_executed": "failed",
    "kernel_died": "killed",
    "process_died": "killed",
    "vanished": "lost",
    "stopped": "killed",
    "quit": "killed",
    "cell_timed_out": "timed_out",
    "run_timed_out": "timed_out",
}
# In a cell's metadata: the run whose outputs it shows, since this one did not run it again.
CARRIED_OVER = "runbook_carried_over_from"
# Tag of a cell that need not run again when a run goes on where another one failed.
NOT_AGAIN = "not-again-when-resumed"
# What became of the cell that was running, in the words of the archived notebook.
_INTERRUPTED = {"killed": "killed", "timed_out": "timed out", "lost": "lost", "failed": "failed"}


@dataclass(frozen=True)
class Finding:
    """What a run came to: its status, how much of it ran, and what it concluded."""

    status: str
    error: str | None
    cells_done: int
    cells_total: int
    verdict: str | None = None
    summary: str = ""
    results: dict[str, Any] = field(default_factory=dict)


def prepare(notebook: nbformat.NotebookNode, values: Mapping[str, Any]) -> None:
    """Makes a notebook ready for one run: no outputs, this environment's kernel, and the cell with
    the run's parameters after the cell that declares them."""
    import nbformat

    notebook.metadata["kernelspec"] = {"display_name": "Python 3 (ipykernel)", "name": "python3"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    if not values:
        return
    cell = nbformat.v4.new_code_cell(
        injected_source(values), metadata={"tags": ["injected-parameters"]}
    )
    after = next(
        index
        for index, each in enumerate(notebook.cells)
        if "parameters" in each.metadata.get("tags", [])
    )
    notebook.cells.insert(after + 1, cell)


def carry_over(notebook: Any, earlier: Any, before: int, run_id: str) -> list[int]:
    """Takes over what cells before the code cell `before` showed in an earlier run, where their author
    allows it by a tag. All others run again: what they left in memory is gone with their kernel.

    Returns the numbers of the cells that are not run again.
    """
    old = {cell.get("id"): cell for cell in earlier.cells}
    taken = []
    for number, cell in enumerate(code_cells(notebook), start=1):
        was = old.get(cell.get("id"))
        if number >= before or NOT_AGAIN not in cell.metadata.get("tags", []) or was is None:
            continue
        if _status(was) == "completed" and was.source == cell.source:
            cell.outputs, cell.execution_count = was.outputs, was.execution_count
            cell.metadata[CARRIED_OVER] = run_id
            taken.append(number)
    return taken


def code_cells(notebook: Any) -> list[Any]:
    """The cells that have something to execute, in order: cell n of m is the nth of these."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def first_not_done(notebook: Any) -> int:
    """The number of the first cell that did not run well; the last one's when all did."""
    code = code_cells(notebook)
    done = [_status(cell) in ("completed", "carried over") for cell in code]
    return done.index(False) + 1 if False in done else len(code)


def judge(notebook: nbformat.NotebookNode, ending: Ending) -> Finding:
    """What the run came to. Succeeded means that every code cell ran, and without an error.

    The engine's word alone is not enough: `SystemExit(0)` half-way ends without an error.
    """
    code = code_cells(notebook)
    ran = [cell for cell in code if _status(cell) in ("completed", "failed", "carried over")]
    skipped = [number for number, cell in enumerate(code, 1) if _status(cell) == "skipped"]
    status, error = _STATUS_OF[ending.outcome], ending.message or None
    if failed := next((cell for cell in code if _error_of(cell)), None):
        if status == "succeeded":
            status = "failed"
        error = f"{_place(code, failed)} raised {_error_of(failed)}"
    elif status == "succeeded" and len(ran) < len(code):
        status = "failed"
        error = f"Only {len(ran)} of {len(code)} cells ran."
    elif status != "succeeded" and len(ran) < len(code):
        error = f"{_place(code, _next(code))}: {error}"
    if skipped:
        error = f"{error or ''} Skipped by hand: cell {', '.join(map(str, skipped))}.".strip()
    _label_cells(notebook, status)
    conclusion = _conclusion(notebook)
    return Finding(
        status, one_line(error, 1000) if error else None, len(ran), len(code),
        verdict=conclusion.get("verdict") if conclusion.get("verdict") in VERDICTS else None,
        summary=one_line(str(conclusion.get("summary", "")), 1000),
        results=conclusion.get("results", {}),
    )  # fmt: skip


def _next(code: list[Any]) -> Any:
    """The cell that was running when the run ended, or would have been the next."""
    waiting = [cell for cell in code if _status(cell) in ("running", "pending")]
    return waiting[0] if waiting else code[-1]


def _place(code: list[Any], cell: Any) -> str:
    return f"Cell {code.index(cell) + 1} of {len(code)}"


def _status(cell: Any) -> str:
    return str(cell.metadata.get("papermill", {}).get("status", "pending"))


def _error_of(cell: Any) -> str | None:
    for output in cell.outputs:
        if output.output_type == "error":
            return f"{output.ename}: {output.evalue}"
    return None


def _label_cells(notebook: Any, status: str) -> None:
    for cell in notebook.cells:
        labels = cell.metadata.setdefault("papermill", {})
        if labels.get("status") == "running":
            labels["status"], labels["exception"] = _INTERRUPTED.get(status, "killed"), True
        elif labels.get("status", "pending") == "pending":
            labels["status"] = "not run"
    whole = notebook.metadata.setdefault("papermill", {})
    whole["exception"] = status != "succeeded"


def _conclusion(notebook: Any) -> dict[str, Any]:
    """The last conclusion in the outputs; an empty one when the notebook made none."""
    for cell in reversed(notebook.cells):
        for output in reversed(cell.get("outputs", [])):
            found = output.get("data", {}).get(CONCLUSION)
            if isinstance(found, dict):
                return dict(found)
    return {}
