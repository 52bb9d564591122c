"""Faults of those who carry the jobs: workers, the scheduler, their clocks and settings, the jobs themselves."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from runbook_lib.database.statements import load
from runbook_lib.rehearsal.faults import Fault, arranged, at_once, executed
from runbook_lib.rehearsal.scene import Scene

_SQL = load("rehearsal_workers")


@contextmanager
def killed_worker(scene: Scene) -> Iterator[None]:
    """A worker that is killed while it waits for OpenAI, with jobs in its hands."""
    slow = scene.control.set_fault("openai", "latency", delay_seconds=3.0)
    try:
        with scene.worker_process() as process:
            scene.add()
            scene.until(
                lambda: scene.value("held_by", pid=process.pid) >= 1, "a worker took a job", 60
            )
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            scene.control.clear_faults(fault_id=slow)
            yield
    finally:
        scene.control.clear_faults(fault_id=slow)


@contextmanager
def _frozen_worker(scene: Scene) -> Iterator[None]:
    """A worker that is stopped in the middle, as by a debugger or a paused virtual machine."""
    slow = scene.control.set_fault("openai", "latency", delay_seconds=3.0)
    with scene.worker_process() as process:
        scene.add()
        scene.until(lambda: scene.value("held_by", pid=process.pid) >= 1, "a worker took a job", 60)
        os.kill(process.pid, signal.SIGSTOP)
        scene.control.clear_faults(fault_id=slow)
        scene.execute(_SQL["age_signs_of_life"])
        yield


@contextmanager
def _no_worker(scene: Scene) -> Iterator[None]:
    with scene.working():
        scene.add(2)
        scene.until(lambda: scene.completed() >= 2, "two are published", 30)
    scene.add(6)
    yield


@contextmanager
def _outdated_worker(scene: Scene) -> Iterator[None]:
    """Two workers; one still has the key from before the rotation."""
    scene.move(runbook_pause_after_failures_in_a_row=1000)
    scene.past_runs("healthy", 12, 1)
    scene.past_runs("outdated", 8, 1.4, error_class="openai_key_invalid", job_status="pending")
    scene.past_worker("healthy", host="other-1", version="0.2", settings_digest="new", in_flight=1)
    scene.past_worker("outdated", host="other-2", settings_digest="old", in_flight=1)
    yield


@contextmanager
def _too_many_at_once(scene: Scene) -> Iterator[None]:
    number = scene.control.set_fault("openai", "rate_limit", retry_after=1)
    scene.add(60)
    try:
        with scene.working(concurrency=60):
            scene.until(
                lambda: scene.failed_as("openai_rate_limited") >= 3, "requests are refused", 40
            )
            yield
    finally:
        scene.control.clear_faults(fault_id=number)


def _crashes(scene: Scene) -> None:
    """Workers that lived for a second each."""
    for number in range(1, 5):
        scene.past_worker(
            f"crashing-{number}", pid=number, version="0.2",
            started_seconds_ago=40 * number + 41, heard_seconds_ago=40 * number + 40,
        )  # fmt: skip


def skewed_clock(scene: Scene) -> None:
    """Two workers; the clock of one is two hours ahead."""
    scene.past_worker("right", host="other-1", started_seconds_ago=0, in_flight=1, clock_offset_seconds=0.01)  # fmt: skip
    scene.past_worker("ahead", host="other-2", started_seconds_ago=0, in_flight=1, clock_offset_seconds=7200.0)  # fmt: skip


def _poison(scene: Scene) -> None:
    """A job at which three workers died; a fourth lives."""
    scene.execute(_SQL["poison_job"])
    for number in range(1, 4):
        scene.past_worker(
            f"dead-{number}", pid=number, in_flight=1,
            started_seconds_ago=600, heard_seconds_ago=40 * (4 - number) + 30,
        )  # fmt: skip
    scene.past_worker("living", pid=9, started_seconds_ago=0)


def overlapping_attempts(scene: Scene) -> None:
    """Two workers that had the same jobs at the same time."""
    scene.execute(_SQL["overlapping_attempts"])
    scene.past_worker("first", in_flight=1)
    scene.past_worker("second", pid=2, in_flight=1)


WORKER_FAULTS: tuple[Fault, ...] = (
    Fault(
        "worker", ("worker-killed",), killed_worker, lambda scene: scene.counts().processing >= 1, own_workers=True,
        alert="CRITICAL workers.alive: no worker runs, and jobs are due. Some jobs have stayed in processing.",
        repaired="You had the host looked at: out of memory. It has been given more, and a worker was started there.",
        then=("workers",),
    ),
    Fault("frozen-worker", ("worker-stuck",), _frozen_worker, at_once, own_workers=True),
    Fault("no-worker", ("workers-stopped",), _no_worker, at_once, own_workers=True),
    Fault("crash-loop", ("worker-crash-loop",), arranged(_crashes), at_once, own_workers=True),
    Fault("poison", ("job-poisonous",), arranged(_poison), at_once, own_workers=True),
    Fault("eager-sweeper", ("sweeper-too-eager",), arranged(overlapping_attempts), at_once, own_workers=True),
    Fault("clock", ("worker-clock-skewed",), arranged(skewed_clock), at_once, own_workers=True),
    Fault("scheduler", ("scheduler-not-running",), executed(_SQL["scheduler_gone"]), at_once),
    Fault("outdated-worker", ("one-worker-outdated",), _outdated_worker, at_once, own_workers=True),
    Fault("sixty-at-once", ("concurrency-too-high",), _too_many_at_once, at_once, own_workers=True),
)  # fmt: skip
