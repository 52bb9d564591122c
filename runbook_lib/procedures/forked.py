"""What a forked process does first, so that it is as one that was started: and how it ends."""

from __future__ import annotations

import atexit
import ctypes
import importlib
import os
import signal
import sys
import time
import traceback
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Has the kernel of the system end this process when its parent ends. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def perform(
    function: str,
    arguments: dict[str, Any],
    environment: dict[str, str],
    directory: str,
    files: list[int],
) -> NoReturn:
    """In the forked process: takes on what came with the request, does it, and ends."""
    os.setsid()
    for number, descriptor in enumerate(files[:3]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    for stream_name, stream in _standard_streams().items():
        setattr(sys, stream_name, stream)
        setattr(sys, f"__{stream_name}__", stream)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    take_on(environment, directory)
    module, _, name = function.partition(":")
    status = 1
    try:
        status = getattr(importlib.import_module(module), name)(arguments, files[3:])
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    end(status)


def _standard_streams() -> dict[str, Any]:
    def opened(number: int, mode: str, **options: Any) -> Any:
        return open(number, mode, encoding="utf-8", closefd=False, **options)

    return {
        "stdin": opened(0, "r", errors="replace"),
        "stdout": opened(1, "w", errors="replace", buffering=1 if os.isatty(1) else -1),
        "stderr": opened(2, "w", errors="backslashreplace", buffering=1),
    }


def take_on(environment: dict[str, str], directory: str) -> None:
    """Makes this forked process one that was started with this environment in this directory."""
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    for path in reversed(environment.get("PYTHONPATH", "").split(os.pathsep)):
        if path and path not in sys.path:
            sys.path.insert(0, path)
    os.chdir(directory)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()  # each fork would have the same; `random` sees to it by itself


def end(status: int) -> NoReturn:
    """Ends a forked process as an interpreter ends, without taking everything apart first."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
    os._exit(status)
