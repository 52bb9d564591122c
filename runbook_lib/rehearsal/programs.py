"""Programs of a staged system: workers and schedulers as processes of their own, and what keeps them running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from runbook_lib.database.statements import load
from runbook_lib.processes import dying_with_parent
from runbook_lib.rehearsal.scene import Scene, environment_of
from runbook_lib.settings import PROJECT_DIRECTORY

_SQL = load("rehearsal_processes")
# As after a release: a moment, and not the growing pauses that keep a host from being worn out.
RESTART_SECONDS = 0.5
BEGIN_SECONDS, STOP_SECONDS = 90.0, 40.0
_LOOK_SECONDS = 0.05


def worker_command(concurrency: int = 3, directory: Path = PROJECT_DIRECTORY) -> list[str]:
    """A worker as a person starts it, from the clone or from another release's directory."""
    return [sys.executable, str(directory / "worker.py"), "--concurrency", str(concurrency)]


def runbook_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "runbook_lib.cli", *arguments]


@contextmanager
def running(
    scene: Scene, command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program of the scene, killed at the end if it still runs."""
    process = _start(scene, command, environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def worker(
    scene: Scene,
    concurrency: int = 3,
    environment: Mapping[str, str] | None = None,
    directory: Path = PROJECT_DIRECTORY,
) -> Iterator[subprocess.Popen[bytes]]:
    with running(scene, worker_command(concurrency, directory), environment) as process:
        yield process


def has_registered(scene: Scene, process: subprocess.Popen[bytes]) -> bool:
    """Whether a worker's process has told the database that it is there."""
    return int(scene.ask(_SQL["registered"], pid=process.pid)) > 0


def wait_until_registered(scene: Scene, *workers: subprocess.Popen[bytes]) -> None:
    for each in workers:
        scene.until(
            lambda each=each: has_registered(scene, each), "a worker begins", BEGIN_SECONDS  # type: ignore[misc]
        )  # fmt: skip


def holds_jobs(scene: Scene, process: subprocess.Popen[bytes]) -> bool:
    """Whether a worker's process has jobs in its hands."""
    return int(scene.value("held_by", pid=process.pid)) > 0


def stop_in_order(*processes: subprocess.Popen[bytes]) -> None:
    """As a person stops them."""
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        process.wait(STOP_SECONDS)


class Supervised:
    """A program that is started again whenever it ends, as systemd, a container or `runbook up` do.

    `lived_seconds` says of each start that has ended how long it lasted.
    """

    def __init__(
        self, scene: Scene, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self._start = lambda: _start(scene, command, environment)
        self.lived_seconds: list[float] = []
        self.process_ids: list[int] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_running, daemon=True)

    def __enter__(self) -> Supervised:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _keep_running(self) -> None:
        while not self._ended.is_set():
            began, process = time.monotonic(), self._start()
            self.process_ids.append(process.pid)
            while process.poll() is None and not self._ended.wait(_LOOK_SECONDS):
                pass
            if process.poll() is None:
                process.kill()
                process.wait()
                return
            self.lived_seconds.append(time.monotonic() - began)
            self._ended.wait(RESTART_SECONDS)


def _start(
    scene: Scene, command: Sequence[str], environment: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    # Also one that is stopped or hangs goes with a laboratory that is killed.
    return subprocess.Popen(
        dying_with_parent(command, "KILL"), env={**environment_of(scene.settings), **scene.environment, **(environment or {})}, cwd=os.sep,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
