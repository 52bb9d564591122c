"""The programs of the workbench, as they are started: the commands that an engineer would type."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import IO, Any

from runbook_lib.errors import EXIT_NOT_WELL, CouldNotBeDone
from runbook_lib.processes import dying_with_parent
from runbook_lib.settings import PROJECT_DIRECTORY, Settings
from runbook_lib.workbench.children import Program

SCHEDULER_STOP_GRACE_SECONDS = 60.0
CONSOLE_STOP_GRACE_SECONDS = 15.0
MONITOR_STOP_GRACE_SECONDS = 20.0
# Where another clone's console has the usual port already, the next free one of so many is taken.
PORTS_TRIED = 20
# What a worker takes beyond its own grace time, to hand its jobs back.
HAND_BACK_SECONDS = 10.0


def runbook_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "runbook_lib.cli", *arguments]


def worker_command(*arguments: str) -> list[str]:
    return [sys.executable, str(PROJECT_DIRECTORY / "worker.py"), *arguments]


def lasting_programs(settings: Settings) -> list[Program]:
    """What `runbook up` keeps running, in the order of starting. The console listens where they say.

    A pipeline that is not ours has a worker of its own.
    """
    worker_grace = settings.runbook_stop_grace_seconds + HAND_BACK_SECONDS
    scheduler = runbook_command("schedule", "start")
    console = runbook_command("console", "--quiet", "--address", settings.runbook_console_address)
    worker = [] if settings.attached else [Program("worker", worker_command(), worker_grace)]
    return [
        *worker,
        Program("scheduler", scheduler, SCHEDULER_STOP_GRACE_SECONDS),
        Program("console", console, CONSOLE_STOP_GRACE_SECONDS),
        Program("monitor", runbook_command("monitor"), MONITOR_STOP_GRACE_SECONDS),
    ]


def with_free_console_address(settings: Settings) -> Settings:
    """The settings with a console address that is free; one that was set on purpose stays as it is."""
    if "runbook_console_address" in settings.model_fields_set:
        return settings
    host, _, port = settings.runbook_console_address.rpartition(":")
    for candidate in range(int(port), int(port) + PORTS_TRIED):
        try:
            with socket.create_server((host, candidate)):
                return settings.model_copy(
                    update={"runbook_console_address": f"{host}:{candidate}"}
                )
        except OSError:
            continue
    return settings


def ask(*arguments: str) -> Any:
    """Runs a `runbook` command and returns its JSON answer.

    Raises `CouldNotBeDone` with what the command said when it could not be done.
    """
    answer = subprocess.run(
        dying_with_parent(runbook_command(*arguments, "--json")),
        cwd=PROJECT_DIRECTORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode > EXIT_NOT_WELL or not answer.stdout.strip():
        said = answer.stderr.strip() or f"status {answer.returncode} and nothing said"
        raise CouldNotBeDone(f"`runbook {' '.join(arguments)}` did not succeed: {said}")
    return json.loads(answer.stdout)


def attend(command: Sequence[str], output: IO[str] | None = None) -> int:
    """Runs a program on this terminal until it ends; returns its exit status.

    Ctrl-C is the program's: it reaches it by itself, and it decides when it has finished.
    """
    process = subprocess.Popen(dying_with_parent(command), cwd=PROJECT_DIRECTORY, stdout=output)
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
