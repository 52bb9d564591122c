"""Where runs get their processes from: forked from one that has imported everything, else started plainly.

The fork server is one for each RUNBOOK_HOME (see `fork_server.py`): started at the first use, held by
whoever uses it, and gone half a minute after nobody does. Whatever is wrong with it, a run is started
the plain way, which takes some seconds more and needs nothing of it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from runbook_lib.deadlines import Deadline
from runbook_lib.errors import CouldNotBeDone
from runbook_lib.processes import Hold, SharedProcess

START_SECONDS = 120.0
ANSWER_SECONDS = 10.0
# How long a fork server that could not be started is not asked for again.
GIVEN_UP_SECONDS = 60.0
LOOK_SECONDS = 0.02

_lock = threading.Lock()
_holds: dict[Path, Hold] = {}
_given_up_at: dict[Path, float] = {}


class NoForkServer(CouldNotBeDone):
    """The fork server is not to be had; the run is started the plain way."""


class ForkedProcess:
    """A process that the fork server forked for us, with what `subprocess.Popen` says of one."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self._connection = connection
        self._received = b""
        self._process = _process(pid)
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""
        if self.returncode is None:
            self._look(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end. Raises `subprocess.TimeoutExpired`."""
        deadline = Deadline.after(timeout if timeout is not None else float("inf"))
        while self.returncode is None:
            self._look(min(1.0, deadline.remaining_seconds()))
            if self.returncode is None and deadline.passed():
                raise subprocess.TimeoutExpired("a forked process", timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _look(self, seconds: float) -> None:
        if self._connection.fileno() < 0:
            # The server is gone, and with it whoever could have told the status.
            if self._process is None or not self._process.is_running():
                self.returncode = 255
            elif seconds:
                time.sleep(min(seconds, LOOK_SECONDS))
            return
        if not select.select([self._connection], [], [], seconds)[0]:
            return
        data = _received(self._connection)
        self._received += data
        if self._received.endswith(b"\n"):
            self.returncode = json.loads(self._received)["status"]
        if not data or self.returncode is not None:
            self._connection.close()


def fork(
    directory: Path,
    task: str,
    arguments: Mapping[str, Any],
    *,
    environment: Mapping[str, str],
    working_directory: Path,
    files: Sequence[int],
    ends_with_client: bool = False,
) -> ForkedProcess:
    """Has a process forked that does one of `fork_server.TASKS`; `files` begin with its standard three.

    Raises `NoForkServer`.
    """
    request = {
        "task": task,
        "arguments": dict(arguments),
        "environment": dict(environment),
        "directory": str(working_directory),
        "ends_with_client": ends_with_client,
    }
    data = json.dumps(request).encode() + b"\n"
    deadline = Deadline.after(START_SECONDS)
    while True:
        state = _state(directory, deadline)
        if process := _asked(str(state["socket"]), data, files):
            return process
        # It is being renewed, or was killed a moment ago: its supervisor starts another one.
        if deadline.passed():
            raise _give_up(directory, "it does not answer in time")
        time.sleep(LOOK_SECONDS)


def is_up(directory: Path) -> bool:
    """Whether a fork server runs here; starts none."""
    return SharedProcess(directory, _MODULE).status().ready


def warm_up(directory: Path) -> None:
    """Starts the fork server in the background, so that the first run finds it."""
    threading.Thread(target=_hold_quietly, args=(directory,), daemon=True).start()


def cool_down(directory: Path) -> None:
    """Lets the fork server go, and ends it at once if nobody else holds it.

    One that is still being started after a while ends by itself a little later: nobody waits for it.
    """
    if not _lock.acquire(timeout=15):
        return
    try:
        hold = _holds.pop(directory, None)
    finally:
        _lock.release()
    if hold is not None:
        hold.release()
        SharedProcess(directory, _MODULE).stop_unless_held()


_MODULE = "runbook_lib.procedures.fork_server"


def _hold_quietly(directory: Path) -> None:
    try:
        _state(directory, Deadline.after(START_SECONDS))
    except NoForkServer:
        pass


def _state(directory: Path, deadline: Deadline) -> dict[str, Any]:
    """The state of a fork server that runs; this process holds it from now on."""
    if sys.platform != "linux":
        raise NoForkServer("Forking is safe on Linux only.")
    with _lock:
        if time.monotonic() - _given_up_at.get(directory, -GIVEN_UP_SECONDS) < GIVEN_UP_SECONDS:
            raise NoForkServer("The fork server could not be started a moment ago.")
        hold = _holds.get(directory)
        try:
            if hold is None:
                shared = SharedProcess(directory, _MODULE)
                hold = _holds[directory] = shared.acquire(deadline.remaining_seconds())
                return hold.state
            return hold.ensure(deadline.remaining_seconds())
        except (OSError, CouldNotBeDone) as error:
            _given_up_at[directory] = time.monotonic()
            raise NoForkServer(f"The fork server was not started: {error}") from error


def _give_up(directory: Path, why: str) -> NoForkServer:
    with _lock:
        _given_up_at[directory] = time.monotonic()
    return NoForkServer(f"The fork server at {directory} is not used: {why}.")


def _asked(path: str, data: bytes, files: Sequence[int]) -> ForkedProcess | None:
    """Asks for a process; None when this server does not take requests any more."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(ANSWER_SECONDS)
    try:
        connection.connect(path)
        sent = socket.send_fds(connection, [data], list(files))
        connection.sendall(data[sent:])
        answer = b""
        while not answer.endswith(b"\n"):
            if not (part := connection.recv(1)):
                raise OSError("closed")
            answer += part
        found = json.loads(answer)
    except (OSError, ValueError):
        connection.close()
        return None
    if "pid" not in found:
        connection.close()
        return None
    return ForkedProcess(connection, found["pid"])


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(4096)
    except OSError:
        return b""


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None
