"""Values that wait: staged ones until they are activated, earlier ones until they are revoked.

Each is a file under `RUNBOOK_HOME/secrets` that only its owner may read. They are in no database, no
log and no notebook; everything else calls them by their handle.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from runbook_lib import known_secrets
from runbook_lib.credentials.handles import handle_of
from runbook_lib.durable_files import write_durably
from runbook_lib.errors import CouldNotBeDone

Place = Literal["staged", "earlier"]
PLACES: tuple[Place, ...] = ("staged", "earlier")


@dataclass(frozen=True)
class KeptValue:
    """One value that waits. `note` is what is known of it without showing it."""

    name: str
    handle: str
    value: str = field(repr=False)
    kept_at: datetime
    kept_by: str
    note: dict[str, Any] = field(default_factory=dict)


class Waiting:
    """The waiting values of one RUNBOOK_HOME: at most one staged and one earlier for each name."""

    def __init__(self, home: Path) -> None:
        self._directory = home / "secrets"

    def keep(self, place: Place, name: str, value: str, actor: str, **note: Any) -> KeptValue:
        """Keeps a value, in place of the one that waited there before."""
        kept = KeptValue(name, handle_of(name, value), value, datetime.now(UTC), actor, note)
        register(name, value)
        path = self._path(place, name)
        self._prepare(path.parent)
        written = json.dumps({**asdict(kept), "kept_at": kept.kept_at.isoformat()})
        write_durably(path, written.encode("utf-8"))
        return kept

    def find(self, place: Place, name: str) -> KeptValue | None:
        """The value that waits, made known for masking. Raises `CouldNotBeDone` when it cannot be read."""
        path = self._path(place, name)
        try:
            found = json.loads(path.read_text("utf-8"))
            kept = KeptValue(**{**found, "kept_at": datetime.fromisoformat(found["kept_at"])})
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CouldNotBeDone(f"{path} cannot be read: {error.strerror}.") from None
        except (ValueError, TypeError, KeyError):
            raise CouldNotBeDone(
                f"{path} is damaged. Remove it and stage the value again."
            ) from None
        register(name, kept.value)
        return kept

    def forget(self, place: Place, name: str) -> bool:
        """Removes a waiting value; whether there was one."""
        path = self._path(place, name)
        try:
            # Overwritten first: on an ordinary disk nothing of it is then left under its blocks.
            size = path.stat().st_size
            with path.open("r+b") as file:
                file.write(b"\0" * size)
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One change of a credential at a time on this host."""
        self._prepare(self._directory)
        with (self._directory / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _path(self, place: Place, name: str) -> Path:
        return self._directory / place / f"{name}.json"

    def _prepare(self, directory: Path) -> None:
        for each in (self._directory, directory):
            each.mkdir(parents=True, exist_ok=True, mode=0o700)


def register(name: str, value: str) -> None:
    """Makes a value known for masking, in all its forms."""
    if name.endswith("DATABASE_URL"):
        known_secrets.register_address(value, "the database password")
    else:
        known_secrets.register(value, name)
