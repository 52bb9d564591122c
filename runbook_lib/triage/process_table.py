"""The process table of this host: whether a process that a row tells of is there, and in which state."""

from __future__ import annotations

import os
import socket
from pathlib import Path

SOURCE = "process table of this host"


def process_state(host: str, pid: int, word: bytes = b"worker") -> str | None:
    """`gone`, or the state of a worker's process; None for a worker of another host, or where it is not known."""
    if host != socket.gethostname() or not Path("/proc/self/stat").exists():
        return None
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = (
            Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0]
        )
    except FileNotFoundError:
        return "gone"
    except OSError:
        return None
    # The number may belong to another program by now; a zombie is a process that ended.
    if state == "Z" or (command and word not in command and b"python" not in command):
        return "gone"
    return "stopped" if state in ("T", "t") else "alive" if pid != os.getpid() else None
