"""Where executed notebooks are kept: objects that are written once and never again.

A folder, or what an fsspec URL names (`s3://bucket/runs`, `memory://…`). Names are relative, with `/`
between their parts. In a folder an object is there whole or not at all, survives the machine's end once
`write` has returned, and of many writers of one name exactly one succeeds. An object store promises the
last only where it can create exclusively (S3, Google and memory can): elsewhere `write` looks first
and reads back afterwards, so a second writer in the same instant is noticed, but may have replaced it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from runbook_lib.durable_files import flush_to_disk
from runbook_lib.errors import ConfigurationError, CouldNotBeDone, NotFoundError, UsageError
from runbook_lib.settings import Settings

# No dot or dash in front: no "..", no hidden file, nothing that a command takes for an option.
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,180}")
_LONGEST_NAME = 400
_TEMPORARY = ".new-"
Answer = TypeVar("Answer")


class AlreadyHeld(CouldNotBeDone):
    """The archive holds an object of that name; nothing in it is overwritten."""


@dataclass(frozen=True)
class StoredObject:
    """One object of the archive: its name inside it, its digest and its size."""

    name: str
    sha256: str
    size_bytes: int


class Store(ABC):
    """A place for objects. `root` says where it is."""

    root: object
    # How many objects are read at a time by whoever reads many. From a folder they come so fast that threads
    # only wait for each other: one is three times as fast as four.
    readers = 1

    def for_each(self, names: Iterable[str], ask: Callable[[str], Answer]) -> dict[str, Answer]:
        """What `ask` answers for each name, several at a time where reading takes its time."""
        names = list(names)
        if self.readers == 1:
            return {name: ask(name) for name in names}
        with ThreadPoolExecutor(self.readers) as readers:
            return dict(zip(names, readers.map(ask, names), strict=True))

    @abstractmethod
    def address(self, name: str) -> str:
        """Where an object stands: a path or a URL. Raises `UsageError` for a name that cannot be one."""

    @abstractmethod
    def names(self) -> Iterator[str]:
        """The names of everything that is there, also of what nobody filed."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """An object's bytes. Raises `NotFoundError`."""

    @abstractmethod
    def remove(self, name: str) -> bool:
        """Removes an object; False when there was none. Only retention does this."""

    @abstractmethod
    def _write_once(self, name: str, data: bytes) -> None:
        """Raises `FileExistsError`, or `OSError` for a store that does not take it."""

    def write(self, name: str, data: bytes) -> StoredObject:
        """Writes an object whole or not at all.

        Raises `AlreadyHeld` when there is one of that name, and `CouldNotBeDone` when the disk does
        not take it; what stood in the archive before is untouched either way.
        """
        self.address(name)
        try:
            self._write_once(name, data)
        except FileExistsError:
            raise AlreadyHeld(
                f"The archive holds {name} already; nothing in it is overwritten."
            ) from None
        except OSError as error:
            raise CouldNotBeDone(
                f"The archive at {self.root} does not take {name}: {error.strerror or error}. "
                "Free some space or set RUNBOOK_ARCHIVE to another place."
            ) from error
        return _stored(name, data)

    def found(self, name: str) -> StoredObject | None:
        """The object of this name, or None when the archive holds none."""
        try:
            return _stored(name, self.read(name))
        except NotFoundError:
            return None


class FolderStore(Store):
    """A folder of this machine, or one that it has mounted."""

    def __init__(self, root: Path) -> None:
        self.root: Path = root.expanduser().absolute()

    def path(self, name: str) -> Path:
        """Where an object stands. Raises `UsageError` for a name that could lead out of the folder."""
        parts = parts_of(name)
        path = self.root.joinpath(*parts)
        if os.path.realpath(path.parent) != str(
            Path(os.path.realpath(self.root)).joinpath(*parts[:-1])
        ):
            raise UsageError(f"{name!r} leads out of the archive through a link; remove the link.")
        return path

    def address(self, name: str) -> str:
        return str(self.path(name))

    def names(self) -> Iterator[str]:
        for folder, _, files in os.walk(self.root):
            for file in files:
                if not file.startswith(_TEMPORARY):
                    yield str(Path(folder, file).relative_to(self.root))

    def read(self, name: str) -> bytes:
        try:
            # Not through a link: what it leads to is no object of this archive.
            descriptor = os.open(self.path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(f"The archive at {self.root} holds no {name}.") from None
        except OSError as error:
            raise CouldNotBeDone(
                f"{name} cannot be read from the archive: {error.strerror or error}."
            ) from error

    def remove(self, name: str) -> bool:
        path = self.path(name)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise CouldNotBeDone(
                f"{name} cannot be removed from the archive: {error.strerror or error}."
            ) from error
        flush_to_disk(path.parent)
        return True

    def _write_once(self, name: str, data: bytes) -> None:
        _make_directories(self.path(name).parent)
        path = self.path(name)
        descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
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
        flush_to_disk(path.parent)


def open_store(settings: Settings) -> Store:
    """The archive that the settings name: `RUNBOOK_ARCHIVE`, else a folder in `RUNBOOK_HOME`.

    Raises `ConfigurationError` for an address that nothing here understands.
    """
    place = settings.runbook_archive
    if place is None:
        return FolderStore(settings.runbook_home / "archive")
    if "://" not in place:
        return FolderStore(Path(place))
    if place.startswith(("file://", "local://")):
        parts = urlsplit(place)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ConfigurationError(
                f"RUNBOOK_ARCHIVE is {place!r}; a folder's URL has three slashes, such as file:///srv/archive."
            )
        return FolderStore(Path(unquote(parts.path)))
    from runbook_lib.archive.object_store import ObjectStore

    return ObjectStore(place)


def parts_of(name: str) -> list[str]:
    """The parts of a name. Raises `UsageError` for one that could lead anywhere else."""
    parts = name.split("/")
    if len(name) > _LONGEST_NAME or not all(_PART.fullmatch(part) for part in parts):
        raise UsageError(
            f"{name[:80]!r} is not a name of an archived object: parts of letters, digits, "
            "dots, dashes and underscores, with / between them."
        )
    return parts


def _stored(name: str, data: bytes) -> StoredObject:
    return StoredObject(name, hashlib.sha256(data).hexdigest(), len(data))


def _make_directories(directory: Path) -> None:
    """Makes what is missing of a path, each flushed into the directory above it."""
    missing = []
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True, mode=0o700)
        flush_to_disk(each.parent)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.write(descriptor, view)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[written:]
