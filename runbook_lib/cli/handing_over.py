"""Hands a command over to a process that has imported everything, when one is up.

What takes a fresh process seconds is there in one that is forked for this command: in this terminal,
with this environment, as this user. Whatever is wrong with it, the command is done here.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from runbook_lib.errors import EXIT_COULD_NOT_BE_DONE

# In the environment of the process that it was handed to.
HANDED_OVER = "RUNBOOK_HANDED_OVER"
STATUS_UNKNOWN = 255


def hand_over(fork_server: Path) -> int | None:
    """Has the command that this process was started with done by a forked one; returns its exit status.

    None when there is none, or this process is one: then the command is done here.
    """
    if HANDED_OVER in os.environ or not _is_command():
        return None
    from runbook_lib.procedures.kernels import NoForkServer, fork, is_up

    if not is_up(fork_server):
        return None
    environment = {**os.environ, HANDED_OVER: "1"}
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        process = fork(
            fork_server, "run", {"command": sys.argv[1:]},
            environment=environment, working_directory=Path.cwd(), files=(0, 1, 2),
            ends_with_client=True,
        )  # fmt: skip
    except (NoForkServer, OSError):
        return None
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: process.terminate()) for number in numbers}
    try:
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if status == STATUS_UNKNOWN or status < 0:
        print(
            "The process that ran it vanished; `runbook archive list` says how the run ended.",
            file=sys.stderr,
        )
        return EXIT_COULD_NOT_BE_DONE
    return status


def _is_command() -> bool:
    """Whether this process is the `runbook` command, not a program that calls it as a function."""
    return sys.argv[1:2] == ["run"] and Path(sys.argv[0]).name in ("runbook", "__main__.py", "cli")


def run_forked(arguments: dict[str, Any], files: list[int]) -> int:
    """In the forked process: the command as it was typed."""
    from runbook_lib.cli import main

    for descriptor in files:
        os.close(descriptor)
    sys.argv[1:] = arguments["command"]
    main(arguments["command"])
    return 0
