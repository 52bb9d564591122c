"""Checklists as data: items with a check that runs, or a person's tick with name and note.

`checklists.toml` beside this module holds them. A tick counts for one subject, a version of the code or a
month, so that last month's tick does not let this month's release through.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from runbook_lib import __version__
from runbook_lib.changes import admin_action
from runbook_lib.code_version import code_commit
from runbook_lib.credentials.masking import mask
from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.errors import NotFoundError, UsageError

FILE = Path(__file__).with_suffix(".toml")
_SQL = load("checklists")
_COMMIT_CHARACTERS = 12
LONGEST_NOTE_CHARACTERS = 2000


@dataclass(frozen=True)
class Item:
    """One line of a checklist. `check` names the function that answers, `how` helps whoever ticks it."""

    id: str
    says: str
    check: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    how: str | None = None


@dataclass(frozen=True)
class Checklist:
    """A checklist. `blocks`: what is open stops what it is for, a release."""

    name: str
    title: str
    subject: str  # release | month
    blocks: bool
    items: tuple[Item, ...]

    def item(self, item_id: str) -> Item:
        """The item of this id. Raises `NotFoundError` that lists those that there are."""
        for each in self.items:
            if each.id == item_id:
                return each
        raise NotFoundError(
            f"{self.name} has no item {item_id!r}. It has: {', '.join(each.id for each in self.items)}."
        )


@dataclass(frozen=True)
class Tick:
    """What a person said of an item."""

    item: str
    ticked: bool
    ticked_by: str
    note: str
    at: datetime


@cache
def checklists() -> dict[str, Checklist]:
    """Every checklist, by name."""
    found = tomllib.loads(FILE.read_text("utf-8"))
    return {
        name: Checklist(
            name, values["title"], values["subject"], values["blocks"],
            tuple(Item(**item) for item in values["items"]),
        )
        for name, values in found.items()
    }  # fmt: skip


def checklist_named(name: str) -> Checklist:
    """The checklist of this name. Raises `NotFoundError` that lists those that there are."""
    known = checklists()
    if name not in known:
        raise NotFoundError(f"There is no checklist {name!r}. There are: {', '.join(known)}.")
    return known[name]


def subject_now(database: Database, found: Checklist) -> str:
    """What a tick counts for now: this version of the code, or this month by the database's clock."""
    if found.subject == "release":
        commit = code_commit()
        return f"{__version__}+{commit[:_COMMIT_CHARACTERS]}" if commit else __version__
    with database.transaction(read_only=True) as transaction:
        row = transaction.row(_SQL["now"])
    assert row is not None
    month: str = row.month
    return month


def ticks(database: Database, name: str, subject: str) -> dict[str, Tick]:
    """The newest word on each item, by item; an item that nobody ticked has none."""
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows(_SQL["ticks"], checklist=name, subject=subject)
    return {row.item: Tick(**row._asdict()) for row in rows if row.ticked}


def tick(
    database: Database, name: str, item_id: str, *, actor: str, note: str, subject: str | None = None,
    ticked: bool = True,
) -> str:  # fmt: skip
    """Ticks an item, or takes a tick back; returns the subject that it counts for.

    Raises `NotFoundError` for a checklist or item that there is not, `UsageError` without a note.
    """
    found = checklist_named(name)
    item = found.item(item_id)
    said = mask(note.strip())[:LONGEST_NOTE_CHARACTERS]
    if not said:
        raise UsageError("A tick needs a note: what was looked at, and what was seen.")
    chosen = subject or subject_now(database, found)
    with (
        admin_action(
            database, actor=actor, action="checklist.tick" if ticked else "checklist.untick",
            target=f"{name}/{item.id} for {chosen}", reason=said,
        ) as action,
        database.transaction() as transaction,
    ):  # fmt: skip
        transaction.run(
            _SQL["add_tick"], checklist=name, item=item.id, subject=chosen, ticked=ticked,
            ticked_by=actor, note=said,
        )  # fmt: skip
        action.done(transaction, after={"ticked": ticked})
    return chosen
