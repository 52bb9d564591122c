"""Who uses which credential: what running workers say of themselves, by handle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from runbook_lib.credentials.store import ENVIRONMENT
from runbook_lib.database.connection import Database
from runbook_lib.database.statements import load
from runbook_lib.health.checks import Check

_SQL = load("secrets")
# Workers beat every 5 s; one that was silent for longer is gone, or cannot tell.
SILENT_SECONDS = 30.0
SOURCE = "secrets.users"


@dataclass(frozen=True)
class User:
    """One running worker and the credential as it has it."""

    worker: str
    host: str
    handle: str
    origin: str
    used_at: datetime | None
    in_flight: int = 0

    @property
    def from_environment(self) -> bool:
        return self.origin == ENVIRONMENT


def users_of(database: Database, name: str) -> list[User]:
    """The running workers that have a credential. Raises what the database raises."""
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows(_SQL["users"], name=name, silent_seconds=SILENT_SECONDS)
    return [
        User(row.worker, row.host, row.handle, row.origin, row.used_at, row.in_flight)
        for row in rows
    ]


def judge_use(name: str, users: Sequence[User], handle: str, this_host: str) -> Check:
    """Whether every running worker has the credential of this handle, and what to do with those that have not."""
    behind = [user for user in users if user.handle != handle]
    check = f"secrets.{name.lower()}.use"
    if not users:
        return Check(
            check, "not_enough_data",
            f"No running worker has {name}, so its use cannot be seen. {handle} is used by the next one that starts.",
            0, "workers", source=SOURCE,
        )  # fmt: skip
    asked = sum(user.used_at is not None for user in users if user.handle == handle)
    if not behind:
        return Check(
            check, "ok",
            f"All {len(users)} running workers have {handle}; {asked} of them made a request with it.",
            len(users), "workers", source=SOURCE,
            does_not_prove="that programs other than our workers have it",
        )  # fmt: skip
    return Check(
        check, "critical",
        f"{len(behind)} of {len(users)} running workers do not have {handle} yet: {_named(behind)}.",
        len(behind), "workers", 0, SOURCE,
        next=_advice(behind, this_host),
    )  # fmt: skip


def _named(users: Sequence[User]) -> str:
    shown = ", ".join(f"{user.worker} has {user.handle} from {user.origin}" for user in users[:3])
    return shown + (f", and {len(users) - 3} more" if len(users) > 3 else "")


def _advice(behind: Sequence[User], this_host: str) -> str:
    fixed = [user for user in behind if user.from_environment]
    if fixed:
        return (
            f"It stands in the environment of {fixed[0].worker}, which cannot change while it runs: put the new value "
            f"where that environment comes from, then `runbook workers drain {fixed[0].worker}` and start it again, "
            "one worker after another."
        )
    elsewhere = sorted({user.host for user in behind if user.host != this_host})
    if elsewhere:
        return f"They read the file of their own host: stage and activate the same value on {', '.join(elsewhere)}."
    return "They look every few seconds. If it stays, see whether they read the same file, and may read it."
