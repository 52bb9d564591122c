"""Faults of workers, staged with real processes: killed, stuck, stopped, ending again and again, robbed of their jobs.

Where only waiting would bring what is to be seen (a sign of life that is minutes old), the rows are made older
by SQL, and it is said there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone
from runbook_lib.rehearsal import programs
from runbook_lib.rehearsal.faults import Fault, Stage, failed_as
from runbook_lib.rehearsal.scene import Scene

_SQL = load("rehearsal_processes")
# How long a call of the model takes where a worker is to be met in the middle of it.
WRITING_SECONDS = 3.0
CLAIM_SECONDS = 90.0
# A topic that nothing else has.
ODD_TOPIC = "A glass garden"
CATEGORIES = ("News", "Guides")
# Longer than any job took; and longer than a worker that lives is ever silent, and between two of its beats.
STANDING_SECONDS, SILENCE_SECONDS = 600.0, 17.0
# So often a program has to have ended for it to be a loop.
FEWEST_ENDS, FEWEST_LOST, LOST_UNTIL_QUARANTINE = 5, 3, 3
SLOW_SECONDS, SLOWEST_SECONDS, FEWEST_SLOW = 4.5, 9.0, 6
# A sweeper that was harmless while articles took a second.
SWEPT_WHEN_SLOW_SECONDS = 6.5
SWEPT_AFTER_SECONDS, SWEEP_EVERY_SECONDS, FEWEST_OVERLAPS = (0.8, 1.6), 0.5, 3


@contextmanager
def slow_writing(scene: Scene, seconds: float = WRITING_SECONDS) -> Iterator[Callable[[], None]]:
    """The model takes so long; what is yielded makes it quick again."""
    number = scene.control.set_fault("openai", "latency", delay_seconds=seconds, path="chat")

    def end() -> None:
        scene.control.clear_faults(fault_id=number)

    try:
        yield end
    finally:
        end()


# killed


@contextmanager
def killed_worker(scene: Scene) -> Iterator[None]:
    """The only worker is killed in the middle of its jobs, as by the kernel when memory runs out."""
    chance = scene.chance("killed")
    with (
        slow_writing(scene) as quick_again,
        programs.worker(scene, chance.randint(1, 5)) as process,
    ):
        scene.add(chance.randint(4, 12), category=chance.choice(CATEGORIES))
        _kill_with_jobs(scene, process)
        quick_again()
        yield


@contextmanager
def killed_of_two(scene: Scene) -> Iterator[None]:
    """One of two workers is killed in the middle of its jobs; the other goes on, and takes them back."""
    with (
        slow_writing(scene) as quick_again,
        programs.worker(scene) as process,
        programs.worker(scene) as other,
    ):
        scene.add(scene.chance("killed").randint(6, 16))
        programs.wait_until_registered(scene, other)
        _kill_with_jobs(scene, process)
        quick_again()
        yield


def _kill_with_jobs(scene: Scene, process: subprocess.Popen[bytes]) -> None:
    scene.until(lambda: programs.holds_jobs(scene, process), "a worker took a job", CLAIM_SECONDS)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


# stuck


@contextmanager
def frozen_worker(scene: Scene) -> Iterator[None]:
    """A worker is stopped in the middle of its jobs, as by a debugger or a virtual machine that is paused."""
    chance = scene.chance("frozen")
    with (
        slow_writing(scene) as quick_again,
        programs.worker(scene, chance.randint(1, 5)) as process,
    ):
        scene.add(chance.randint(4, 12))
        scene.until(
            lambda: programs.holds_jobs(scene, process), "a worker took a job", CLAIM_SECONDS
        )
        os.kill(process.pid, signal.SIGSTOP)
        quick_again()
        _wait_while_silent(scene, process)
        yield


def _wait_while_silent(scene: Scene, process: subprocess.Popen[bytes]) -> None:
    """Its row could be made older, and its sessions could not: so time really goes by."""
    scene.until(
        lambda: scene.ask(_SQL["silent_seconds"], pid=process.pid) >= SILENCE_SECONDS,
        "it says nothing",
        CLAIM_SECONDS,
    )


def _frail(way: str, *, silent: bool = False, beside_another: bool = False) -> Stage:
    """A worker of which every thread that takes a job gets stuck in that way, and that may fall silent by it."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        command = _frail_command(way)
        with ExitStack() as stack:
            # It has nothing else to do between two looks, so that it is not met in a transaction.
            process = stack.enter_context(
                programs.running(scene, command, {"RUNBOOK_IDLE_POLL_SECONDS": "2"})
            )
            programs.wait_until_registered(scene, process)
            scene.add(3, topic=ODD_TOPIC)
            if not silent:
                scene.until(
                    lambda: scene.ask(_SQL["told_in_flight"], pid=process.pid) == 3, "it tells that its hands are full", CLAIM_SECONDS
                )  # fmt: skip
            else:
                scene.until(
                    lambda: int(scene.value("held_by", pid=process.pid)) == 3, "its hands are full", CLAIM_SECONDS
                )  # fmt: skip
            if beside_another:
                other = stack.enter_context(programs.worker(scene))
                programs.wait_until_registered(scene, other)
            scene.add(scene.chance(way).randint(2, 12))
            if silent:
                _wait_while_silent(scene, process)
            else:
                # Only waiting would follow: minutes in which none of its jobs gets a step further.
                scene.execute(_SQL["age_worker"], pid=process.pid, seconds=STANDING_SECONDS)
            yield

    return stage


