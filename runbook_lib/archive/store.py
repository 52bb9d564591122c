"""Where executed notebooks are kept: a folder in which an object is written once and never again."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.errors import ConfigurationError, CouldNotBeDone, NotFoundError, UsageError
from runbook_lib.settings import Settings

# No dot or dash in front: no "..", no hidden file, nothing that a command takes for an option.
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,180}")
_LONGEST_NAME = 400


@dataclass(frozen=True)
class StoredObject:
    """One object of the archive: its name inside it, its digest and its size."""

    name: str
    sha256: str
    size_bytes: int


class Store:
    """A folder of objects. Names are relative, with `/` between their parts."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()

    def path(self, name: str) -> Path:
        """Where an object stands. Raises `UsageError` for a name that could lead out of the folder."""
        parts = name.split("/")
        if len(name) > _LONGEST_NAME or not all(_PART.fullmatch(part) for part in parts):
            raise UsageError(
                f"{name[:80]!r} is not a name of an archived object: parts of letters, digits, "
                "dots, dashes and underscores, with / between them."
            )
        path = self.root.joinpath(*parts)
        if os.path.realpath(path.parent) != str(
            Path(os.path.realpath(self.root)).joinpath(*parts[:-1])
        ):
            raise UsageError(f"{name!r} leads out of the archive through a link; remove the link.")
        return path

    def write(self, name: str, data: bytes) -> StoredObject:
        """Writes an object whole or not at all.

        Raises `CouldNotBeDone` when there is one of that name already, or the disk does not take it;
        what stood in the archive before is untouched either way.
        """
        path = self.path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write_once(self.path(name), data)
        except FileExistsError:
            raise CouldNotBeDone(
                f"The archive holds {name} already; nothing in it is overwritten."
            ) from None
        except OSError as error:
            raise CouldNotBeDone(
                f"The archive at {self.root} does not take {name}: {error.strerror or error}. "
                "Free some space or set RUNBOOK_ARCHIVE to another folder."
            ) from error
        return StoredObject(name, hashlib.sha256(data).hexdigest(), len(data))

    def found(self, name: str) -> StoredObject | None:
        """The object of this name, or None when the archive holds none."""
        try:
            data = self.read(name)
        except NotFoundError:
            return None
        return StoredObject(name, hashlib.sha256(data).hexdigest(), len(data))

    def read(self, name: str) -> bytes:
        """An object's bytes. Raises `NotFoundError`."""
        try:
            return self.path(name).read_bytes()
        except FileNotFoundError:
            raise NotFoundError(f"The archive at {self.root} holds no {name}.") from None
        except OSError as error:
            raise CouldNotBeDone(
                f"{name} cannot be read from the archive: {error.strerror or error}."
            ) from error


def open_store(settings: Settings) -> Store:
    """The archive that the settings name: `RUNBOOK_ARCHIVE`, else a folder in `RUNBOOK_HOME`."""
    place = settings.runbook_archive
    if place is None:
        return Store(settings.runbook_home / "archive")
    if "://" in place:
        raise ConfigurationError(
            f"RUNBOOK_ARCHIVE is {place.split('://')[0]}://…, but this version keeps the archive "
            "in a folder. Set it to a folder's path."
        )
    return Store(Path(place))


def _write_once(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        try:
            _write_all(descriptor, data)
            os.fchmod(descriptor, 0o440)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # A link, not a rename: a rename would replace an object of that name silently.
        os.link(temporary, path)
    finally:
        os.unlink(temporary)
    _flush_directory(path.parent)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.write(descriptor, view)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[written:]


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
