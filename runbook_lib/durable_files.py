"""Files that are there whole or not at all, and stay whatever happens to the machine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_durably(
    path: Path, data: bytes, *, prepare: Callable[[int], None] = lambda descriptor: None
) -> None:
    """Writes a file of mode 0600 in place of what was there, flushed with its folder to the disk.

    `prepare` gets the new file's descriptor before anybody sees it, to give it another mode or owner.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            prepare(file.fileno())
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    flush_to_disk(path.parent)


def flush_to_disk(path: Path) -> None:
    """Flushes a file, or a folder: what was named in it stays named."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