def _frail_command(way: str, concurrency: int = 3) -> list[str]:
    return [
        sys.executable, "-m", "runbook_lib.rehearsal.frail_worker", way, ODD_TOPIC, "--concurrency", str(concurrency),
    ]  # fmt: skip


# stopped


@contextmanager
def stopped_workers(scene: Scene) -> Iterator[None]:
    """The workers are stopped in order, and nobody starts them again; jobs come in."""
    chance = scene.chance("stopped")
    with ExitStack() as stack:
        workers = [stack.enter_context(programs.worker(scene)) for _ in range(chance.randint(1, 2))]
        scene.add(4)
        programs.wait_until_registered(scene, *workers)
        programs.stop_in_order(*workers)
        scene.add(chance.randint(2, 20))
        yield


@contextmanager
def never_started(scene: Scene) -> Iterator[None]:
    """Jobs come in, and since the host was started anew nobody has started a worker."""
    chance = scene.chance("never started")
    scene.add(chance.randint(2, 40))
    # Only waiting would follow.
    scene.execute(_SQL["age_waiting"], seconds=chance.randint(600, 5400))
    yield


# ending again and again


def _broken_release(module: str, source: str) -> Stage:
    """A release in which a library does not fit: whatever starts the worker again does so in vain."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        scene.add(scene.chance(module).randint(3, 12))
        with TemporaryDirectory(prefix="runbook-release-") as directory:
            (Path(directory) / f"{module}.py").write_text(source, "utf-8")
            command = programs.worker_command()
            with programs.Supervised(scene, command, {"PYTHONPATH": directory}) as loop:
                scene.until(
                    lambda: len(loop.lived_seconds) >= FEWEST_ENDS,
                    "it ends again and again",
                    CLAIM_SECONDS,
                )
                yield

    return stage


_MISSING_LIBRARY = 'raise ImportError("libpq.so.5: cannot open shared object file: No such file or directory")\n'  # fmt: skip
# A library that starts, and then writes to memory that is not its own. The worker is there by then.
_CRASHING_LIBRARY = "import os, signal, time\ntime.sleep(1.0)\nos.kill(os.getpid(), signal.SIGSEGV)\n"  # fmt: skip


@contextmanager
def poisonous_job(scene: Scene) -> Iterator[None]:
    """A job at which the process dies, each time, and is started again; until the job is in quarantine."""
    scene.move(
        runbook_lease_seconds=1.5, runbook_quarantine_after_lost_attempts=LOST_UNTIL_QUARANTINE
    )
    chance = scene.chance("poison")
    with programs.Supervised(scene, _frail_command("dies", chance.randint(1, 3))) as loop:
        scene.add(chance.randint(1, 5))
        scene.add(1, topic=ODD_TOPIC)
        scene.until(
            lambda: scene.ask(_SQL["quarantined"], topic=ODD_TOPIC) >= 1,
            "it is set aside",
            CLAIM_SECONDS,
        )
        scene.add(4)
        if len(loop.lived_seconds) < LOST_UNTIL_QUARANTINE:
            raise CouldNotBeDone(f"The worker died {len(loop.lived_seconds)} times only.")
        yield


# robbed


class HomeMadeSweeper:
    """Gives out anew whatever has been in processing for longer than it thinks right, whoever works on it."""

    def __init__(self, scene: Scene, after_seconds: float) -> None:
        self._scene, self._after_seconds = scene, after_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sweep, daemon=True)

    def __enter__(self) -> HomeMadeSweeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sweep(self) -> None:
        while not self._ended.wait(SWEEP_EVERY_SECONDS):
            self._scene.execute(_SQL["sweep_by_age"], seconds=self._after_seconds)


@contextmanager
def eager_sweeper(scene: Scene) -> Iterator[None]:
    """Two workers, of whose jobs some take longer than a sweeper of somebody else's waits."""
    chance = scene.chance("sweeper")
    slowest = scene.control.set_fault(
        "openai",
        "latency",
        path="chat",
        delay_seconds=WRITING_SECONDS,
        probability=chance.uniform(0.4, 0.8),
    )
    try:
        with (
            programs.worker(scene, chance.randint(2, 4)),
            programs.worker(scene, chance.randint(2, 4)),
            HomeMadeSweeper(scene, chance.uniform(*SWEPT_AFTER_SECONDS)),
        ):
            scene.add(24)
            scene.until(
                lambda: robs_the_living(scene), "jobs are done twice at a time", CLAIM_SECONDS
            )  # fmt: skip
            yield
    finally:
        scene.control.clear_faults(fault_id=slowest)


