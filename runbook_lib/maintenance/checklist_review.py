"""A checklist as it stands: what its checks say, what people ticked, and what is open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import psycopg2
from psycopg2.errors import InsufficientPrivilege

from runbook_lib.credentials.masking import one_line
from runbook_lib.errors import RunbookError
from runbook_lib.health.answers import Answer, table
from runbook_lib.health.checks import Check, Verdict
from runbook_lib.health.context import Context
from runbook_lib.health.sources import Sources
from runbook_lib.health.tables import Table
from runbook_lib.maintenance.checklist_checks import CHECKS
from runbook_lib.maintenance.checklists import (
    Checklist,
    Item,
    Tick,
    checklist_named,
    subject_now,
    ticks,
)
from runbook_lib.maintenance.dependencies import Behind, behind_releases
from runbook_lib.policy import load_policy
from runbook_lib.settings import load_settings

NOT_ASKED = "Not asked: ask_index is false."
DONE, WARNED, TICKED, OPEN, FAILED = "done", "done, with a warning", "ticked", "open", "failed"


@dataclass(frozen=True)
class ItemNow:
    """An item as it stands: `state` is done, done with a warning, ticked, open or failed."""

    item: Item
    state: str
    check: Check | None = None
    tick: Tick | None = None

    @property
    def stands_open(self) -> bool:
        return self.state in (OPEN, FAILED)

    @property
    def words(self) -> str:
        """What the check said, who ticked it, or that nobody did."""
        told = [one_line(self.check.message, 400)] if self.check else []
        if self.tick:
            told.append(f"{self.tick.ticked_by}, {self.tick.at:%Y-%m-%d %H:%M}: {one_line(self.tick.note, 300)}")  # fmt: skip
        return " ".join(told) or "Nobody has ticked it."


@dataclass(frozen=True, repr=False)
class ChecklistReview(Answer):
    """A checklist as it stands. Shown in a notebook, it is the answer.

    `subject` is what ticks count for: a version of the code or a month. `problem` is set, and no item is
    known, when ticks could not be read.
    """

    check: Check
    checklist: Checklist
    subject: str | None
    states: tuple[ItemNow, ...]
    behind: Behind = field(default_factory=lambda: Behind(problem=NOT_ASKED))
    problem: str | None = None

    @property
    def open(self) -> tuple[ItemNow, ...]:
        return tuple(each for each in self.states if each.stands_open)

    @property
    def items(self) -> Table:
        """Every item, in its order: what it says, how it stands, and how one knows."""
        rows = [
            {"item": each.item.id, "state": each.state, "says": each.item.says, "because": each.words}
            for each in self.states
        ]  # fmt: skip
        return table(rows, ("item", "state", "says", "because"), self.check.message)

    @property
    def to_do(self) -> Table:
        """What is open, how to look, and the line that ticks it."""
        rows = [
            {"item": each.item.id, "look": _look(each), "then": self._tick_line(each)}
            for each in self.open
        ]
        return table(rows, ("item", "look", "then"), "Nothing is open." if self.states else self.check.message)  # fmt: skip

    @property
    def dependencies(self) -> Table:
        """Packages that are behind their newest release, or why that is not known."""
        none = (
            self.behind.problem
            or "Every package that is needed for its own sake is at its newest release."
        )
        return table(self.behind.packages, ("package", "installed", "newest"), none)

    def sentences(self) -> list[str]:
        return [f"Open: {', '.join(each.item.id for each in self.open)}."] if self.open else []

    def results(self) -> dict[str, Any]:
        """How each item stands, for the record."""
        return {
            "checklist": self.checklist.name,
            "subject": self.subject,
            "items": {each.item.id: each.state for each in self.states},
            "open": [each.item.id for each in self.open],
            "ticked_by": {each.item.id: each.tick.ticked_by for each in self.states if each.tick},
            "packages_behind": None if self.behind.problem else len(self.behind.packages),
            "problem": self.problem,
        }

    def _tick_line(self, each: ItemNow) -> str:
        if each.state == FAILED:
            return "Repair it; what failed cannot be ticked away."
        return f'runbook checklist tick {self.checklist.name} {each.item.id} --note "..." --for {self.subject}'


def checklist(
    sources: Sources, name: str, *, subject: str | None = None, ask_index: bool = False
) -> ChecklistReview:
    """How a checklist stands. Ticks nothing and changes nothing.

    What is open makes the verdict critical where the checklist blocks, else a warning. With `ask_index` the
    package index is asked what is behind. Raises `NotFoundError` for a checklist that there is not; a
    database that is away or closed to this role is `not_enough_data`, and says why.
    """
    found = checklist_named(name)
    try:
        settings = load_settings()
        context = Context(settings, load_policy(settings), sources)
        chosen = subject or subject_now(sources.bookkeeping, found)
        ticked = ticks(sources.bookkeeping, name, chosen)
        states = tuple(_state(context, item, ticked.get(item.id)) for item in found.items)
    except (RunbookError, InsufficientPrivilege, psycopg2.OperationalError) as error:
        problem = one_line(str(error), 500)
        check = Check(f"checklist.{name}", "not_enough_data", f"It cannot be told what is done. {problem}")  # fmt: skip
        return ChecklistReview(check, found, None, (), problem=problem)
    behind = behind_releases() if ask_index else Behind(problem=NOT_ASKED)
    return ChecklistReview(_overall(found, chosen, states), found, chosen, states, behind)


def _state(context: Context, item: Item, ticked: Tick | None) -> ItemNow:
    if item.check is None:
        return ItemNow(item, TICKED if ticked else OPEN, tick=ticked)
    check = _asked(context, item)
    if check.verdict == "critical":
        return ItemNow(item, FAILED, check, ticked)
    if check.verdict == "ok":
        return ItemNow(item, DONE, check, ticked)
    if ticked:
        return ItemNow(item, TICKED, check, ticked)
    return ItemNow(item, WARNED if check.verdict == "warning" else OPEN, check)


def _asked(context: Context, item: Item) -> Check:
    """A check that cannot look has no answer, and harms no other item."""
    assert item.check is not None
    try:
        return CHECKS[item.check](context, **item.given)
    except (RunbookError, InsufficientPrivilege, psycopg2.OperationalError) as error:
        words = f"It cannot be told: {one_line(str(error), 300)}"
        return Check(f"checklist.{item.id}", "not_enough_data", words)


def _overall(found: Checklist, subject: str, states: tuple[ItemNow, ...]) -> Check:
    opened = [each for each in states if each.stands_open]
    warned = any(each.state == WARNED for each in states)
    verdict: Verdict = "warning" if warned else "ok"
    if opened:
        verdict = "critical" if found.blocks else "warning"
    words = (
        f"{found.title}, {subject}: {len(states) - len(opened)} of {len(states)} items are done."
    )
    if opened and found.blocks:
        words += f" The release is blocked by {', '.join(each.item.id for each in opened)}."
    elif opened:
        words += f" Open: {', '.join(each.item.id for each in opened)}."
    return Check(
        f"checklist.{found.name}", verdict, words, len(opened), "items", 0, "checklists.ticks",
        "that what was ticked is true: each tick has a name and a note",
        _look(opened[0]) if opened else None,
    )  # fmt: skip


def _look(each: ItemNow) -> str:
    return (each.check.next if each.check else None) or each.item.how or each.item.says
