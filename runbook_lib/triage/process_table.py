"""The process table of this host: whether a process that a row tells of is there, and whether workers come and go."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = "process table of this host"
# So long new processes are looked for where no worker gives a sign of life, so often a second.
WATCH_SECONDS, LOOKS_A_SECOND = 3.0, 10.0
_PROCESSES = Path("/proc")


@dataclass(frozen=True)
class ProcessSeen:
    """A process that a row tells of. `state` is gone, stopped or alive; None where it cannot be known."""

    host: str
    pid: int
    state: str | None


@dataclass(frozen=True)
class Watched:
    """Processes of workers while they were watched: how many there were, began, ended, and lasted."""

    seconds: float
    seen: int
    began: int
    ended: int
    lasted: int


def states_of(rows: Iterable[Any], word: bytes) -> list[ProcessSeen]:
    """The processes of rows with `host` and `pid`, as they are now."""
    return [
        ProcessSeen(row.host, row.pid, _state(row.host, row.pid, word))
        for row in rows
        if row.pid is not None
    ]


def _state(host: str, pid: int, word: bytes) -> str | None:
    if host != socket.gethostname() or not (_PROCESSES / "self/stat").exists():
        return None
    try:
        command = (_PROCESSES / str(pid) / "cmdline").read_bytes()
        state = (_PROCESSES / str(pid) / "stat").read_text("ascii", "replace").rpartition(")")[2].split()[0]  # fmt: skip
    except FileNotFoundError:
        return "gone"
    except OSError:
        return None
    # The number may belong to another program by now; a zombie is a process that ended.
    if state == "Z" or (command and word not in command and b"python" not in command):
        return "gone"
    return "stopped" if state in ("T", "t") else "alive" if pid != os.getpid() else None


def watch_workers(seconds: float = WATCH_SECONDS) -> Watched:
    """Looks at the processes that run a `worker.py` again and again, for so long."""
    first = present = everyone = frozenset(_worker_processes())
    ended: frozenset[int] = frozenset()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(1 / LOOKS_A_SECOND)
        present = frozenset(_worker_processes())
        everyone |= present
        ended |= everyone - present
    return Watched(seconds, len(everyone), len(everyone - first), len(ended), len(first & present))


def _worker_processes() -> Iterator[int]:
    for directory in _PROCESSES.glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.rpartition(b"/")[2] == b"worker.py" for word in words):
            yield int(directory.name)
