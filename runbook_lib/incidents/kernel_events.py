"""The IPython extension that every kernel of this environment loads: it tells the timeline of each cell.

It is named in `etc/ipython/ipython_kernel_config.py` of the environment, which IPython reads for whatever
program starts a kernel: JupyterLab, an editor, a script. Kernels of the runner are left out: their runs
leave a record of their own. Nothing heavy is imported before a cell runs that concerns us, and nothing
that goes wrong here reaches the cell.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

RUN = "RUNBOOK_RUN_ID"


def load_ipython_extension(shell: Any) -> None:
    """Called by IPython when the kernel starts."""
    if os.environ.get(RUN):
        return
    from runbook_lib.incidents.places import place_of

    try:
        place = place_of(_directory())
    except OSError:
        return
    if place is None:
        return
    if place.mark is not None:
        # What cells do is done by whom the copies belong to, before any of them reads its settings.
        os.environ["RUNBOOK_ACTOR"] = place.mark.actor
        os.environ.setdefault("RUNBOOK_HOME", place.mark.home)
    events = _Events(shell, place)
    shell.events.register("pre_run_cell", events.before)
    shell.events.register("post_run_cell", events.after)


def _directory() -> Path:
    """The notebook's folder: Jupyter's servers name the notebook, others start the kernel beside it."""
    named = Path(os.environ.get("JPY_SESSION_NAME") or "")
    return named.parent if named.suffix == ".ipynb" and named.is_absolute() else Path.cwd()


class _Events:
    """Calls the recorder, which is made at the first cell."""

    def __init__(self, shell: Any, place: Any) -> None:
        self._shell, self._place = shell, place
        self._recorder: Any = None
        self._said = False

    def before(self, info: Any) -> None:
        try:
            if self._recorder is None:
                from runbook_lib.incidents.cell_recorder import CellRecorder

                self._recorder = CellRecorder(self._place, self._shell.user_ns)
            self._recorder.before(info)
        except Exception as error:
            self._complain(error)

    def after(self, result: Any) -> None:
        try:
            if self._recorder is not None:
                self._recorder.after(result)
        except Exception as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        if not self._said:
            self._said = True
            print(f"The timeline misses this cell: {type(error).__name__}: {error}", file=sys.stderr)  # fmt: skip
