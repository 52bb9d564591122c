"""What goes on around a fault and has nothing to do with it: a few failures, and now and then a decoy.

Real incidents are never the only thing that happens. A decoy is a recorded, harmless change a minute before
the onset, in a third of the seeds: whoever blames what changed last blames the wrong thing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from runbook_lib.database.statements import load
from runbook_lib.maintenance import checklists
from runbook_lib.pipeline import brakes
from runbook_lib.rehearsal.scene import Scene

_SQL = load("rehearsal_surroundings")
COLLEAGUE = "kim"
DECOY_SECONDS = 60
LEAST_PERCENT, MOST_PERCENT = 2.0, 5.0
# A job asks the site for its category, a look-up, a draft and its publication; and OpenAI once.
REQUESTS_A_JOB = {"openai": 1, "wordpress": 4}
# Of each provider what passes by itself when it is tried again, and what tells nothing about anything else.
NOISE: Mapping[str, tuple[tuple[str, Mapping[str, Any]], ...]] = {
    "openai": (("overloaded", {"path": "chat"}), ("server_error", {"path": "chat"})),
    "wordpress": (("status", {"status": 502, "body": "html", "path": "posts"}),),
}


@contextmanager
def surroundings(scene: Scene, name: str, seed: int) -> Iterator[str | None]:
    """Noise for as long as the block lasts, after a decoy in a third of the seeds; gives the decoy's name.

    `name` is the fault's: each meets another noise and another decoy with the same seed.
    """
    randomness = random.Random(f"{name} {seed}")
    decoy = randomness.choice(sorted(DECOYS)) if seed % 3 == 1 else None
    if decoy:
        DECOYS[decoy](scene)
        age_what_was_changed(scene)
    with noise(scene, randomness):
        yield decoy


@contextmanager
def noise(scene: Scene, randomness: random.Random) -> Iterator[None]:
    """Two to five of a hundred attempts fail for a passing reason, and go well when they are tried again."""
    provider = randomness.choice(sorted(NOISE))
    kind, options = randomness.choice(NOISE[provider])
    percent = randomness.uniform(LEAST_PERCENT, MOST_PERCENT)
    number = scene.control.set_fault(
        provider, kind, probability=percent / 100 / REQUESTS_A_JOB[provider], **options
    )
    try:
        yield
    finally:
        scene.control.clear_faults(fault_id=number)


def age_what_was_changed(scene: Scene) -> None:
    """As if a colleague had done a minute ago what was done just now."""
    scene.execute(_SQL["age_what_was_changed"], who=COLLEAGUE, seconds=DECOY_SECONDS)


def _worker_replaced(scene: Scene) -> None:
    """An earlier worker that was stopped in order; the one that works now came after it."""
    scene.execute(_SQL["add_stopped_worker"], worker=f"earlier-host-{COLLEAGUE}-1")


def _limit_as_it_was(scene: Scene) -> None:
    state = next(
        each for each in brakes.provider_states(scene.database) if each.provider == "openai"
    )
    brakes.set_limits(
        scene.database, "openai", {"concurrency": state.concurrency}, actor=COLLEAGUE,
        reason="looked through the limits",
    )  # fmt: skip


def _budget_set(scene: Scene) -> None:
    """A limit that nothing comes near."""
    brakes.set_limits(
        scene.database, "openai", {"daily_cost_usd": Decimal(500)}, actor=COLLEAGUE,
        reason="a budget for the new quarter",
    )  # fmt: skip


def _item_ticked(scene: Scene) -> None:
    checklists.tick(
        scene.database, "pre_deployment", "migrations", actor=COLLEAGUE,
        note="read; nothing in it", subject="0.1.0",
    )  # fmt: skip


DECOYS: Mapping[str, Callable[[Scene], None]] = {
    "worker replaced in order": _worker_replaced, "limit set to its own value": _limit_as_it_was,
    "budget set": _budget_set, "checklist ticked": _item_ticked,
}  # fmt: skip
