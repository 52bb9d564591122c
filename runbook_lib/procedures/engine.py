"""The process in which papermill executes one notebook. Started by `execution.py`, never imported by it.

What papermill would get wrong is put right here: it calls cells completed that never ran, rewrites the
whole file at each cell's start and end, leaves it torn when it is killed, has no limit on output, and
opens TCP ports that two runs may both take.

It speaks to its parent over a pipe of its own, one JSON line an event, and ends with it: when standard
input closes, the parent is gone, and so is the kernel a moment later.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

from runbook_lib.archive.notebook_files import (
    notebook_bytes,
    read_notebook,
    replace_atomically,
    skip_unused_parsers,
)
from runbook_lib.archive.redaction import redact_cell

skip_unused_parsers()

from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError  # noqa: E402
from papermill import execute_notebook  # noqa: E402
from papermill.clientwrap import PapermillNotebookClient  # noqa: E402
from papermill.engines import (  # noqa: E402
    Engine,
    NotebookExecutionManager,
    papermill_engines,
)
from papermill.exceptions import PapermillExecutionError  # noqa: E402
from traitlets.config import Config  # noqa: E402

CELL_OUTPUT_LIMIT_CHARACTERS = 1_000_000
NOTEBOOK_OUTPUT_LIMIT_CHARACTERS = 20_000_000
KERNEL_START_SECONDS = 60
LATE_OUTPUT_SECONDS = 30
# Saving at each cell's start may take a second, and then a fifth of the time: with large outputs it is
# not saved at each.
FREE_SAVING_SECONDS = 1.0
SAVING_SHARE = 0.2
_HEADING = re.compile(r"^#{1,6}\s+(.+)$", re.MULTILINE)


class Parent:
    """Whoever started us: told about events; its end is ours."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._pipe = os.fdopen(descriptor, "w", buffering=1, encoding="utf-8")
        self._kernel_group: int | None = None
        threading.Thread(target=self._follow, daemon=True).start()

    def tell(self, event: str, **details: Any) -> None:
        self._pipe.write(json.dumps({"event": event, **details}) + "\n")

    def kernel_started(self, pid: int, group: int) -> None:
        self._kernel_group = group
        self.tell("kernel", pid=pid)

    def end_everything(self, status: int) -> NoReturn:
        """Ends the kernel and this process now, whatever the kernel is doing."""
        if self._kernel_group is not None:
            try:
                os.killpg(self._kernel_group, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        os._exit(status)

    def _follow(self) -> None:
        while os.read(0, 4096):
            pass
        self.end_everything(3)


class Recording(NotebookExecutionManager):
    """What happens to each cell, told to the parent and saved whole or not at all."""

    parent: Parent
    _saving_seconds = 0.0

    def __init__(self, notebook: Any, output_path: Path, parent: Parent) -> None:
        super().__init__(notebook, progress_bar=False, autosave_cell_every=0)
        self.parent = parent
        self._path = output_path
        self._titles = _titles(notebook)
        self._began = time.monotonic()

    def save(self, **_: Any) -> None:
        """Papermill asks for it at each cell's start and end; `save_now` is when it happens."""

    def save_now(self) -> None:
        begun = time.monotonic()
        replace_atomically(self._path, notebook_bytes(self.nb), durable=False)
        self._saving_seconds += time.monotonic() - begun

    def cell_start(self, cell: Any, cell_index: int | None = None, **options: Any) -> None:
        super().cell_start(cell, cell_index, **options)
        if cell.cell_type == "code":
            assert cell_index is not None
            number, total, title = self._titles[cell_index]
            self.parent.tell("cell", number=number, total=total, title=title)
            # Now, not at the last cell's end: it says as well which cell was running if we are killed.
            allowed = FREE_SAVING_SECONDS + SAVING_SHARE * (time.monotonic() - self._began)
            if self._saving_seconds < allowed:
                self.save_now()

    def cell_ran(self, cell: Any, cell_index: int) -> None:
        """The cell ended by itself, well or with an error; only then is it said to have run."""
        super().cell_complete(cell, cell_index)
        if cell.cell_type == "code":
            self.parent.tell("ran", number=self._titles[cell_index][0])
            redact_cell(cell)

    def notebook_complete(self, **_: Any) -> None:
        """Ends the recording; cells that did not run stay as they are."""
        self.nb.metadata.papermill["end_time"] = self.now().isoformat()
        self.save_now()


class Client(PapermillNotebookClient):
    """Executes the cells; says which really ran, and bounds what is kept of their output."""

    told: Parent  # not `parent`, which is traitlets' own
    _characters: dict[int, int]

    def papermill_execute_cells(self) -> None:
        provisioner = self.km.provisioner
        self.told.kernel_started(provisioner.pid, provisioner.pgid or provisioner.pid)
        self._characters = {}
        for index, cell in enumerate(self.nb.cells):
            self.nb_man.cell_start(cell, index)
            try:
                self.execute_cell(cell, index)
            except CellExecutionError as error:
                self.nb_man.cell_exception(self.nb.cells[index], cell_index=index, exception=error)
                self._note_what_was_cut(index)
                self.nb_man.cell_ran(self.nb.cells[index], index)
                break
            self._note_what_was_cut(index)
            self.nb_man.cell_ran(self.nb.cells[index], index)

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        if msg["msg_type"] in ("stream", "display_data", "execute_result", "update_display_data"):
            length = _characters(msg["content"])
            kept = self._characters.get(cell_index, 0)
            self._characters[cell_index] = kept + length
            total = sum(self._characters.values())
            if (
                kept + length > CELL_OUTPUT_LIMIT_CHARACTERS
                or total > NOTEBOOK_OUTPUT_LIMIT_CHARACTERS
            ):
                return None
        return super().process_message(msg, cell, cell_index)

    def _note_what_was_cut(self, index: int) -> None:
        cell = self.nb.cells[index]
        written = self._characters.get(index, 0)
        kept = sum(_characters(output) for output in cell.get("outputs", []))
        if written > kept:
            text = f"\n[The output is cut: {written - kept:,} of {written:,} characters are not kept.]\n"
            note = {"output_type": "stream", "name": "stderr", "text": text}
            cell.outputs.append(type(cell)(note))


class RunbookEngine(Engine):
    """The engine that papermill is asked to use."""

    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str, **options: Any) -> Any:
        parent: Parent = options["parent"]
        recording = Recording(nb, options["saved_to"], parent)
        signal.signal(signal.SIGTERM, lambda *_: _stopped(recording, parent))
        recording.notebook_start()
        recording.save_now()
        try:
            _client(recording, kernel_name, options).execute(cwd=options["directory"])
        finally:
            recording.notebook_complete()
            # What is saved now stays: papermill goes on to put banners of its own into the notebook.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        return nb


