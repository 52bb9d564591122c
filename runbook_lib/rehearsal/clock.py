"""Wrong clocks, for single processes: libfaketime stands between a program and the time that the system tells it.

Only the time of day is changed. What a program measures (time-outs, pauses) goes on as ever, as it does on a
host whose clock is wrong. The database keeps its own time.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from runbook_lib.errors import CouldNotBeDone

# The build for programs with threads.
LIBRARY = "libfaketimeMT.so.1"
FOLDERS = ("/usr/lib/faketime", "/usr/lib64/faketime", "/usr/local/lib/faketime")
PROBE_SECONDS, FEWEST_SECONDS_OFF = 10.0, 1800.0
_TELL_TIME = "import time; print(time.time())"


def why_not() -> str | None:
    """Why no clock can be made wrong here; None where it can."""
    if not sys.platform.startswith("linux"):
        return "needs libfaketime, which is used on Linux only"
    if _library() is None:
        return "needs libfaketime (Debian and Ubuntu: the package faketime)"
    return None


def off_by(seconds: float) -> Mapping[str, str]:
    """The environment for a process whose clock is off by so much from its start on.

    Raises `CouldNotBeDone` where that has no effect.
    """
    environment = {**_environment(), "FAKETIME": _told(seconds)}
    if not _has_effect(tuple(sorted(environment.items()))):
        raise CouldNotBeDone(
            f"{_library()} is there, and {sys.executable} goes by the right time all the same."
        )
    return environment


class SettableClock:
    """A clock that can be set while processes run by it: it is right at first."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set_off_by(0)

    @property
    def environment(self) -> Mapping[str, str]:
        """For the processes that go by it. Raises `CouldNotBeDone` where that has no effect."""
        off_by(FEWEST_SECONDS_OFF * 2)
        return {
            **_environment(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
        }

    def set_off_by(self, seconds: float) -> None:
        """Sets the clock, as a person or a broken time service does; programs notice within a second."""
        draft = self._file.with_suffix(".draft")
        draft.write_text(_told(seconds) + "\n", "ascii")
        draft.replace(self._file)


def _environment() -> dict[str, str]:
    if (reason := why_not()) is not None:
        raise CouldNotBeDone(f"No clock can be made wrong here: it {reason}.")
    # What counts seconds since the start stays right, and so do the times of files.
    return {
        "LD_PRELOAD": str(_library()), "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }  # fmt: skip


def _told(seconds: float) -> str:
    return f"{seconds:+.0f}"


def _library() -> Path | None:
    folders = [*Path("/usr/lib").glob("*/faketime"), *(Path(each) for each in FOLDERS)]
    return next((each / LIBRARY for each in folders if (each / LIBRARY).exists()), None)


@cache
def _has_effect(environment: tuple[tuple[str, str], ...]) -> bool:
    """Whether this Python goes by the wrong clock: one that is linked statically would not."""
    answer = subprocess.run(
        [sys.executable, "-I", "-c", _TELL_TIME],
        env=dict(environment), capture_output=True, text=True, timeout=PROBE_SECONDS, check=False,
    )  # fmt: skip
    told = float(answer.stdout or "nan")
    return abs(told - time.time()) >= FEWEST_SECONDS_OFF
