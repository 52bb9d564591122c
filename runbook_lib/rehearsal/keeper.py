"""Keeps the system of a practice up: its database, sandbox and workers, with jobs coming in all the time.

Started in the background by `practice.begin`: `python -m runbook_lib.rehearsal.keeper FOLDER`. It ends when
it is asked to, when it is told by a signal, or after an hour.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from runbook_lib import sandbox
from runbook_lib.database import open_database
from runbook_lib.errors import RunbookError
from runbook_lib.rehearsal.catalogue import BY_NAME
from runbook_lib.rehearsal.faults import Fault
from runbook_lib.rehearsal.home import Home, State
from runbook_lib.rehearsal.scene import QUICK, Scene
from runbook_lib.settings import environment_without_callers, load_settings

LONGEST_SECONDS = 3600.0
LOOK_SECONDS = 0.2
FEED_SECONDS = 4.0
MOST_FED = 300
NOISE_PERCENT = 3.0
CATEGORIES = ("News", "Guides")


def practice_environment(home: Home) -> dict[str, str]:
    """What every process of a practice gets: its own home, nothing of the caller's, quick leases."""
    quick = {name.upper(): str(value) for name, value in QUICK.items() if value is not None}
    return {**environment_without_callers(home.directory), **quick}


def keep(home: Home) -> None:
    """Sets the system up, stages the fault, and keeps all of it until the end."""
    state = home.read()
    fault = BY_NAME[state.fault]
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with home.kept():
        try:
            _run(home, state, fault, ended)
            home.change(phase="ended")
        except (RunbookError, OSError) as error:
            home.change(phase="failed", problem=str(error))


def _run(home: Home, state: State, fault: Fault, ended: threading.Event) -> None:
    settings = load_settings()
    with (
        open_database(settings, "runbook rehearsal") as database,
        sandbox.acquire(home.directory) as standing_in,
        ExitStack() as workers,
    ):
        scene = Scene(database, settings, standing_in.control, state.severity)
        scene.control.ensure_categories(CATEGORIES)
        scene.past(noise_percent=NOISE_PERCENT)
        randomness = random.Random(state.seed)
        if not fault.own_workers:
            workers.enter_context(scene.worker_process())
        scene.control.set_fault("openai", "overloaded", probability=NOISE_PERCENT / 100)
        with ExitStack() as staged:
            _begin_with_what_works(scene, fault, randomness)
            staged.enter_context(fault.stage(scene))
            scene.until(lambda: fault.shows(scene), "the fault takes hold", 60)
            home.change(phase="staged", alerted_at=datetime.now(UTC).isoformat())
            _feed_until(home, scene, randomness, ended, "repair")
        if ended.is_set() or home.wishes("end"):
            return
        if fault.own_workers:
            workers.enter_context(scene.worker_process())
        home.change(phase="repaired", repaired_at=datetime.now(UTC).isoformat())
        _feed_until(home, scene, randomness, ended, "end")


def _begin_with_what_works(scene: Scene, fault: Fault, randomness: random.Random) -> None:
    """A system that was never seen to work would teach nothing."""
    if fault.own_workers:
        return
    before = scene.counts().completed
    _feed(scene, randomness, 3)
    scene.until(
        lambda: scene.counts().completed >= before + 3, "the first articles are published", 60
    )


def _feed_until(
    home: Home, scene: Scene, randomness: random.Random, ended: threading.Event, what: str
) -> None:
    until, due, fed = time.monotonic() + LONGEST_SECONDS, time.monotonic() + FEED_SECONDS, 0
    while not (ended.wait(LOOK_SECONDS) or home.wishes(what) or home.wishes("end")):
        now = time.monotonic()
        if now > until:
            ended.set()
        if now >= due and fed < MOST_FED:
            _feed(scene, randomness, 1)
            due, fed = now + FEED_SECONDS, fed + 1


def _feed(scene: Scene, randomness: random.Random, count: int) -> None:
    scene.add(
        count,
        topic=f"{randomness.randrange(10**6)}: how to",
        category=randomness.choice(CATEGORIES),
    )


def main() -> None:
    home = Home(Path(sys.argv[1]))
    os.environ.update(practice_environment(home))
    load_settings.cache_clear()
    keep(home)


if __name__ == "__main__":
    main()
