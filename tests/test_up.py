"""`runbook up`: everything runs until Ctrl-C, and nothing is left behind."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import FAST

from runbook_lib.database import embedded
from runbook_lib.settings import environment_without_callers

UP = [sys.executable, "-m", "runbook_lib.cli", "up"]


class OnATerminal:
    """`runbook up` with a terminal as its input and output."""

    def __init__(self, home: Path) -> None:
        self._master, terminal = pty.openpty()
        os.set_blocking(self._master, False)
        self.said = ""
        self.process = subprocess.Popen(
            UP,
            env=environment_without_callers(home),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)

    def wait_for(self, *texts: str) -> None:
        until = time.monotonic() + 180
        while not all(text in self._read() for text in texts):
            assert time.monotonic() < until, self.said
            assert self.process.poll() is None, self.said
            time.sleep(0.05)

    def wait(self) -> int:
        until = time.monotonic() + 180
        while self.process.poll() is None:
            assert time.monotonic() < until, self._read()
            self._read()
            time.sleep(0.05)
        self._read()
        return self.process.returncode

    def _read(self) -> str:
        try:
            while data := os.read(self._master, 65536):
                self.said += data.decode("utf-8", "replace")
        except (BlockingIOError, OSError):
            pass  # nothing more now, or the other side is gone
        return self.said

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def on_a_terminal(place: Path) -> Iterator[OnATerminal]:
    running = OnATerminal(place)
    yield running
    running.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RUNBOOK_HOME for these tests, with a database that was made without waiting for the disk."""
    home = tmp_path_factory.mktemp("up")
    embedded.acquire(home, server_settings=FAST)[1].release()
    return home


def test_ctrl_c_stops_the_worker_and_the_scheduler_and_nothing_is_left(
    on_a_terminal: OnATerminal,
) -> None:
    on_a_terminal.wait_for(
        "Database:", "Sandbox:", "Ctrl-C stops everything", "worker_started", "scheduler |"
    )
    programs = psutil.Process(on_a_terminal.process.pid).children(recursive=True)
    on_a_terminal.process.send_signal(signal.SIGINT)
    assert on_a_terminal.wait() == 0
    assert "worker_stopped" in on_a_terminal.said
    # The database and the sandbox linger for a second, in case somebody comes; then they stop as well.
    assert psutil.wait_procs(programs, timeout=120)[1] == []


def test_without_a_terminal_it_takes_one_pass_and_ends(place: Path) -> None:
    answer = subprocess.run(
        UP,
        env=environment_without_callers(place),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    assert "worker_stopped" in answer.stdout
    assert "scheduler |" not in answer.stdout
