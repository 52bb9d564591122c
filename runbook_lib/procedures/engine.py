"""The process in which papermill executes one notebook. Forked or started by `execution.py`.

What papermill would get wrong is put right here: it calls cells completed that never ran, rewrites the
whole file at each cell's start and end, leaves it torn when it is killed, has no limit on output, waits
half a second for nothing at each start, and opens TCP ports that two runs may both take.

It speaks to its parent over a pipe of its own, one JSON line an event, and ends with it: when standard
input closes, the parent is gone, and so is the kernel a moment later.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import re
import signal
import sys
import threading
from pathlib import Path
from queue import Empty, Queue
from typing import Any, NoReturn

from runbook_lib.archive.notebook_files import read_notebook, skip_unused_parsers
from runbook_lib.archive.redaction import redact_cell
from runbook_lib.deadlines import Deadline
from runbook_lib.procedures.evidence import CARRIED_OVER
from runbook_lib.procedures.journal import NOTEBOOK_FILE, Journal

skip_unused_parsers()

from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError  # noqa: E402
from nbclient.util import run_sync  # noqa: E402
from papermill import execute_notebook  # noqa: E402
from papermill.clientwrap import PapermillNotebookClient  # noqa: E402
from papermill.engines import (  # noqa: E402
    Engine,
    NotebookExecutionManager,
    papermill_engines,
)
from papermill.exceptions import PapermillExecutionError  # noqa: E402

from runbook_lib.procedures.kernel import ForkedKernel, make_secrets_known  # noqa: E402
from runbook_lib.procedures.kernel_manager import Manager  # noqa: E402

CELL_OUTPUT_LIMIT_CHARACTERS = 1_000_000
NOTEBOOK_OUTPUT_LIMIT_CHARACTERS = 64_000_000
KERNEL_START_SECONDS = 60
LATE_OUTPUT_SECONDS = 30
LOOK_AT_KERNEL_SECONDS = 0.2
# A cell's output so far is kept this long after it came, then each time it has doubled.
CHECKPOINT_SECONDS = 1.0
_HEADING = re.compile(r"^#{1,6}\s+(.+)$", re.MULTILINE)


class Quit(Exception):
    """Whoever steps through the notebook had enough."""


class Parent:
    """Whoever started us: told about events; its end is ours."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._pipe = os.fdopen(descriptor, "w", buffering=1, encoding="utf-8")
        self._lock = threading.Lock()
        self._kernel_group: int | None = None
        self._decisions: Queue[str] = Queue()
        threading.Thread(target=self._follow, daemon=True).start()

    def tell(self, event: str, **details: Any) -> None:
        with self._lock:
            self._pipe.write(json.dumps({"event": event, **details}) + "\n")

    def kernel_started(self, pid: int) -> None:
        self._kernel_group = pid
        self.tell("kernel", pid=pid)

    def end_everything(self, status: int) -> NoReturn:
        """Ends the kernel and this process now, whatever the kernel is doing."""
        if self._kernel_group is not None:
            try:
                os.killpg(self._kernel_group, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        os._exit(status)

    def decision(self) -> str:
        """What whoever steps through the notebook says about the next cell."""
        return self._decisions.get()

    def _follow(self) -> None:
        while data := os.read(0, 4096):
            for word in data.decode().split():
                self._decisions.put(word)
        self.end_everything(3)


class Recording(NotebookExecutionManager):
    """What happens to each cell, told to the parent and written down."""

    def __init__(self, notebook: Any, directory: Path, parent: Parent) -> None:
        super().__init__(notebook, progress_bar=False, autosave_cell_every=0)
        self.parent = parent
        self._journal = Journal(directory)
        self._titles = _titles(notebook)
        self._kept_characters = 0

    def save(self, **_: Any) -> None:
        """Papermill asks for it at each cell's start and end; here each change is a line."""

    def keep(self, index: int) -> None:
        """Writes down how a cell stands, without secrets."""
        cell = copy.deepcopy(self.nb.cells[index])
        redact_cell(cell)
        self._journal.cell(index, cell)

    def cell_start(self, cell: Any, cell_index: int | None = None, **options: Any) -> None:
        super().cell_start(cell, cell_index, **options)
        if cell.cell_type == "code":
            assert cell_index is not None
            self._kept_characters = 0
            number, total, title = self._titles[cell_index]
            self.parent.tell("cell", number=number, total=total, title=title)
            # Now, not at the cell's end: it says which cell was running if we are killed.
            self.keep(cell_index)

    def cell_goes_on(self, index: int, characters: int) -> None:
        """Keeps the output so far, if it has grown enough for that to stay linear."""
        if characters >= 2 * self._kept_characters:
            self._kept_characters = characters
            self.keep(index)

    def cell_ran(self, cell: Any, cell_index: int) -> None:
        """The cell ended by itself, well or with an error; only then is it said to have run."""
        super().cell_complete(cell, cell_index)
        if cell.cell_type == "code":
            self.keep(cell_index)
            self.parent.tell("ran", number=self._titles[cell_index][0], index=cell_index)

    def notebook_start(self, **options: Any) -> None:
        carried = {
            index: cell.outputs
            for index, cell in enumerate(self.nb.cells)
            if CARRIED_OVER in cell.metadata
        }
        super().notebook_start(**options)
        for index, outputs in carried.items():
            self.nb.cells[index].outputs = outputs  # papermill has emptied every cell
            self.label(index, "carried over")

    def label(self, index: int, status: str) -> None:
        """Says of a cell that it is not run, and why."""
        self.nb.cells[index].metadata.papermill["status"] = status
        self.keep(index)

    def decision(self, index: int) -> str:
        """`run`, `skip` or `quit`, after asking whoever steps through the notebook."""
        number, total, title = self._titles[index]
        self.parent.tell("ready", index=index, number=number, total=total, title=title)
        return self.parent.decision()

    def notebook_complete(self, **_: Any) -> None:
        """Ends the recording; cells that did not run stay as they are."""
        self.nb.metadata.papermill["end_time"] = self.now().isoformat()
        del self.nb.metadata.papermill["input_path"]  # the whole notebook once more
        for index, cell in enumerate(self.nb.cells):
            if cell.metadata.get("papermill", {}).get("status") == "running":
                self.keep(index)
        self._journal.metadata(self.nb.metadata)


class Client(PapermillNotebookClient):
    """Executes the cells; says which really ran, and bounds what is kept of their output."""

    told: Parent  # not `parent`, which is traitlets' own
    directory: Path
    sockets: Path
    forked_kernel: ForkedKernel | None
    km: Any
    stepwise: bool
    _characters: dict[int, int]
    _checkpoint: asyncio.TimerHandle | None = None

    def create_kernel_manager(self) -> Manager:
        manager = Manager.for_sockets(self.sockets, self.forked_kernel)
        self.km = manager
        return manager

    async def async_start_new_kernel(self, **options: Any) -> None:
        await self.km.start_kernel(cwd=str(self.directory))

    async def async_start_new_kernel_client(self) -> Any:
        """Connects as soon as the kernel listens; it is ready when what it publishes arrives here."""
        until = Deadline.after(self.startup_timeout)
        while not all(path.exists() for path in self.km.sockets()):
            await self._wait_for_kernel(0.001, until)
        self.kc = self.km.client()
        self.kc.start_channels(stdin=False, hb=False)
        self.kc.allow_stdin = False
        asked = ""
        while not await self._hears(self.kc.iopub_channel, asked):
            await self._wait_for_kernel(0, until)
            asked = self.kc.kernel_info()
            while not await self._hears(self.kc.shell_channel, asked):
                await self._wait_for_kernel(0, until)
        return self.kc

    start_new_kernel = run_sync(async_start_new_kernel)
    start_new_kernel_client = run_sync(async_start_new_kernel_client)

    async def _hears(self, channel: Any, asked: str) -> bool:
        """Whether an answer to this question comes within a moment."""
        try:
            while True:
                message = await channel.get_msg(timeout=0.05)
                if asked and message["parent_header"].get("msg_id") == asked:
                    return True
        except Empty:
            return False

    async def _wait_for_kernel(self, seconds: float, until: Deadline) -> None:
        if not await self.km.is_alive():
            raise DeadKernelError("The kernel died while it started.")
        if until.passed():
            raise DeadKernelError(f"The kernel did not start within {self.startup_timeout} s.")
        await asyncio.sleep(seconds)

    async def _async_poll_kernel_alive(self) -> None:
        while await self.km.is_alive():
            await asyncio.sleep(LOOK_AT_KERNEL_SECONDS)
        assert self.task_poll_for_reply is not None
        self.task_poll_for_reply.cancel()

    def papermill_execute_cells(self) -> None:
        self.told.kernel_started(self.km.provisioner.pid)
        self._characters = {}
        for index, cell in enumerate(self.nb.cells):
            if CARRIED_OVER in cell.metadata:
                continue
            if self.stepwise and cell.cell_type == "code" and cell.source.strip():
                decided = self.nb_man.decision(index)
                if decided == "quit":
                    raise Quit
                if decided == "skip":
                    self.nb_man.label(index, "skipped")
                    continue
            self.nb_man.cell_start(cell, index)
            try:
                self.execute_cell(cell, index)
            except CellExecutionError as error:
                self.nb_man.cell_exception(self.nb.cells[index], cell_index=index, exception=error)
                self._cell_ended(index)
                break
            self._cell_ended(index)

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
            self._keep_soon(cell_index)
        return super().process_message(msg, cell, cell_index)

    def _keep_soon(self, index: int) -> None:
        if self._checkpoint is None:
            loop = asyncio.get_running_loop()
            self._checkpoint = loop.call_later(CHECKPOINT_SECONDS, self._keep, index)

    def _keep(self, index: int) -> None:
        self._checkpoint = None
        self.nb_man.cell_goes_on(index, self._characters[index])

    def _cell_ended(self, index: int) -> None:
        if self._checkpoint is not None:
            self._checkpoint.cancel()
            self._checkpoint = None
        self._note_what_was_cut(index)
        self.nb_man.cell_ran(self.nb.cells[index], index)

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
        recording = Recording(nb, options["directory"], parent)
        signal.signal(signal.SIGTERM, lambda *_: _stopped(recording, parent))
        recording.notebook_start()
        try:
            _client(recording, kernel_name, options).execute()
        finally:
            recording.notebook_complete()
            # What is written down now stays: papermill goes on to put banners of its own into it.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        return nb


def _client(recording: Recording, kernel_name: str, options: dict[str, Any]) -> Client:
    client = Client(
        recording,
        kernel_name=kernel_name,
        timeout=options["cell_deadline_seconds"],
        startup_timeout=KERNEL_START_SECONDS,
        iopub_timeout=LATE_OUTPUT_SECONDS,
        shutdown_kernel="immediate",
    )
    client.told = recording.parent
    client.directory = options["directory"] / "work"
    client.sockets = Path(options["sockets"])
    client.forked_kernel = options["kernel"]
    client.stepwise = options["stepwise"]
    return client


def _stopped(recording: Recording, parent: Parent) -> NoReturn:
    """Asked to stop in the middle of a cell: what there is of its output is kept."""
    recording.notebook_complete()
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
    if isinstance(error, Quit):
        return "quit", "It was ended by whoever stepped through it."
    if isinstance(error, DeadKernelError):
        return "kernel_died", "The kernel died while a cell ran."
    if isinstance(error, CellTimeoutError):
        return "cell_timed_out", "A cell ran past its deadline."
    return "not_executed", f"{type(error).__name__}: {error}"


def execute(directory: Path, parent: Parent, kernel: ForkedKernel | None) -> int:
    """Executes the request in this directory."""
    request = json.loads((directory / "request.json").read_text("utf-8"))
    make_secrets_known()
    papermill_engines.register("runbook", RunbookEngine)
    outcome, message = "completed", ""
    try:
        execute_notebook(
            read_notebook((directory / NOTEBOOK_FILE).read_bytes()),
            None,
            engine_name="runbook",
            kernel_name="python3",
            progress_bar=False,
            parent=parent,
            kernel=kernel,
            directory=directory,
            sockets=request["sockets"],
            stepwise=request["stepwise"],
            cell_deadline_seconds=request["cell_deadline_seconds"],
        )
    except Exception as error:
        outcome, message = _outcome(error)
    parent.tell("ended", outcome=outcome, message=message)
    return 0


def execute_forked(arguments: dict[str, Any], files: list[int]) -> int:
    """In a process that was forked for it: the kernel is forked first, while nothing else is here."""
    kernel = ForkedKernel()
    return execute(Path(arguments["directory"]), Parent(files[0]), kernel)


def main() -> int:
    """The plain start: the directory, and the number of the pipe for events."""
    return execute(Path(sys.argv[1]), Parent(int(sys.argv[2])), None)


if __name__ == "__main__":
    sys.exit(main())