@contextmanager
def slow_model_and_eager_sweeper(scene: Scene) -> Iterator[None]:
    """The model has become slow: a sweeper that was harmless until now takes jobs from workers that write.

    Half of the calls end before it comes, so that the slowness is to be seen in what was published.
    """
    scene.move(runbook_openai_deadline_seconds=30.0)
    slowest = scene.control.set_fault(
        "openai", "latency", path="chat", delay_seconds=SLOWEST_SECONDS, probability=0.5
    )
    try:
        with (
            slow_writing(scene, SLOW_SECONDS),
            programs.worker(scene, 6),
            programs.worker(scene, 6),
            HomeMadeSweeper(scene, SWEPT_WHEN_SLOW_SECONDS),
        ):
            scene.add(24)
            scene.until(
                lambda: scene.completed() >= FEWEST_SLOW and robs_the_living(scene),
                "some end slowly, some are done twice at a time", 60,
            )  # fmt: skip
            yield
    finally:
        scene.control.clear_faults(fault_id=slowest)


def overlapping_calls(scene: Scene) -> int:
    """Topics about which the model was asked anew while it still wrote about them: by the provider's journal."""
    by_topic: dict[str, list[tuple[float, float]]] = {}
    for call in scene.control.journal("openai"):
        if call["topic"]:
            by_topic.setdefault(call["topic"], []).append(
                (call["started_at"], call["ended_at"] or float("inf"))
            )
    return sum(
        any(later[0] < earlier[1] for earlier, later in pairwise(calls))
        for calls in (sorted(each) for each in by_topic.values())
    )


def _stands_still(scene: Scene) -> bool:
    """Jobs are in processing, and nothing was done since the scene began but by a worker beside it."""
    return bool(scene.counts().processing >= 3)


def _nobody_works(scene: Scene) -> bool:
    """Jobs wait, and by the list of sessions no worker is connected."""
    return bool(scene.counts().pending >= 1) and scene.ask(_SQL["worker_sessions"]) == 0


def _held(scene: Scene) -> bool:
    """Jobs stay in processing."""
    return bool(scene.counts().processing >= 1)


def _nothing_gets_done(scene: Scene) -> bool:
    """Attempt after attempt is lost, and none ends."""
    return scene.failed_as("worker_lost") >= FEWEST_LOST and scene.completed() == 0


def robs_the_living(scene: Scene) -> bool:
    """Jobs are done twice at a time, by the provider's journal."""
    return overlapping_calls(scene) >= FEWEST_OVERLAPS


WORKER_FAULTS: tuple[Fault, ...] = (
    Fault("worker", ("worker-killed",), killed_worker, _held, own_workers=True),
    Fault("worker-of-two", ("worker-killed",), killed_of_two, failed_as("worker_lost"), own_workers=True),
    Fault("frozen-worker", ("worker-stuck",), frozen_worker, _held, own_workers=True),
    Fault("deadlocked-worker", ("worker-stuck",), _frail("deadlocks"), _stands_still, own_workers=True),
    Fault("hanging-worker", ("worker-stuck",), _frail("hangs", silent=True), _stands_still, own_workers=True),
    Fault("one-of-two-hangs", ("worker-stuck",), _frail("hangs", silent=True, beside_another=True), failed_as("worker_lost", 3), own_workers=True),
    Fault("no-worker", ("workers-stopped",), stopped_workers, _nobody_works, own_workers=True),
    Fault("never-started", ("workers-stopped",), never_started, _nobody_works, own_workers=True),
    Fault("broken-release", ("worker-crash-loop",), _broken_release("psycopg2", _MISSING_LIBRARY), _nobody_works, own_workers=True),
    Fault("crash-loop", ("worker-crash-loop",), _broken_release("openai", _CRASHING_LIBRARY), _nothing_gets_done, own_workers=True),
    Fault("poison", ("job-poisonous",), poisonous_job, failed_as("quarantined"), own_workers=True),
    Fault("eager-sweeper", ("sweeper-too-eager",), eager_sweeper, robs_the_living, own_workers=True),
)  # fmt: skip
