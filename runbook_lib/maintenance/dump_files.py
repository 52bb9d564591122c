"""The dumps in a folder: which is the newest, how old it is, and whether it can be read at all."""

from __future__ import annotations

import gzip
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.credentials.masking import one_line
from runbook_lib.database.binaries import Binaries

SUFFIXES = (".dump", ".custom", ".backup", ".bak", ".pgdump", ".tar", ".sql", ".sql.gz")
# pg_dump's last line in a plain dump: without it the dump was cut off.
_COMPLETE = b"PostgreSQL database dump complete"
_TAIL_BYTES = 4_096
_LONGEST_UNPACKED_BYTES = 2_000_000_000
_LIST_SECONDS = 120


@dataclass(frozen=True)
class DumpFile:
    """One dump: a file, or a folder in pg_dump's directory format."""

    path: Path
    written_at: float
    bytes: int

    def age_hours(self, now: float | None = None) -> float:
        return max(0.0, (time.time() if now is None else now) - self.written_at) / 3600


def dump_files(folder: Path) -> list[DumpFile]:
    """The dumps of a folder, the newest first. Raises `OSError` for a folder that cannot be read."""
    found = []
    for path in folder.iterdir():
        if path.is_dir() and (path / "toc.dat").exists():
            parts = [each.stat() for each in path.iterdir()]
            found.append(DumpFile(path, max(each.st_mtime for each in parts), sum(each.st_size for each in parts)))  # fmt: skip
        elif path.is_file() and path.name.endswith(SUFFIXES):
            seen = path.stat()
            found.append(DumpFile(path, seen.st_mtime, seen.st_size))
    return sorted(found, key=lambda dump: -dump.written_at)


def fault_of(dump: DumpFile, binaries: Binaries) -> str | None:
    """Why a dump cannot be restored, in words; None when its contents list or its last line is right."""
    if not dump.bytes:
        return "it is empty"
    if dump.path.name.endswith((".sql", ".sql.gz")):
        return None if _COMPLETE in _tail(dump.path) else "its last line is missing: it was cut off"
    try:
        done = subprocess.run(
            [binaries.program("pg_restore"), "--list", str(dump.path)], capture_output=True, text=True,
            errors="replace", check=False, timeout=_LIST_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"its contents could not be listed within {_LIST_SECONDS} s"
    if done.returncode != 0:
        return one_line(done.stderr, 200) or "its contents cannot be listed"
    return None


def _tail(path: Path) -> bytes:
    if path.suffix != ".gz":
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read()
    tail, read = b"", 0
    try:
        with gzip.open(path) as packed:
            while (piece := packed.read(1 << 20)) and read < _LONGEST_UNPACKED_BYTES:
                tail, read = (tail + piece)[-_TAIL_BYTES:], read + len(piece)
    except (OSError, EOFError):
        return b""
    return tail
