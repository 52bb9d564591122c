"""What came of a practice: what was named and done, against the truth, and whether jobs flow again.

Jobs, posts, actions and runs are asked of the staged system itself, not of what the person says.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg2

from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.errors import RunbookError
from runbook_lib.rehearsal.conduct import Done, done_of, harm_in
from runbook_lib.rehearsal.doubled_posts import doubled_posts
from runbook_lib.rehearsal.home import KEPT, Home, State
from runbook_lib.sandbox import SandboxControl

_SQL = load("rehearsal")
FEWEST_FLOWING = 2
# Naming one cause after the other is guessing.
MOST_WRONG = 2
LOOK_SECONDS = 0.5
_LOOKING = ("acknowledge_alert", "checklist.tick", "checklist.untick")


@dataclass(frozen=True)
class Truth:
    """What was staged."""

    name: str
    kind: str
    causes: tuple[str, ...]
    layers: tuple[str, ...]
    procedure: str
    may_end: tuple[str, ...]


@dataclass(frozen=True)
class Item:
    """One line of a check."""

    name: str
    passed: bool
    words: str


@dataclass(frozen=True)
class Outcome:
    """What a check found. `passed`: all of it was named, no harm was done, and jobs flow, none lost or doubled."""

    fault: str
    truth: tuple[str, ...]
    found: tuple[str, ...]
    items: tuple[Item, ...]
    minutes: float
    seconds_to_found: float | None
    actions: tuple[str, ...] = ()
    harm: tuple[str, ...] = ()
    procedures: tuple[str, ...] = ()
    hints: int = 0
    seed: int = 0
    severity: float = 1.0
    surprise: bool = False
    decoy: str | None = None

    @property
    def passed(self) -> bool:
        return all(item.passed for item in self.items)

    @property
    def result(self) -> str:
        return "passed" if self.passed else "failed" if self.found else "abandoned"

    def as_dictionary(self) -> dict[str, Any]:
        return {
            "fault": self.fault, "passed": self.passed, "truth": list(self.truth), "found": list(self.found),
            "items": [{"name": item.name, "passed": item.passed, "words": item.words} for item in self.items],
            "minutes": self.minutes, "seconds_to_found": self.seconds_to_found, "actions": list(self.actions),
            "harm": list(self.harm), "procedures": list(self.procedures), "hints": self.hints, "seed": self.seed,
            "severity": self.severity, "surprise": self.surprise, "decoy": self.decoy,
        }  # fmt: skip


def compare(home: Home, state: State, truth: Truth, patience_seconds: float) -> Outcome:
    """What was found and done against the truth; waits so long for jobs to flow."""
    since = state.alerted_at or state.begun_at
    with _database(home) as database:
        flowing = _flowing(database, patience_seconds if state.repaired_at else 0)
        standing = _one(database, "standing")
        ended = _rows(database, "ended_in_error", since=state.begun_at)
        actions = done_of(_rows(database, "actions_since", since=since))
        procedures = tuple(row.procedure for row in _rows(database, "procedures_run_since", since=since))  # fmt: skip
    harm = harm_in(actions, truth.causes, state.limits)
    items = (
        _cause(state, truth),
        _no_harm(harm),
        *(_left_alone(actions) if truth.kind == "healthy" else _repaired(state, standing, flowing)),
        _none_lost(standing, ended, truth, state.jobs),
        _none_doubled(home),
    )
    began = datetime.fromisoformat(since)
    at = datetime.fromisoformat(state.found_at) if state.found_at else None
    return Outcome(
        truth.name, truth.causes, tuple(state.found), items, round((datetime.now(UTC) - began).total_seconds() / 60, 1),
        (at - began).total_seconds() if at else None, tuple(each.words for each in actions if each.outcome == "done"),
        tuple(harm), procedures, state.hints, state.seed, state.severity, state.surprise, state.decoy,
    )  # fmt: skip


def _cause(state: State, truth: Truth) -> Item:
    if not state.found:
        return Item("cause", False, "You have not said what it is: `runbook rehearse found CAUSE`.")
    named = f"You named {', '.join(state.found)}"
    if not state.found_at:
        # What it is stays to be found.
        return Item("cause", False, f"{named}; that is not it, or not all of it.")
    wrong = sum(word.partition(" ")[0] not in truth.causes for word in state.found)
    guessed = f" {wrong} wrong ones before it are guessing." if wrong > MOST_WRONG else ""
    return Item(
        "cause", wrong <= MOST_WRONG, f"{named}; it was {', '.join(truth.causes)}.{guessed}"
    )


def _no_harm(harm: list[str]) -> Item:
    return Item("no harm", not harm, " ".join(harm) or "Nothing was done that does harm here.")


def _repaired(state: State, standing: Any, flowing: int) -> tuple[Item, ...]:
    repaired = state.repaired_at is not None
    if standing is None:
        held = Item("nothing is held up", False, "The database does not answer.")
    else:
        resume = " `runbook rehearse do resume all` lets jobs go on." if standing.pauses else ""
        held = Item(
            "nothing is held up", not standing.pauses and standing.workers > 0,
            f"{standing.pauses} providers are paused, {standing.workers} workers work.{resume}",
        )  # fmt: skip
    return (
        Item("repaired", repaired, "The cause is repaired." if repaired else "The cause still stands."),
        held,
        Item("jobs flow", flowing >= FEWEST_FLOWING, f"{flowing} jobs were published in the last seconds."),
    )  # fmt: skip


def _left_alone(actions: list[Done]) -> tuple[Item, ...]:
    changed = [each.words for each in actions if each.outcome == "done" and each.action not in _LOOKING]  # fmt: skip
    words = f"You changed {', '.join(changed)}." if changed else "You changed nothing: right."
    return (Item("left alone", not changed, words),)


def _none_lost(standing: Any, ended: list[Any], truth: Truth, jobs: int) -> Item:
    if standing is None:
        return Item("none lost", False, "The database does not answer.")
    lost = {row.error_class: row.jobs for row in ended if row.error_class not in truth.may_end}
    gone = max(0, jobs - standing.jobs)
    words = f"{sum(lost.values())} of {standing.jobs} jobs ended in error"
    if lost:
        worst = next(iter(lost))
        words += f" ({', '.join(lost)}): `runbook rehearse do jobs retry --where class={worst} --since 2h --execute`"
    return Item("none lost", not lost and not gone, f"{words}{f', {gone} are gone' if gone else ''}.")  # fmt: skip


def _none_doubled(home: Home) -> Item:
    """Jobs of which two posts are published at the site, by the mark that each post carries."""
    site = home.environment(KEPT).get("WORDPRESS_URL")
    doubled = len(doubled_posts(SandboxControl(site))) if site else 0
    return Item("none doubled", doubled == 0, f"{doubled} jobs have two posts at the site.")


def _database(home: Home) -> Database:
    return Database(home.environment(KEPT)["DATABASE_URL"], application_name="runbook rehearsal", deadline_seconds=5)  # fmt: skip


def _flowing(database: Database, seconds: float) -> int:
    end_at = time.monotonic() + seconds
    while True:
        standing = _one(database, "standing")
        lately = int(standing.lately) if standing else 0
        if lately >= FEWEST_FLOWING or time.monotonic() > end_at:
            return lately
        time.sleep(LOOK_SECONDS)


def _one(database: Database, name: str) -> Any:
    return next(iter(_rows(database, name)), None)


def _rows(database: Database, name: str, **parameters: Any) -> list[Any]:
    """What the staged system's database says; nothing where the fault keeps it from answering."""
    try:
        with database.transaction(read_only=True) as transaction:
            return transaction.rows(_SQL[name], **parameters)
    except (RunbookError, psycopg2.Error):
        return []
