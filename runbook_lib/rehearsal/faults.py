"""What a fault is, and the ways of staging that faults of several parts share.

`stage` makes it so for as long as its block lasts, and leaving the block repairs it. `shows` is an oracle
that does not ask triage: whether the fault has taken hold. `truth` are the causes that triage should name.
`alert` is all that an engineer is told in a practice; one without is for the score only. `catalogue.py` has
them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from runbook_lib.database.statements import Statement
from runbook_lib.rehearsal.scene import Scene

Stage = Callable[[Scene], AbstractContextManager[None]]
Shows = Callable[[Scene], bool]
# Longer than an article of the sandbox takes, on a busy machine.
STILL_SECONDS = 3.0


@dataclass(frozen=True)
class Fault:
    """One fault. `own_workers`: it brings the workers that it needs; else one works throughout.

    `needs_own_server`: its scene gets an embedded PostgreSQL of its own, since it stops, fills or limits a
    server. What is told of it in a practice stands in `practice_cards.py`.
    """

    name: str
    truth: tuple[str, ...]
    stage: Stage
    shows: Shows
    own_workers: bool = False
    needs_own_server: bool = False


def at_once(scene: Scene) -> bool:
    """The oracle of a fault that stands as soon as it was staged."""
    del scene
    return True


def failed_as(error_class: str, times: int = 1) -> Shows:
    """Whether attempts failed with a class, so often, since the scene began."""
    return lambda scene: scene.failed_as(error_class) >= times


def failures(times: int) -> Shows:
    """Whether so many attempts failed since the scene began, whatever their class."""
    return lambda scene: scene.failures() >= times


def seen_to_work(scene: Scene, jobs: int = 2, seconds: float = 30) -> None:
    """Jobs that are published before anything happens: a system that never worked would show nothing."""
    wanted = scene.completed() + jobs
    scene.add(jobs)
    scene.until(lambda: scene.completed() >= wanted, "the first articles are published", seconds)


def stands_still(scene: Scene) -> bool:
    """Whether nothing has been published for some seconds, and jobs are there."""
    counts = scene.counts()
    return bool(
        counts.pending + counts.processing > 0
        and scene.value("seconds_since_completed") >= STILL_SECONDS
    )


def sandbox_fault(
    provider: str, kind: str, *, jobs: int = 6, other_topic: str | None = None, first: bool = False,
    **options: Any,
) -> Stage:  # fmt: skip
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


def executed(*statements: Statement, **parameters: Any) -> Stage:
    """Statements on the disposable database, while jobs wait."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        scene.add()
        for statement in statements:
            scene.execute(statement, **parameters)
        yield

    return stage


def arranged(*arrangements: Callable[[Scene], None]) -> Stage:
    """Rows of a past, put there while jobs wait."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        scene.add()
        for arrange in arrangements:
            arrange(scene)
        yield

    return stage


def together(*stages: Stage) -> Stage:
    """Several faults at once, staged one after the other."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        with ExitStack() as stack:
            for each in stages:
                stack.enter_context(each(scene))
            yield

    return stage
