"""Shared background processes: started once, kept by locks, gone when the last one lets go or is killed."""

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

from runbook_lib.errors import ServiceNotStarted
from runbook_lib.processes import SharedProcess

# A service that says its number, and as it is told: fails, dies, or is slow to stop.
SERVICE = """
import os, sys, time
from pathlib import Path
from runbook_lib.processes import serve

directory, *behaviour = Path(sys.argv[1]), *sys.argv[2:]
starts = 0

def start():
    global starts
    starts += 1
    if "fails" in behaviour:
        raise OSError("the disk is full")
    return {"starts": starts, "key": os.environ.get("OPENAI_API_KEY")}

def alive():
    if "dies" in behaviour:
        return False
    dead = directory / "dead"
    if dead.exists():
        dead.unlink()
        return False
    return True

def stop():
    if "slow" in behaviour:
        (directory / "stopping").touch()
        time.sleep(0.5)

sys.exit(serve(directory, start, stop, alive, linger_seconds=600 if "lingers" in behaviour else 0.2))
"""
HOLDER = """
import sys, time
from pathlib import Path
from runbook_lib.processes import SharedProcess
hold = SharedProcess(Path(sys.argv[1]), "tiny_service", sys.argv[2:]).acquire()
print(hold.state["pid"], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "tiny_service.py").write_text(SERVICE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(__file__).parent.parent}")
    directory = tmp_path / "shared"
    yield directory
    # A process whose folder is gone stops by itself, whatever a failed test left behind.
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def holder(directory: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts other processes that hold the service until they are ended."""
    started: list[subprocess.Popen[str]] = []

    def start(*behaviour: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", HOLDER, str(directory), *behaviour]
        started.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


def service(directory: Path, *behaviour: str) -> SharedProcess:
    return SharedProcess(directory, "tiny_service", behaviour)


def pid_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


def test_processes_that_start_it_at_the_same_time_share_one(
    directory: Path, holder: Callable[..., subprocess.Popen[str]]
) -> None:
    pids = {pid_of(process) for process in [holder() for _ in range(4)]}
    assert len(pids) == 1
    with service(directory).acquire() as hold:
        assert hold.state["pid"] in pids


def test_it_stops_when_the_last_one_lets_go_and_not_before(
    directory: Path, holder: Callable[..., subprocess.Popen[str]]
) -> None:
    other = holder()
    pid = pid_of(other)
    hold = service(directory).acquire()
    assert other.stdin is not None
    other.stdin.close()
    other.wait()
    assert not service(directory).wait_until_stopped(0.6)
    assert hold.state["pid"] == pid
    hold.release()
    hold.release()
    assert service(directory).wait_until_stopped(20)
    assert not service(directory).status().running


def test_it_can_be_stopped_at_once_unless_somebody_holds_it(
    directory: Path, holder: Callable[..., subprocess.Popen[str]]
) -> None:
    shared = service(directory, "lingers")
    shared.acquire().release()
    assert shared.status().running
    other = holder()
    pid_of(other)
    assert not shared.stop_unless_held()
    assert shared.status().running
    other.kill()
    other.wait()
    assert shared.stop_unless_held()
    assert not shared.status().running
    assert shared.stop_unless_held(), "what does not run is stopped already"


def test_a_holder_killed_with_9_lets_go(
    directory: Path, holder: Callable[..., subprocess.Popen[str]]
) -> None:
    killed = holder()
    pid_of(killed)
    killed.kill()
    assert service(directory).wait_until_stopped(20)


def test_whoever_comes_while_it_stops_gets_a_new_one(directory: Path) -> None:
    first = service(directory, "slow").acquire()
    first.release()
    assert wait_for((directory / "stopping").exists)
    assert not service(directory).status().held
    with service(directory, "slow").acquire() as hold:
        assert hold.state["pid"] != first.state["pid"]
        assert service(directory).status().ready


def test_a_process_killed_with_9_is_not_believed_to_run_and_holders_can_start_it_again(
    directory: Path,
) -> None:
    with service(directory).acquire() as hold:
        killed = hold.state["pid"]
        os.kill(killed, signal.SIGKILL)
        assert service(directory).wait_until_stopped(20)
        assert (directory / "state.json").exists()
        assert not service(directory).status().running
        assert hold.ensure()["pid"] != killed
        with service(directory).acquire() as other:
            assert other.state["pid"] == hold.state["pid"]


def test_a_start_that_fails_is_told_with_the_last_lines_of_its_log(directory: Path) -> None:
    with pytest.raises(ServiceNotStarted, match="the disk is full"):
        service(directory, "fails").acquire()
    assert not service(directory).status().held


def test_what_is_kept_stays_without_holders_until_it_is_let_go(directory: Path) -> None:
    pid = service(directory).keep()["pid"]
    assert not service(directory).wait_until_stopped(0.8)
    status = service(directory).status()
    assert status.running
    assert status.kept
    assert not status.held
    with service(directory).acquire() as hold:
        assert hold.state["pid"] == pid
    assert service(directory).let_go()
    assert service(directory).wait_until_stopped(20)
    assert not service(directory).let_go()


def test_a_wish_to_keep_it_from_before_the_machine_restarted_does_not_count(
    directory: Path,
) -> None:
    directory.mkdir()
    (directory / "keep.json").write_text(json.dumps({"boot_id": "of another day"}))
    service(directory).acquire().release()
    assert service(directory).wait_until_stopped(20)


def test_it_inherits_no_descriptor_of_its_caller(directory: Path, tmp_path: Path) -> None:
    with (tmp_path / "callers.txt").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        with service(directory).acquire() as hold:
            if not Path("/proc/self/fd").exists():
                pytest.skip("no /proc here that lists descriptors")
            open_files = {
                os.readlink(path) for path in Path(f"/proc/{hold.state['pid']}/fd").iterdir()
            }
    inside = {str(directory / name) for name in ("alive.lock", "holders.lock", "log.txt")}
    assert open_files == inside | {"/dev/null"}


def test_it_gets_none_of_its_callers_keys(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-caller")
    with service(directory).acquire() as hold:
        assert hold.state["key"] is None


def test_it_outlives_the_terminal_of_whoever_started_it(
    directory: Path, holder: Callable[..., subprocess.Popen[str]]
) -> None:
    pid = pid_of(holder())
    assert os.getsid(pid) == pid


def test_a_service_that_dies_is_started_again_by_its_supervisor(directory: Path) -> None:
    with service(directory).acquire() as hold:
        (directory / "dead").touch()
        assert wait_for(lambda: service(directory).status().state.get("starts") == 2)
        assert service(directory).status().state["pid"] == hold.state["pid"]


def test_a_service_that_dies_again_and_again_is_given_up(directory: Path) -> None:
    with service(directory, "dies").acquire():
        assert service(directory).wait_until_stopped(20)
        assert "times in a row" in service(directory).log.read_text()


def test_it_stops_when_its_folder_is_removed(directory: Path) -> None:
    with service(directory).acquire() as hold:
        process = psutil.Process(hold.state["pid"])
        shutil.rmtree(directory)
        assert wait_for(lambda: not process.is_running() or process.status() == "zombie")
