"""A practice from its alert to its record: begin, hints, what the person found, check, end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from runbook_lib.database import open_database
from runbook_lib.errors import CouldNotBeDone, NotFoundError, UsageError
from runbook_lib.rehearsal import records
from runbook_lib.rehearsal.home import LOG, STAGED, Home, State
from runbook_lib.rehearsal.outcome import Outcome, Truth, compare
from runbook_lib.rehearsal.repertoire import HEALTHY, SURPRISE, UNKNOWN, Practice, chosen, surprise
from runbook_lib.settings import PROJECT_DIRECTORY, Settings
from runbook_lib.triage.causes import BY_ID
from runbook_lib.triage.facts import LAYERS

STAGING_SECONDS, REPAIR_SECONDS, END_SECONDS = 240.0, 90.0, 60.0
# How long a check waits for jobs to come out again.
FLOW_SECONDS = 25.0
# What a practice leaves behind when it has ended: the archive is the evidence of it.
KEPT = ("archive", "rehearsal.json")


@dataclass(frozen=True)
class Answer:
    """What came of naming a cause. `complete`: all of it was named; then somebody has repaired it."""

    right: bool
    complete: bool
    practice: Practice


def begin(
    name: str | None, *, actor: str, seed: int = 0, severity: float = 1.0
) -> tuple[Home, State]:
    """Sets a system up, stages the fault on it, and returns once it is seen to stand; None is a surprise.

    Raises `UsageError` while another practice is under way, and `CouldNotBeDone` when it could not be staged.
    """
    practice = chosen(name) if name else surprise(seed)
    if (running := under_way()) is not None:
        state = running.read()
        raise UsageError(
            f"The rehearsal {SURPRISE if state.surprise else state.fault} is under way. End it first: `runbook rehearse end`."
        )
    home = Home.make(practice.name if name else SURPRISE)
    home.write(State(practice.name, seed, severity, actor, surprise=name is None))
    with (home.directory / LOG).open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "runbook_lib.rehearsal.keeper", str(home.directory)],
            cwd=PROJECT_DIRECTORY, env=home.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    home.change(keeper_pid=keeper.pid)
    try:
        state = _while_alive(home, keeper)
    except KeyboardInterrupt:
        keeper.terminate()
        raise
    if state.phase != STAGED:
        keeper.terminate()
        raise CouldNotBeDone(
            f"It could not be staged: {state.problem or 'see ' + str(home.directory / LOG)}"
        )
    return home, state


def _while_alive(home: Home, keeper: subprocess.Popen[bytes]) -> State:
    end = time.monotonic() + STAGING_SECONDS
    while keeper.poll() is None and time.monotonic() < end:
        state = home.wait_until(STAGED, seconds=0.5)
        if state.phase in (STAGED, "failed"):
            return state
    return home.read()


def under_way() -> Home | None:
    try:
        return Home.current()
    except NotFoundError:
        return None


def found(cause: str, layer: str | None = None) -> Answer:
    """What the person says that it is. If that is right and all of it, somebody repairs it; the rest is theirs.

    Raises `NotFoundError` for a cause that the catalogue does not have, `UsageError` for `unknown` without a layer.
    """
    if cause not in (*BY_ID, HEALTHY, UNKNOWN):
        raise NotFoundError(
            f"The catalogue has no cause {cause!r}. `runbook rehearse causes` lists them; `healthy` and `unknown LAYER` are answers, too."
        )
    if cause == UNKNOWN and layer not in LAYERS:
        raise UsageError(
            f"Say in which layer it is: `runbook rehearse found unknown LAYER`, one of {', '.join(LAYERS)}."
        )
    home = Home.current()
    state = home.read()
    practice = chosen(state.fault)
    right = cause in practice.truth and (cause != UNKNOWN or layer in practice.layers)
    said = [*state.found, cause if layer is None else f"{cause} {layer}"]
    named = {word.partition(" ")[0] for word in said} if right else set()
    complete = right and set(practice.truth) <= named
    home.change(found=said, found_at=state.found_at or (_now() if complete else None))
    if complete and state.phase == STAGED:
        home.ask("repair")
        if home.wait_until("repaired", seconds=REPAIR_SECONDS).phase == "failed":
            raise CouldNotBeDone(
                f"The repair went wrong: {home.read().problem}. `runbook rehearse end` takes it down."
            )
    return Answer(right, complete, practice)


def hint() -> tuple[int, str]:
    """One more hint, and how many there were: the layer first, then what to compare it with, then the procedure."""
    home = Home.current()
    state = home.read()
    hints = hints_of(chosen(state.fault))
    number = min(state.hints + 1, len(hints))
    home.change(hints=number)
    return number, hints[number - 1]


def hints_of(practice: Practice) -> tuple[str, ...]:
    """From the vaguest to the plainest; none names the cause."""
    if practice.kind == HEALTHY:
        return (
            "Is anything not getting done? Look at what waits and for how long, before you look for a cause.",
            "Compare today's figures with what is usual: `runbook rehearse do run daily/health_check`.",
            "Not every alert is an incident: `healthy` is an answer.",
        )
    layers = f"Look at the layer {' and at '.join(practice.layers)}."
    if practice.kind == UNKNOWN:
        return (
            layers,
            "No cause of the catalogue has all that it needs. Which facts are sure, and which name fits them all?",
            "What nobody has described yet is told by its layer: `found unknown LAYER`, and handed over.",
        )
    likely = dict.fromkeys(
        other for cause in practice.truth for other in BY_ID[cause].mistaken_for if other not in practice.truth
    )  # fmt: skip
    many = "There are two causes. " if len(practice.truth) > 1 else ""
    return (
        layers,
        f"{many}It is easily taken for {' or for '.join(likely) or 'something else in that layer'}: what speaks against that?",
        f"Open {practice.card.procedure}: `runbook rehearse do run {practice.card.procedure}`.",
    )


def check(*, patience_seconds: float = FLOW_SECONDS) -> Outcome:
    """Compares what was found and done with the truth, and looks whether jobs flow again."""
    home = Home.current()
    return compare(home, home.read(), _truth(home), patience_seconds)


def end(settings: Settings, *, actor: str) -> Outcome:
    """Checks for the last time, records the rehearsal, and takes the system down; its archive stays."""
    home = Home.current()
    state = home.read()
    try:
        outcome = check()
        with open_database(settings, "runbook rehearsal") as database:
            records.record(
                database, outcome, procedure=chosen(state.fault).card.procedure, actor=actor,
                begun_at=state.alerted_at or state.begun_at,
            )  # fmt: skip
    finally:
        take_down(home)
    return outcome


def take_down(home: Home) -> None:
    """Ends the system of a practice and removes its data."""
    home.ask("end")
    end_at = time.monotonic() + END_SECONDS
    while home.is_kept() and time.monotonic() < end_at:
        time.sleep(0.1)
    if home.is_kept() and (keeper := home.read().keeper_pid):
        os.kill(keeper, signal.SIGKILL)
    for path in home.directory.iterdir():
        if path.name in KEPT:
            continue
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _truth(home: Home) -> Truth:
    practice = chosen(home.read().fault)
    return Truth(practice.name, practice.kind, practice.truth, practice.layers, practice.card.procedure, practice.card.may_end)  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat()
