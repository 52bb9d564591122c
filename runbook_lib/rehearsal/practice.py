"""A practice from its alert to its record: begin, what the person found, check, end."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from runbook_lib import sandbox
from runbook_lib.database import Database, open_database
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone, NotFoundError, UsageError
from runbook_lib.rehearsal import records
from runbook_lib.rehearsal.catalogue import ALIASES, BY_NAME, PRACTICES
from runbook_lib.rehearsal.faults import Fault
from runbook_lib.rehearsal.home import LOG, Home, State
from runbook_lib.rehearsal.keeper import practice_environment
from runbook_lib.settings import PROJECT_DIRECTORY, Settings, read_settings
from runbook_lib.triage.causes import BY_ID

_SQL = load("rehearsal")
STAGING_SECONDS, REPAIR_SECONDS, END_SECONDS = 180.0, 60.0, 60.0
# How long a check waits for jobs to come out again.
FLOW_SECONDS = 25.0
FEWEST_FLOWING = 2
_MARK = re.compile(r"runbook-job:([0-9a-f-]{36})")
# What a practice leaves behind when it has ended: the archive is the evidence of it.
KEPT = ("archive", "rehearsal.json")


@dataclass(frozen=True)
class Item:
    """One line of a check."""

    name: str
    passed: bool
    words: str


@dataclass(frozen=True)
class Outcome:
    """What a check found. `passed`: the right cause was named, and jobs flow, none lost, none doubled."""

    fault: str
    truth: tuple[str, ...]
    found: tuple[str, ...]
    items: tuple[Item, ...]
    minutes: float
    seconds_to_found: float | None
    actions: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return all(item.passed for item in self.items)

    def as_dictionary(self) -> dict[str, Any]:
        return {
            "fault": self.fault, "passed": self.passed, "truth": list(self.truth), "found": list(self.found),
            "items": [{"name": item.name, "passed": item.passed, "words": item.words} for item in self.items],
            "minutes": self.minutes, "seconds_to_found": self.seconds_to_found, "actions": list(self.actions),
        }  # fmt: skip


def fault_named(name: str) -> Fault:
    """A fault that can be practised. Raises `NotFoundError` that lists them."""
    name = ALIASES.get(name, name)
    if name not in PRACTICES:
        raise NotFoundError(
            f"There is no fault {name!r} to practise. There is {', '.join(PRACTICES)}."
        )
    return BY_NAME[name]


def begin(name: str, *, actor: str, seed: int = 0, severity: float = 1.0) -> tuple[Home, State]:
    """Sets a system up, stages the fault on it, and returns once it has taken hold.

    Raises `UsageError` while another practice is under way, and `CouldNotBeDone` when it did not succeed.
    """
    fault = fault_named(name)
    if (running := under_way()) is not None:
        raise UsageError(
            f"The rehearsal {running.read().fault} is under way. End it first: `runbook rehearse end`."
        )
    home = Home.make(fault.name)
    home.write(State(fault.name, seed, severity, actor))
    with (home.directory / LOG).open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "runbook_lib.rehearsal.keeper", str(home.directory)],
            cwd=PROJECT_DIRECTORY, env=practice_environment(home), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    state = _while_alive(home, keeper, "staged", seconds=STAGING_SECONDS)
    if state.phase != "staged":
        keeper.terminate()
        raise CouldNotBeDone(
            f"The fault could not be staged: {state.problem or 'see ' + str(home.directory / LOG)}"
        )
    return home, state


def _while_alive(
    home: Home, keeper: subprocess.Popen[bytes], phase: str, *, seconds: float
) -> State:
    end = time.monotonic() + seconds
    while keeper.poll() is None and time.monotonic() < end:
        state = home.wait_until(phase, seconds=0.5)
        if state.phase in (phase, "failed"):
            return state
    return home.read()


def under_way() -> Home | None:
    try:
        return Home.current()
    except NotFoundError:
        return None


def found(cause: str) -> tuple[bool, Fault]:
    """What the person says that it is. If it is right, somebody repairs it, and the rest is theirs.

    Raises `NotFoundError` for a cause that the catalogue does not have.
    """
    if cause not in BY_ID:
        raise NotFoundError(
            f"The catalogue has no cause {cause!r}. `runbook triage` names them by their ids."
        )
    home = Home.current()
    state = home.read()
    fault = BY_NAME[state.fault]
    right = cause in fault.truth
    home.change(found=[*state.found, cause], found_at=state.found_at or (_now() if right else None))
    if right and state.phase == "staged":
        home.ask("repair")
        home.wait_until("repaired", seconds=REPAIR_SECONDS)
    return right, fault


def check(*, patience_seconds: float = FLOW_SECONDS) -> Outcome:
    """Compares what was found with the truth, and looks whether jobs flow again, none lost, none doubled."""
    home = Home.current()
    state = home.read()
    fault = BY_NAME[state.fault]
    with open_database(settings_of(home), "runbook rehearsal") as database:
        flowing = _flowing(database, patience_seconds)
        standing = _row(database, "standing")
        counts = _row(database, "counts")
        actions = _rows(database, "actions_since", since=state.begun_at)
    doubled = _doubled(home)
    items = (
        Item("cause", bool(set(state.found) & set(fault.truth)), f"You named {', '.join(state.found) or 'nothing yet'}; it was {', '.join(fault.truth)}." if state.found
             else "You have not said what it is: `runbook rehearse found CAUSE`."),
        Item("repaired", state.repaired_at is not None, "The cause is repaired." if state.repaired_at else "The cause still stands."),
        Item("nothing is held up", not standing.pauses and standing.workers > 0,
             f"{standing.pauses} providers are paused, {standing.workers} workers work." + (" `runbook rehearse do resume all` lets jobs go on." if standing.pauses else "")),
        Item("jobs flow", flowing >= FEWEST_FLOWING, f"{flowing} jobs were published in the last seconds."),
        Item("none lost", counts.error == 0, f"{counts.error} of {standing.jobs} jobs ended in error."),
        Item("none doubled", doubled == 0, f"{doubled} jobs have two posts at the site."),
    )  # fmt: skip
    began = datetime.fromisoformat(state.alerted_at or state.begun_at)
    at = datetime.fromisoformat(state.found_at) if state.found_at else None
    return Outcome(
        fault.name, fault.truth, tuple(state.found), items, round((datetime.now(UTC) - began).total_seconds() / 60, 1),
        (at - began).total_seconds() if at else None,
        tuple(f"{row.action} {row.target or ''}".strip() for row in actions if row.outcome == "done"),
    )  # fmt: skip


def end(settings: Settings, *, actor: str) -> Outcome:
    """Checks for the last time, records the rehearsal, and takes the system down; its archive stays."""
    home = Home.current()
    state = home.read()
    outcome = check()
    result = "passed" if outcome.passed else "abandoned" if not state.found else "failed"
    try:
        with open_database(settings, "runbook rehearsal") as database:
            records.record(database, outcome, result, procedure=BY_NAME[state.fault].procedure, actor=actor,
                           begun_at=state.alerted_at or state.begun_at)  # fmt: skip
    finally:
        take_down(home)
    return outcome


def take_down(home: Home) -> None:
    """Ends the system of a practice and removes its data."""
    home.ask("end")
    end_at = time.monotonic() + END_SECONDS
    while home.is_kept() and time.monotonic() < end_at:
        time.sleep(0.1)
    for path in home.directory.iterdir():
        if path.name in KEPT:
            continue
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def settings_of(home: Home) -> Settings:
    """The settings of the practice's own system."""
    import os

    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(practice_environment(home))
    try:
        return read_settings(None)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _flowing(database: Database, seconds: float) -> int:
    end_at = time.monotonic() + seconds
    while True:
        lately = int(_row(database, "standing").lately)
        if lately >= FEWEST_FLOWING or time.monotonic() > end_at:
            return lately
        time.sleep(0.5)


def _doubled(home: Home) -> int:
    """Jobs of which two posts are published at the site, by the mark that each post carries."""
    with sandbox.acquire(home.directory) as standing_in:
        posts = standing_in.control.posts()
    marks = Counter(
        mark
        for post in posts
        if post["status"] == "publish"
        for mark in set(_MARK.findall(str(post["content"])))
    )
    return sum(count > 1 for count in marks.values())


def _row(database: Database, name: str) -> Any:
    return next(iter(_rows(database, name)), None)


def _rows(database: Database, name: str, **parameters: Any) -> list[Any]:
    with database.transaction(read_only=True) as transaction:
        return transaction.rows(_SQL[name], **parameters)


def _now() -> str:
    return datetime.now(UTC).isoformat()
