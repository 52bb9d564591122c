"""Child processes that are kept running: started, restarted when they die, stopped in order."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

from runbook_lib.processes import dying_with_parent

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
SETTLED_AFTER_SECONDS = 60.0
LOOK_SECONDS = 0.2
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Ended on purpose (drained, or nothing to do), or used wrongly: starting it again would not help.
FINAL_STATUSES = (0, 2)


@dataclass(frozen=True)
class Program:
    """A command to keep running. It gets SIGTERM first, and SIGKILL after `stop_grace_seconds`."""

    name: str
    command: Sequence[str]
    stop_grace_seconds: float


class Child:
    """One program and the process that runs it now, in a process group of its own."""

    def __init__(
        self, program: Program, environment: Mapping[str, str], say: Callable[[str, str], None]
    ) -> None:
        self.program = program
        self._environment = environment
        self._say = say
        self._process: subprocess.Popen[str] | None = None
        self._started_at = 0.0
        self._start_at = time.monotonic()
        self._deaths = 0
        self._output: threading.Thread | None = None
        self.given_up = False

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def keep_running(self) -> None:
        """Starts the program if it is due, and notices when it has ended."""
        if self._process is None:
            if not self.given_up and time.monotonic() >= self._start_at:
                self._start()
        elif self._process.poll() is not None:
            self._ended(self._process.returncode)

    def _start(self) -> None:
        self._started_at = time.monotonic()
        try:
            self._process = subprocess.Popen(
                dying_with_parent(self.program.command),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                # Ctrl-C reaches only the parent, which then stops its children in order.
                start_new_session=True,
            )
        except OSError as error:
            self._say(self.program.name, f"cannot be started: {error}")
            self.given_up = True
            return
        self._output = threading.Thread(target=self._pass_on, args=(self._process,), daemon=True)
        self._output.start()

    def _pass_on(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._say(self.program.name, line.rstrip("\n"))

    def _ended(self, status: int) -> None:
        self._clear_away()
        if status in FINAL_STATUSES:
            self._say(self.program.name, f"ended with status {status}; it is not started again")
            self.given_up = True
            return
        settled = time.monotonic() - self._started_at >= SETTLED_AFTER_SECONDS
        self._deaths = 1 if settled else self._deaths + 1
        pause = min(FIRST_PAUSE_SECONDS * 2 ** (self._deaths - 1), LONGEST_PAUSE_SECONDS)
        self._start_at = time.monotonic() + pause
        how = (
            f"was killed by {signal.Signals(-status).name}"
            if status < 0
            else f"ended with status {status}"
        )
        self._say(self.program.name, f"{how}; starting it again in {pause:g} s")

    def signal(self) -> None:
        """Asks the process to stop; asked twice, a worker hands its jobs back at once."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGTERM)

    def stop(self, wait: Callable[[float], object]) -> None:
        """Stops the process and everything in its group; `wait` is how to wait for some seconds."""
        self.given_up = True
        if self._process is None:
            return
        self.signal()
        until = time.monotonic() + self.program.stop_grace_seconds
        while self.running and time.monotonic() < until:
            wait(LOOK_SECONDS)
        if self.running:
            self._say(
                self.program.name,
                f"did not stop within {self.program.stop_grace_seconds:g} s: killed",
            )
        self._clear_away()

    def _clear_away(self) -> None:
        assert self._process is not None
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        if self._output is not None:
            self._output.join(1)
        self._process = None


class Children:
    """Keeps programs running until SIGINT, SIGTERM or SIGHUP, then stops them, the last one first."""

    def __init__(
        self,
        programs: Sequence[Program],
        environment: Mapping[str, str],
        say: Callable[[str, str], None],
    ) -> None:
        self._children = [Child(program, environment, say) for program in programs]
        self._stop_requested = threading.Event()
        self._stopping: Child | None = None

    def keep_running(self) -> bool:
        """Returns when asked to stop (True), or when every program ended for good (False)."""
        before = {number: signal.signal(number, self._asked_to_stop) for number in STOP_SIGNALS}
        try:
            while not self._stop_requested.wait(LOOK_SECONDS):
                for child in self._children:
                    child.keep_running()
                if all(child.given_up for child in self._children):
                    return False
            return True
        finally:
            for child in reversed(self._children):
                self._stopping = child
                child.stop(time.sleep)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _asked_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        if self._stop_requested.is_set() and self._stopping is not None:
            self._stopping.signal()
        self._stop_requested.set()