def _client(recording: Recording, kernel_name: str, options: dict[str, Any]) -> Client:
    # Sockets in a private folder, with a short absolute path: no ports that two runs may both take,
    # nothing that somebody else on the machine could connect to.
    sockets = str(Path(options["sockets"]) / "k")
    client = Client(
        recording,
        kernel_name=kernel_name,
        config=Config(KernelManager={"transport": "ipc", "ip": sockets}),
        timeout=options["cell_deadline_seconds"],
        startup_timeout=KERNEL_START_SECONDS,
        iopub_timeout=LATE_OUTPUT_SECONDS,
        shutdown_kernel="immediate",
    )
    client.told = recording.parent
    return client


def _stopped(recording: Recording, parent: Parent) -> NoReturn:
    """Asked to stop in the middle of a cell: what there is of its output is kept."""
    for cell in recording.nb.cells:
        redact_cell(cell)
    recording.save_now()
    parent.end_everything(0)


def _titles(notebook: Any) -> dict[int, tuple[int, int, str]]:
    """For each code cell by its index: its number, how many there are, the heading above it."""
    total = sum(cell.cell_type == "code" for cell in notebook.cells)
    found, number, title = {}, 0, ""
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            number += 1
            found[index] = (number, total, title)
        elif headings := _HEADING.findall(cell.source):
            title = headings[-1].strip()
    return found


def _characters(content: Any) -> int:
    data = content.get("data")
    if data is None:
        return len(content.get("text", ""))
    return sum(len(part) if isinstance(part, str) else 1000 for part in data.values())


def _outcome(error: BaseException) -> tuple[str, str]:
    """How the run ended, from what nbclient or papermill raised."""
    if isinstance(error, PapermillExecutionError):
        return "raised", f"{error.ename}: {error.evalue}"
    if isinstance(error, DeadKernelError):
        return "kernel_died", "The kernel died while a cell ran."
    if isinstance(error, CellTimeoutError):
        return "cell_timed_out", "A cell ran past its deadline."
    return "not_executed", f"{type(error).__name__}: {error}"


def main() -> int:
    """Executes the request in the directory that is named by the first argument."""
    directory, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    parent = Parent(descriptor)
    request = json.loads((directory / "request.json").read_text("utf-8"))
    _make_secrets_known()
    papermill_engines.register("runbook", RunbookEngine)
    outcome, message = "completed", ""
    try:
        execute_notebook(
            read_notebook((directory / "notebook.ipynb").read_bytes()),
            None,
            engine_name="runbook",
            kernel_name="python3",
            progress_bar=False,
            parent=parent,
            saved_to=directory / "executed.ipynb",
            directory=str(directory / "work"),
            sockets=request["sockets"],
            cell_deadline_seconds=request["cell_deadline_seconds"],
        )
    except Exception as error:
        outcome, message = _outcome(error)
    parent.tell("ended", outcome=outcome, message=message)
    return 0


def _make_secrets_known() -> None:
    from runbook_lib.errors import RunbookError
    from runbook_lib.settings import load_settings

    try:
        load_settings()
    except RunbookError:
        pass  # The parent knows its secrets as well and redacts the finished file.


if __name__ == "__main__":
    sys.exit(main())
