"""The catalogue of faults that can be staged: each is one declaration.

`stage` makes it so for as long as its block lasts, and leaving the block repairs it. `shows` is an oracle
that does not ask triage: whether the fault has taken hold. `truth` are the causes that triage should name.
`alert` is all that an engineer is told in a practice; one without is for the score only.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from runbook_lib.rehearsal.scene import Scene


@dataclass(frozen=True)
class Fault:
    """One fault. `own_workers`: it brings the workers that it needs; else one works throughout.

    `repaired` says in words what somebody else did once the engineer has found the cause, and `then` what is
    left for the engineer to do.
    """

    name: str
    truth: tuple[str, ...]
    stage: Callable[[Scene], AbstractContextManager[None]]
    shows: Callable[[Scene], bool]
    own_workers: bool = False
    alert: str = ""
    repaired: str = ""
    then: tuple[str, ...] = ()
    procedure: str = "emergency/system_down"


def sandbox_fault(
    provider: str, kind: str, *, jobs: int = 6, other_topic: str | None = None, first: bool = False,
    **options: Any,
) -> Callable[[Scene], AbstractContextManager[None]]:  # fmt: skip
    """A switch of the sandbox, turned on while jobs come in.

    `other_topic` adds jobs of a topic of their own, for a switch that strikes only these. `first`: waits until
    it has struck, before another fault keeps jobs from getting so far.
    """

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        given = dict(options)
        if scene.severity < 1 and "probability" not in given:
            given["probability"] = scene.severity
        number = scene.control.set_fault(provider, kind, **given)
        scene.add(jobs)
        if other_topic:
            scene.add(2, topic=other_topic)
        try:
            if first:
                scene.until(lambda: scene.failures() > 0, "the first fault strikes", 30)
            yield
        finally:
            scene.control.clear_faults(fault_id=number)

    return stage


def failed_as(error_class: str, times: int = 1) -> Callable[[Scene], bool]:
    """Whether attempts failed with a class, so often, since the scene began."""
    return lambda scene: scene.failed_as(error_class) >= times


def failures(times: int) -> Callable[[Scene], bool]:
    """Whether so many attempts failed since the scene began, whatever their class."""
    return lambda scene: scene.failures() >= times


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


FAULTS: tuple[Fault, ...] = (
    Fault(
        "quota", ("openai-quota-exhausted",), sandbox_fault("openai", "quota"), failed_as("openai_quota_exhausted"),
        alert="CRITICAL queue.last_success: jobs wait, and no article has been written for a while.",
        repaired="You told whoever pays. They have added credit to the account.",
        then=("resume openai",),
    ),
    Fault(
        "login", ("wordpress-login-revoked",), sandbox_fault("wordpress", "login_revoked"), failed_as("wordpress_login_failed"),
        alert="CRITICAL queue.last_success: jobs wait, articles are written and paid for, and nothing is published.",
        repaired="You called the site's editor. They had revoked the application password by mistake, and have put it back.",
        then=("resume wordpress",),
    ),
    Fault(
        "worker", ("worker-killed",), killed_worker, lambda scene: scene.counts().processing >= 1, own_workers=True,
        alert="CRITICAL workers.alive: no worker runs, and jobs are due. Some jobs have stayed in processing.",
        repaired="You had the host looked at: out of memory. It has been given more, and a worker was started there.",
        then=("workers",),
    ),
)  # fmt: skip
BY_NAME: Mapping[str, Fault] = {fault.name: fault for fault in FAULTS}
PRACTICES: tuple[str, ...] = tuple(fault.name for fault in FAULTS if fault.alert)
# What the catalogue calls them.
ALIASES: Mapping[str, str] = {fault.truth[0]: fault.name for fault in FAULTS}
