"""One execution of a notebook, in a process group of its own, under deadlines that hold.

papermill has no deadline for a run and does not hand on signals: killed, it leaves its kernel behind,
and a kernel inside C code lives on for good. So the processes are started, watched and ended here.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil

from runbook_lib.credentials.masking import one_line
from runbook_lib.deadlines import Deadline
from runbook_lib.procedures.kernels import ForkedProcess, NoForkServer, fork
from runbook_lib.settings import PROJECT_DIRECTORY

LOOK_SECONDS = 0.1
# How long the process may take to save what there is once it is asked to stop.
STOP_SECONDS = 3.0
LOG_CHARACTERS_SHOWN = 500
# ipykernel does not collect what subprocesses print when it takes itself for a part of a test.
_OF_A_PERSON = ("JUPYTER_", "IPYTHON", "PYTHONSTARTUP", "MPLBACKEND", "PYTEST_")


@dataclass(frozen=True)
class Progress:
    """`cell n of m`; `title` is the heading above the cell."""

    number: int
    total: int
    title: str


class Stop(Protocol):
    """Something like `threading.Event` that says whether a run is to be ended."""

    def is_set(self) -> bool: ...


class Steps(Protocol):
    """Somebody who walks through a procedure."""

    def begin(self, directory: Path) -> None:
        """The execution begins; here are its notebook and its journal."""
        ...

    def decide(self, progress: Progress, index: int) -> str:
        """`run`, `skip` or `quit` for the cell with this index in the notebook."""
        ...

    def ran(self, index: int) -> None:
        """The cell has run; the journal has its outputs."""
        ...


@dataclass
class Ending:
    """How an execution ended, with what can be said about it.

    `outcome` is, as the engine says it, completed, raised, kernel_died, cell_timed_out, not_executed
    or quit, when somebody who steps through it had enough; as it is seen from here, run_timed_out,
    stopped or process_died; and vanished, when nobody saw it.
    """

    outcome: str
    message: str = ""
    cells_done: int = 0
    last: Progress | None = None


@dataclass(frozen=True)
class Request:
    """What is executed and within what: `directory` is private and holds `notebook.ipynb`."""

    directory: Path
    environment: Mapping[str, str]
    cell_deadline_seconds: float
    run_deadline_seconds: float
    # The directory of the fork server; None starts everything the plain way.
    fork_server: Path | None = None
    # Who decides about each cell before it runs; None runs them all.
    steps: Steps | None = None


@dataclass
class _Processes:
    """The engine's process and the kernel that it started."""

    engine: subprocess.Popen[bytes] | ForkedProcess
    # Closed when we end, however we end; the engine ends with us.
    lifeline: int
    kernel: psutil.Process | None = None
    events: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)

    def answer(self, word: str) -> None:
        """Tells the engine what to do with the cell that it asked about."""
        try:
            os.write(self.lifeline, f"{word}\n".encode())
        except BrokenPipeError:
            pass  # It died; the next event says so.

    def stop(self) -> None:
        """Asks the engine to save and go, then makes sure that nothing of it is left."""
        if self.engine.poll() is None:
            self.engine.terminate()
            try:
                self.engine.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pass
        self.kill()

    def kill(self) -> None:
        """Ends both groups. psutil knows a process by its start as well, so never another one's."""
        for process in [self.kernel, *self._children()]:
            try:
                if process is not None and process.is_running():
                    _kill_group(process)
            except psutil.Error:
                pass
        if self.engine.poll() is None:
            try:
                os.killpg(self.engine.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.engine.wait()

    def _children(self) -> list[psutil.Process]:
        if self.engine.poll() is not None:
            return []
        try:
            return psutil.Process(self.engine.pid).children(recursive=True)
        except psutil.Error:
            return []


def execute(
    request: Request,
    *,
    stop: Stop,
    on_progress: Callable[[Progress], None],
    on_look: Callable[[Ending], None],
) -> Ending:
    """Executes `directory/notebook.ipynb` and keeps a journal of it; returns how it ended.

    `on_look` is called about ten times a second. Nothing of it runs any more when this returns or
    raises, whichever way.
    """
    if request.steps is not None:
        request.steps.begin(request.directory)
    with _started(request) as processes:
        try:
            ending = _watch(request, processes, stop, on_progress, on_look)
        finally:
            processes.stop()
    if ending.outcome == "process_died":
        ending.message = _explain(processes.engine.wait(), request.directory / "log.txt")
    return ending


def _watch(
    request: Request,
    processes: _Processes,
    stop: Stop,
    on_progress: Callable[[Progress], None],
    on_look: Callable[[Ending], None],
) -> Ending:
    deadline = Deadline.after(request.run_deadline_seconds)
    ending = Ending("process_died")
    while True:
        try:
            event = processes.events.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            event = {"event": "nothing"}
        match event["event"]:
            case "kernel":
                processes.kernel = _process(event["pid"])
            case "ready":
                assert request.steps is not None
                progress = Progress(event["number"], event["total"], event["title"])
                processes.answer(request.steps.decide(progress, event["index"]))
                deadline = Deadline.after(request.run_deadline_seconds)
            case "cell":
                ending.last = Progress(event["number"], event["total"], event["title"])
                on_progress(ending.last)
            case "ran":
                ending.cells_done = event["number"]
                if request.steps is not None:
                    request.steps.ran(event["index"])
            case "ended":
                ending.outcome, ending.message = event["outcome"], event["message"]
                return ending
            case "closed":
                return ending
        if stop.is_set():
            ending.outcome, ending.message = "stopped", "The run was stopped."
            return ending
        if deadline.passed():
            ending.outcome = "run_timed_out"
            ending.message = (
                f"The run did not end within its deadline of {request.run_deadline_seconds:g} s."
            )
            return ending
        on_look(ending)


@contextmanager
def _started(request: Request) -> Iterator[_Processes]:
    # The path of a socket may have about a hundred characters, fewer than homes often take.
    sockets = tempfile.mkdtemp(prefix="rb-")
    (request.directory / "request.json").write_text(
        json.dumps(
            {
                "sockets": sockets,
                "cell_deadline_seconds": request.cell_deadline_seconds,
                "stepwise": request.steps is not None,
            }
        )
    )
    for name in ("work", "jupyter/ipython"):
        (request.directory / name).mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    try:
        processes = _start(request, writing)
    finally:
        os.close(writing)
    reader = threading.Thread(target=_read_events, args=(reading, processes.events), daemon=True)
    reader.start()
    try:
        yield processes
    finally:
        processes.kill()
        os.close(processes.lifeline)
        reader.join(1)
        shutil.rmtree(sockets, ignore_errors=True)


def _start(request: Request, events: int) -> _Processes:
    theirs, ours = os.pipe()
    try:
        with open(request.directory / "log.txt", "ab") as log:
            engine = _forked(request, (theirs, log.fileno(), log.fileno(), events))
            if engine is None:
                engine = subprocess.Popen(
                    [sys.executable, "-P", "-m", "runbook_lib.procedures.engine",
                     str(request.directory), str(events)],
                    stdin=theirs, stdout=log, stderr=log, env=dict(request.environment),
                    pass_fds=(events,), start_new_session=True,
                )  # fmt: skip
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return _Processes(engine, ours)


def _forked(request: Request, files: tuple[int, ...]) -> Any:
    """The engine's process from the fork server; None when it is not to be had."""
    if request.fork_server is None:
        return None
    try:
        return fork(
            request.fork_server, "execute", {"directory": str(request.directory)},
            environment=request.environment, working_directory=request.directory, files=files,
        )  # fmt: skip
    except NoForkServer:
        return None


def _read_events(descriptor: int, events: queue.Queue[dict[str, Any]]) -> None:
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as pipe:
        for line in pipe:
            try:
                events.put(json.loads(line))
            except ValueError:
                pass  # Half a line: the process died while it wrote.
    events.put({"event": "closed"})


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _kill_group(process: psutil.Process) -> None:
    try:
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except ProcessLookupError:
        pass


def _explain(status: int, log: Path) -> str:
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"
    said = one_line(log.read_text("utf-8", "replace")[-4000:], LOG_CHARACTERS_SHOWN)
    return f"The process that executes the notebook {how}. {said}".strip()


def environment_for(base: Mapping[str, str], directory: Path, **values: str) -> dict[str, str]:
    """The environment of a kernel: ours, without the settings that a person has for Jupyter.

    Start-up files, kernels and configuration in somebody's home would make a run depend on who
    started it.
    """
    private = directory / "jupyter"
    kept = {name: value for name, value in base.items() if not name.startswith(_OF_A_PERSON)}
    # The same code as ours, also where another copy of it is installed.
    paths = [str(PROJECT_DIRECTORY), *filter(None, [kept.get("PYTHONPATH")])]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(paths),
        "IPYTHONDIR": str(private / "ipython"),
        "JUPYTER_CONFIG_DIR": str(private / "config"),
        "JUPYTER_DATA_DIR": str(private / "data"),
        "JUPYTER_RUNTIME_DIR": str(private / "runtime"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "MPLBACKEND": "Agg",
        **values,
    }
