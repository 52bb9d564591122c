"""Keeps the system of a practice up: database, sandbox, workers and a scheduler, with jobs coming in all the time.

Started in the background by `practice.begin`: `python -m runbook_lib.rehearsal.keeper FOLDER`. It ends when
it is asked to, when it is told by a signal, or after an hour.

Nothing is told before the practice is worth anything: that the system worked before, and that the fault shows
and stays when nobody treats it, is looked at by the staging's own oracle. What does not hold is a failed
staging, and no practice.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2

from runbook_lib.database.disposable import NOTHING_SURVIVES, disposable_server
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone, RunbookError
from runbook_lib.rehearsal.alert import alert_of
from runbook_lib.rehearsal.home import STAGED, Home, State
from runbook_lib.rehearsal.laboratory import CATEGORIES, laboratory
from runbook_lib.rehearsal.repertoire import HEALTHY, Practice, chosen
from runbook_lib.rehearsal.scene import Scene, as_environment
from runbook_lib.rehearsal.surroundings import surroundings
from runbook_lib.rehearsal.time_faults import scheduler
from runbook_lib.settings import load_settings

_SQL = load("rehearsal")
LONGEST_SECONDS = 3600.0
LOOK_SECONDS = 0.2
FEED_SECONDS = 4.0
MOST_FED = 300
WORKS_SECONDS, HOLD_SECONDS = 60.0, 60.0
# For so long the fault is left alone, and must still show.
UNTREATED_SECONDS = 4.0
SCHEDULER = "scheduler-not-running"


def keep(home: Home) -> None:
    """Sets the system up, stages the fault, and keeps all of it until the end."""
    state = home.read()
    practice = chosen(state.fault)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with home.kept():
        try:
            Keeper(home, state, practice, ended).run()
            home.change(phase="ended")
        except (RunbookError, OSError, psycopg2.Error, AssertionError) as error:
            home.change(phase="failed", problem=str(error) or type(error).__name__)


class Keeper:
    """One practice's system, from its beginning to its end."""

    def __init__(
        self, home: Home, state: State, practice: Practice, ended: threading.Event
    ) -> None:
        self.home, self.state, self.practice, self.ended = home, state, practice, ended
        self.randomness = random.Random(state.seed)
        # Jobs that came from upstream, of those that must be there at the end.
        self._jobs = 0

    def run(self) -> None:
        fault = self.practice.fault
        with (
            disposable_server(NOTHING_SURVIVES, self.home.directory) as server,
            laboratory(server) as place,
            place.scene(self.state.seed, fault, severity=self.state.severity) as scene,
            ExitStack() as programs,
        ):
            before = scene.settings
            limits = limits_of(scene)
            self.home.write_settings(as_environment(before), as_environment(before))
            if SCHEDULER not in self.practice.truth:
                programs.enter_context(scheduler(scene, _half_an_hour_on()))
            self._prove_that_it_works(scene, programs)
            with surroundings(scene, fault.name, self.state.seed) as decoy, ExitStack() as staged:
                scene.begun = scene.value("now")
                staged.enter_context(fault.stage(scene))
                self._prove_that_it_stands(scene)
                looking = {**as_environment(scene.looking), **scene.environment}
                self.home.write_settings(looking, as_environment(before))
                self.home.change(
                    phase=STAGED, decoy=decoy, alert=alert_of(scene, self.practice),
                    alerted_at=datetime.now(UTC).isoformat(), limits=limits, jobs=self._jobs,
                )  # fmt: skip
                self._feed_until(scene, "repair")
            if self.ended.is_set() or self.home.wishes("end"):
                return
            scene.settings = scene.looking = before
            self.home.write_settings(as_environment(before), as_environment(before))
            if fault.own_workers:
                programs.enter_context(scene.worker_process())
            if SCHEDULER in self.practice.truth:
                programs.enter_context(scheduler(scene, _half_an_hour_on()))
            self.home.change(phase="repaired", repaired_at=datetime.now(UTC).isoformat())
            self._feed_until(scene, "end")

    def _prove_that_it_works(self, scene: Scene, programs: ExitStack) -> None:
        """A system that was never seen to work would teach nothing, nor one in which the fault shows already."""
        with ExitStack() as meanwhile:
            # Of a fault that brings its own workers, this one is stopped in order before they come.
            stays = not self.practice.fault.own_workers
            worker = (programs if stays else meanwhile).enter_context(scene.worker_process())
            already = scene.completed()
            self._feed(scene, 3)
            scene.until(
                lambda: scene.completed() >= already + 3, "the first articles are published", WORKS_SECONDS
            )  # fmt: skip
            if self.practice.has_oracle and self.practice.fault.shows(scene):
                raise CouldNotBeDone("the symptom shows although nothing was staged.")
            if not stays:
                worker.send_signal(signal.SIGTERM)
                worker.wait(WORKS_SECONDS)

    def _prove_that_it_stands(self, scene: Scene) -> None:
        """A fault that passes by itself leaves nothing to find."""
        shows = self.practice.fault.shows
        scene.until(lambda: shows(scene), "the fault takes hold", HOLD_SECONDS)
        if self.practice.has_oracle:
            self.ended.wait(UNTREATED_SECONDS)
            if not shows(scene):
                raise CouldNotBeDone(f"the fault passed by itself within {UNTREATED_SECONDS:g} s.")

    def _feed_until(self, scene: Scene, what: str) -> None:
        until, due, fed = time.monotonic() + LONGEST_SECONDS, time.monotonic() + FEED_SECONDS, 0
        # On a healthy system jobs come as they came when it was arranged.
        feeds = self.practice.kind != HEALTHY
        while not (
            self.ended.wait(LOOK_SECONDS) or self.home.wishes(what) or self.home.wishes("end")
        ):
            now = time.monotonic()
            if now > until:
                self.ended.set()
            if feeds and now >= due and fed < MOST_FED:
                self._feed(scene, 1)
                due, fed = now + FEED_SECONDS, fed + 1

    def _feed(self, scene: Scene, count: int) -> None:
        """Jobs from upstream; where the database takes none, upstream has to try again as well."""
        try:
            scene.add(
                count, topic=f"{self.randomness.randrange(10**6)}: how to",
                category=self.randomness.choice(CATEGORIES), deadline_seconds=2,
            )  # fmt: skip
            self._jobs += count
        except (RunbookError, psycopg2.Error):
            return


def limits_of(scene: Scene) -> dict[str, dict[str, Any]]:
    with scene.database.transaction(read_only=True) as transaction:
        rows = [row._asdict() for row in transaction.rows(_SQL["limits_there"])]
    return {row.pop("provider"): row for row in rows}


def _half_an_hour_on() -> int:
    """The minute of a schedule that does not come due while somebody looks."""
    return (datetime.now(UTC).minute + 30) % 60


def main() -> None:
    home = Home(Path(sys.argv[1]))
    load_settings.cache_clear()
    keep(home)


if __name__ == "__main__":
    main()
