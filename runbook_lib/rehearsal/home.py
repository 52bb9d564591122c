"""Where a practice keeps its things: a folder of its own for each, with its state in a file."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook_lib.errors import NotFoundError
from runbook_lib.settings import PROJECT_DIRECTORY, environment_without_callers

HOMES = PROJECT_DIRECTORY / ".runbook" / "rehearsals"
STATE, ALIVE, LOG = "rehearsal.json", "alive", "keeper.log"
# What the engineer's commands are given, and what those that check are: a fault may stand between the two.
LOOKING, KEPT = "looking.json", "kept.json"
STAGED = "staged"


@dataclass
class State:
    """A practice. `phase`: staging, staged, repaired, failed, ended."""

    fault: str
    seed: int = 0
    severity: float = 1.0
    actor: str = ""
    phase: str = "staging"
    problem: str = ""
    surprise: bool = False
    alert: str = ""
    decoy: str | None = None
    keeper_pid: int | None = None
    begun_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    alerted_at: str | None = None
    repaired_at: str | None = None
    found: list[str] = field(default_factory=list)
    found_at: str | None = None
    hints: int = 0
    # As it was when the alert came: the limits of each provider, and how many jobs there were.
    limits: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: int = 0


class Home:
    """One practice's folder. Whoever keeps the system up holds a lock that the kernel drops with it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def make(cls, fault: str) -> Home:
        """A new folder, named by fault and time."""
        directory = HOMES / f"{fault}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        directory.mkdir(parents=True, mode=0o700)
        return cls(directory)

    @classmethod
    def current(cls) -> Home:
        """The newest practice that is under way. Raises `NotFoundError`."""
        for directory in sorted(
            HOMES.glob("*/"),
            key=lambda path: path.name.rpartition("-")[0][-8:] + path.name[-6:],
            reverse=True,
        ):
            home = cls(directory)
            if home.is_kept():
                return home
        raise NotFoundError("No rehearsal is under way. Begin one: `runbook rehearse quota`.")

    def read(self) -> State:
        return State(**json.loads((self.directory / STATE).read_text("utf-8")))

    def write(self, state: State) -> None:
        draft = self.directory / f"{STATE}.{os.getpid()}"
        draft.write_text(json.dumps(asdict(state)), "utf-8")
        draft.replace(self.directory / STATE)

    def change(self, **values: Any) -> State:
        """Changes some of the state. Keeper and commands take turns."""
        with (self.directory / "state.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = self.read()
            for name, value in values.items():
                setattr(state, name, value)
            self.write(state)
            return state

    def write_settings(self, looking: dict[str, str], kept: dict[str, str]) -> None:
        """The variables of the staged system, as the engineer has them and as they are."""
        for name, variables in ((LOOKING, looking), (KEPT, kept)):
            draft = self.directory / f"{name}.draft"
            draft.write_text(json.dumps(variables), "utf-8")
            draft.replace(self.directory / name)

    def environment(self, which: str = LOOKING) -> dict[str, str]:
        """What a process of the practice gets: nothing of the caller's, and the staged system's variables."""
        file = self.directory / which
        variables = json.loads(file.read_text("utf-8")) if file.exists() else {}
        return {**environment_without_callers(self.directory), **variables}

    def ask(self, what: str) -> None:
        """Leaves a wish for the keeper: `repair` or `end`."""
        (self.directory / f"please-{what}").touch()

    def wishes(self, what: str) -> bool:
        return (self.directory / f"please-{what}").exists()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Says that the system is kept up, for as long as this process lives."""
        with (self.directory / ALIVE).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def is_kept(self) -> bool:
        try:
            with (self.directory / ALIVE).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def wait_until(self, *phases: str, seconds: float) -> State:
        """The state once it is one of these, or `failed`, or the keeper is gone, or the time is over."""
        end = time.monotonic() + seconds
        while True:
            state = self.read()
            if state.phase in (*phases, "failed") or time.monotonic() > end:
                return state
            time.sleep(0.1)
