"""What `runbook up` keeps running: real processes that die, linger and are told to stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

PARENT = """
import json, os, sys
from runbook_lib.workbench.children import Children, Program
programs = [Program(name, command, grace) for name, command, grace in json.loads(sys.argv[1])]
asked = Children(programs, os.environ, lambda name, line: print(f"{name}: {line}", flush=True)).keep_running()
print("asked to stop" if asked else "all ended", flush=True)
"""
# Says its process id, and says so again when it is asked to stop.
PATIENT = """
import os, signal, sys, time
def stop(*_):
    print("stopping", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print(f"runs as {os.getpid()}", flush=True)
while True:
    time.sleep(60)
"""
DEAF = PATIENT.replace("sys.exit(0)", "pass")


class Parent:
    def __init__(self, programs: list[tuple[str, str, float]], output: Path) -> None:
        self._output = output
        commands = [(name, [sys.executable, "-c", code], grace) for name, code, grace in programs]
        with output.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PARENT, json.dumps(commands)],
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> list[str]:
        return self._output.read_text().splitlines()

    def wait_for(self, text: str, times: int = 1) -> list[str]:
        until = time.monotonic() + 30
        while sum(text in line for line in self.said) < times:
            assert time.monotonic() < until, self.said
            time.sleep(0.02)
        return [line for line in self.said if text in line]

    def pid_of(self, name: str) -> int:
        return int(self.wait_for(f"{name}: runs as ")[-1].split()[-1])

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(30)


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Callable[..., Parent]]:
    parents: list[Parent] = []

    def start(*programs: tuple[str, str, float]) -> Parent:
        parents.append(Parent(list(programs), tmp_path / f"{len(parents)}.log"))
        return parents[-1]

    yield start
    for each in parents:
        each.process.kill()
        each.process.wait()


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_program_that_is_killed_is_started_again(parent: Callable[..., Parent]) -> None:
    running = parent(("worker", PATIENT, 5))
    first = running.pid_of("worker")
    os.kill(first, signal.SIGKILL)
    running.wait_for("was killed by SIGKILL; starting it again in 1 s")
    running.wait_for("worker: runs as ", times=2)
    assert running.pid_of("worker") != first


def test_the_pause_before_the_next_start_doubles(parent: Callable[..., Parent]) -> None:
    running = parent(("worker", "import sys; sys.exit(3)", 5))
    running.wait_for("ended with status 3; starting it again in 1 s")
    running.wait_for("ended with status 3; starting it again in 2 s")


def test_a_program_that_ended_on_purpose_or_was_used_wrongly_stays_ended(
    parent: Callable[..., Parent],
) -> None:
    running = parent(("drained", "", 5), ("wrong", "import sys; sys.exit(2)", 5))
    assert running.process.wait(30) == 0
    assert "drained: ended with status 0; it is not started again" in running.said
    assert "wrong: ended with status 2; it is not started again" in running.said
    assert running.said[-1] == "all ended"


def test_programs_are_stopped_one_after_the_other_the_last_one_first(
    parent: Callable[..., Parent],
) -> None:
    running = parent(("first", PATIENT, 5), ("second", PATIENT, 5))
    pids = [running.pid_of("first"), running.pid_of("second")]
    assert running.stop() == 0
    assert running.said[-3:] == ["second: stopping", "first: stopping", "asked to stop"]
    assert not any(map(is_alive, pids))


def test_a_program_that_does_not_stop_is_killed_with_its_whole_group(
    parent: Callable[..., Parent],
) -> None:
    child = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {PATIENT!r}])\n"
    running = parent(("worker", child + DEAF, 0.5))
    running.wait_for("worker: runs as ", times=2)
    pids = [int(line.split()[-1]) for line in running.said]
    assert running.stop() == 0
    assert "worker: did not stop within 0.5 s: killed" in running.said
    assert not any(map(is_alive, pids))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel does it on Linux only")
def test_programs_stop_when_the_parent_is_killed(parent: Callable[..., Parent]) -> None:
    running = parent(("worker", PATIENT, 5))
    pid = running.pid_of("worker")
    running.process.kill()
    running.process.wait()
    until = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < until
        time.sleep(0.02)


LABORATORY = """
import os, signal, subprocess, sys, time
from runbook_lib.processes import dying_with_parent
child = subprocess.Popen(dying_with_parent([sys.executable, "-c", "import time; time.sleep(600)"], "KILL"))
# Until the kernel was asked, which is done before the program itself is there.
while not open(f"/proc/{child.pid}/cmdline", "rb").read().startswith(sys.executable.encode()):
    time.sleep(0.01)
os.kill(child.pid, signal.SIGSTOP)
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="it is setpriv that asks the kernel")
def test_a_program_that_stands_still_goes_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", LABORATORY], stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        child = int(killed.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        killed.kill()
    until = time.monotonic() + 30
    while is_there(child):
        assert time.monotonic() < until, "it outlives its parent"
        time.sleep(0.02)


def is_there(process_id: int) -> bool:
    """Whether it runs, or is stopped; what ended and was not asked for yet does neither."""
    try:
        return bool(psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
