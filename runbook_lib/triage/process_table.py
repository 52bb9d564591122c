"""The process table of this host: whether a process that a row tells of is there, and whether workers come and go."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SOURCE = "process table of this host"
# So long new processes are looked for where no worker gives a sign of life, so often a second.
WATCH_SECONDS, LOOKS_A_SECOND = 3.0, 10.0
ACTIVITY_SECONDS = 1.2
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


@dataclass(frozen=True)
class Activity:
    """What a process did in a moment. `unacknowledged_bytes`: sent to the database, and no receipt came.

    `polls`: a thread of it waits for an answer with its eyes open (poll, select), which one that hangs, or
    waits for the interpreter, does not.
    """

    pid: int
    context_switches: int
    unacknowledged_bytes: int
    polls: bool


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


def watch_workers(database_url: str, seconds: float = WATCH_SECONDS) -> Watched:
    """Looks at the processes that run a `worker.py` again and again, for so long.

    Several pipelines may run on a host: only those count that are told to use this database. Told are the
    processes of the one parent (a supervisor, a loop in a shell) of which none lasted, where there is such.
    """
    first = dict(_worker_processes(database_url))
    present, everyone, ended = first, dict(first), set[int]()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(1 / LOOKS_A_SECOND)
        present = dict(_worker_processes(database_url))
        everyone.update(present)
        ended |= everyone.keys() - present.keys()
    of_a_parent = []
    for parent in {*everyone.values()}:
        seen = {pid for pid, of in everyone.items() if of == parent}
        lasted = seen & first.keys() & present.keys()
        of_a_parent.append(Watched(seconds, len(seen), len(seen - first.keys()), len(seen & ended), len(lasted)))  # fmt: skip
    return min(of_a_parent, key=lambda watched: (watched.lasted, -watched.began - watched.ended), default=Watched(seconds, 0, 0, 0, 0))  # fmt: skip


def activity_of(pids: Iterable[int], port: int) -> list[Activity]:
    """What processes did while they were looked at, and what they sent to a port without a receipt."""
    before = {pid: (_context_switches(pid), _unacknowledged_bytes(pid, port)) for pid in pids}
    if not before:
        return []
    time.sleep(ACTIVITY_SECONDS)
    return [
        # What is under way at one moment only is on its way.
        Activity(pid, after - count, min(waiting, _unacknowledged_bytes(pid, port)), _polls(pid))
        for pid, (count, waiting) in before.items()
        if count is not None and (after := _context_switches(pid)) is not None
    ]


def _polls(pid: int) -> bool:
    waits = []
    for file in (_PROCESSES / str(pid) / "task").glob("*/wchan"):
        try:
            waits.append(file.read_text("ascii", "replace"))
        except OSError:
            continue
    return any(word in wait for wait in waits for word in ("poll", "select"))


def _context_switches(pid: int) -> int | None:
    """Of all its threads: one that waits in C for ever makes none."""
    try:
        return sum(
            int(line.split()[1])
            for status in (_PROCESSES / str(pid) / "task").glob("*/status")
            for line in status.read_text("ascii", "replace").splitlines()
            if line.startswith(("voluntary_ctxt", "nonvoluntary_ctxt"))
        )
    except (OSError, ValueError):
        return None


def _unacknowledged_bytes(pid: int, port: int) -> int:
    """What waits in the send queues of its connections to a port (the kernel's own table)."""
    try:
        own = {os.readlink(file) for file in (_PROCESSES / str(pid) / "fd").iterdir()}
        lines = [
            line.split()
            for name in ("tcp", "tcp6")
            for line in (_PROCESSES / str(pid) / "net" / name).read_text("ascii").splitlines()[1:]
        ]
    except OSError:
        return 0
    return sum(
        int(words[4].split(":")[0], 16)
        for words in lines
        if f"socket:[{words[9]}]" in own and int(words[2].split(":")[1], 16) == port
    )


def _worker_processes(database_url: str) -> Iterator[tuple[int, int]]:
    """The processes that run a `worker.py` for a database, each with its parent."""
    for directory in _PROCESSES.glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_bytes().split(b"\0")
            if not any(word.rpartition(b"/")[2] == b"worker.py" for word in words):
                continue
            status = (directory / "stat").read_text("ascii", "replace").rpartition(")")[2]
            if _is_told_of(directory, database_url):
                yield int(directory.name), int(status.split()[1])
        except (OSError, ValueError, IndexError):
            continue


def _is_told_of(directory: Path, database_url: str) -> bool:
    """Whether a process's environment names the database; without a name it must stand where we do."""
    lines = (directory / "environ").read_bytes().split(b"\0")
    given = [line.partition(b"=")[2] for line in lines if line.startswith(b"DATABASE_URL=")]
    if given and given[0]:
        return _place(given[0].decode("utf-8", "replace")) == _place(database_url)
    return os.readlink(directory / "cwd") == os.getcwd()


def _place(database_url: str) -> tuple[str | None, int, str]:
    address = urlsplit(database_url)
    return address.hostname, address.port or 5432, address.path
