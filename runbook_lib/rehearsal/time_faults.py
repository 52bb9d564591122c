"""Faults of time: a worker's clock that is wrong, a scheduler that does not run, or that goes by a wrong clock."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from runbook_lib.database.statements import load
from runbook_lib.rehearsal import clock, programs
from runbook_lib.rehearsal.faults import Fault, Stage
from runbook_lib.rehearsal.scene import Scene

_SQL = load("rehearsal_processes")
HOURS_OFF = 2
SKEW_SECONDS = HOURS_OFF * 3600.0
BEGIN_SECONDS = 90.0
# Half an hour in which nobody deals with a schedule that came due after twenty minutes.
UNTIL_DUE, GONE_BY_SECONDS, OVERDUE_SECONDS = timedelta(minutes=20), 1800.0, 500.0
_SCHEDULE = "id: hourly_look\nprocedure: daily/health_check\ncron: '{minute} * * * *'\ntimezone: UTC\n"  # fmt: skip


def skewed_clock(seconds: float) -> Stage:
    """Two workers; the clock of one is off."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        chance = scene.chance("clock")
        off = clock.off_by(seconds * chance.uniform(0.7, 1.5))
        with programs.worker(scene) as right, programs.worker(scene, environment=off) as wrong:
            programs.wait_until_registered(scene, right, wrong)
            scene.add(chance.randint(3, 12))
            yield

    return stage


def clock_is_off(scene: Scene) -> bool:
    """By what the database was told together with its own time.

    Libfaketime holds a program up while it starts: it has to have come to rest.
    """
    offset = scene.ask(_SQL["clock_offsets"])
    return offset is not None and abs(float(offset)) > SKEW_SECONDS / 2


@contextmanager
def scheduler(
    scene: Scene, minute: int, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """`runbook schedule start` with one schedule, due at a minute of each hour; it has read it."""
    with TemporaryDirectory(prefix="runbook-schedules-") as directory:
        (Path(directory) / "hourly_look.yaml").write_text(_SCHEDULE.format(minute=minute), "utf-8")
        command = programs.runbook_command("schedule", "start", "--directory", directory)
        with programs.running(scene, command, environment) as process:
            scene.until(
                lambda: scene.ask(_SQL["schedules_read"]) > 0, "the schedule is read", BEGIN_SECONDS
            )
            yield process


def _gone_scheduler(number: signal.Signals) -> Stage:
    """A scheduler that gets a signal twenty minutes before a schedule comes due."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        due = scene.value("now") + UNTIL_DUE
        with scheduler(scene, due.minute) as process:
            os.kill(process.pid, number)
            if number is not signal.SIGSTOP:
                process.wait(BEGIN_SECONDS)
            scene.add(3)
            # Only waiting would follow: the schedule comes due, and nobody is there.
            scene.execute(
                _SQL["age_schedules"], seconds=GONE_BY_SECONDS, silent_seconds=GONE_BY_SECONDS
            )
            yield

    return stage


@contextmanager
def scheduler_behind_the_times(scene: Scene) -> Iterator[None]:
    """A scheduler on a host whose clock stands two hours back: what came due ten minutes ago it waits for."""
    due = scene.value("now") - UNTIL_DUE / 2
    with scheduler(scene, due.minute, clock.off_by(-SKEW_SECONDS)):
        scene.add(3)
        yield


def is_overdue(scene: Scene) -> bool:
    """By the database's clock."""
    return int(scene.ask(_SQL["overdue_schedules"], seconds=OVERDUE_SECONDS)) > 0


gone_scheduler = _gone_scheduler(signal.SIGKILL)
_WRONG_CLOCK = "" if clock.why_not() is None else str(clock.why_not())

_OFF: tuple[Fault, ...] = (
    Fault("clock", ("worker-clock-skewed",), skewed_clock(SKEW_SECONDS), clock_is_off, own_workers=True),
    Fault("clock-behind", ("worker-clock-skewed",), skewed_clock(-SKEW_SECONDS), clock_is_off, own_workers=True),
    Fault("scheduler-clock-back", ("scheduler-not-running",), scheduler_behind_the_times, is_overdue),
)  # fmt: skip
TIME_FAULTS: tuple[Fault, ...] = (
    Fault("scheduler", ("scheduler-not-running",), gone_scheduler, is_overdue),
    Fault("scheduler-stopped", ("scheduler-not-running",), _gone_scheduler(signal.SIGTERM), is_overdue),
    Fault("scheduler-frozen", ("scheduler-not-running",), _gone_scheduler(signal.SIGSTOP), is_overdue),
    *(() if _WRONG_CLOCK else _OFF),
)  # fmt: skip
# What this machine lacks, as it is now.
CLOCKS_NOT_STAGED: Mapping[str, str] = {"worker-clock-skewed": _WRONG_CLOCK} if _WRONG_CLOCK else {}
