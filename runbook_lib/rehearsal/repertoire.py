"""What can be practised: each fault of the catalogue that can be staged, and what a surprise may be besides."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from runbook_lib.errors import NotFoundError
from runbook_lib.rehearsal import catalogue
from runbook_lib.rehearsal.faults import Fault, Stage, at_once
from runbook_lib.rehearsal.practice_cards import HEALTHY_CARD, UNKNOWN_CARD, Card, card_for
from runbook_lib.rehearsal.scene import Scene
from runbook_lib.triage.causes import BY_ID

Kind = Literal["fault", "compound", "healthy", "unknown"]
HEALTHY: Literal["healthy"] = "healthy"
UNKNOWN: Literal["unknown"] = "unknown"
SURPRISE = "surprise"
# Of what only looks alarming, what goes on looking like it for as long as a practice takes.
HARMLESS = (
    "rate-limits-absorbed", "overload-absorbed", "network-blip", "site-blip", "backlog", "planned-for-later", "release",
    "half-of-the-workers-stopped", "drained-worker", "failed-yesterday", "idle-pooled-connections",
)  # fmt: skip
# Of ten surprises, so many are nothing at all, and so many something that no rule knows.
HEALTHY_OF_TEN, UNKNOWN_OF_TEN = 1, 1


@dataclass(frozen=True)
class Practice:
    """Something to practise on. `truth` is what has to be named: causes, or `healthy`, or `unknown`.

    `layers` are those of the truth; with `unknown` one of them has to be named as well.
    """

    name: str
    kind: Kind
    truth: tuple[str, ...]
    layers: tuple[str, ...]
    card: Card
    fault: Fault

    @property
    def chapter(self) -> str:
        """Whose fault it is, as the catalogue groups them."""
        if self.kind != "fault":
            return self.kind
        owner = self.truth[0].partition("-")[0]
        return owner if owner in ("database", "openai", "wordpress") else "workers and network"

    @property
    def has_oracle(self) -> bool:
        """Whether something other than the staging itself tells that it stands."""
        return self.fault.shows is not at_once


def practices() -> Mapping[str, Practice]:
    """All that can be practised by name."""
    return {
        **{fault.name: _of_fault(fault, "fault") for fault in catalogue.CATALOGUE},
        **{fault.name: _of_fault(fault, "compound") for fault in catalogue.COMPOUNDS},
    }


def chosen(name: str) -> Practice:
    """The practice of that name, or of the cause with that id. Raises `NotFoundError`."""
    found = {**_surprises(), **practices()}
    by_cause = {practice.truth: practice.name for practice in reversed([*practices().values()])}
    name = by_cause.get(tuple(part.strip() for part in name.split("+")), name)
    if name in found:
        return found[name]
    if name in catalogue.NOT_STAGED:
        raise NotFoundError(f"{name} cannot be staged here: {catalogue.NOT_STAGED[name]}.")
    raise NotFoundError(
        f"There is no fault {name!r} to practise. `runbook rehearse faults` lists them: {', '.join(list(practices())[:6])}, …"
    )


def surprise(seed: int) -> Practice:
    """One that nobody is told: mostly a fault, now and then nothing at all or what no rule knows."""
    randomness = random.Random(f"surprise {seed}")
    among: Mapping[Kind, list[Practice]] = {"fault": [], "compound": [], "healthy": [], "unknown": []}  # fmt: skip
    for practice in {**_surprises(), **practices()}.values():
        among[practice.kind].append(practice)
    drawn = randomness.randrange(10)
    if drawn < HEALTHY_OF_TEN:
        return randomness.choice(among["healthy"])
    if drawn < HEALTHY_OF_TEN + UNKNOWN_OF_TEN:
        return randomness.choice(among["unknown"])
    # Each cause is as likely as any other, however many ways there are of staging it.
    causes = sorted({practice.truth for practice in (*among["fault"], *among["compound"])})
    truth = randomness.choice(causes)
    fitting = [each for each in (*among["fault"], *among["compound"]) if each.truth == truth]
    return randomness.choice(fitting)


def _of_fault(fault: Fault, kind: Kind) -> Practice:
    card = card_for(fault.truth)
    return Practice(fault.name, kind, fault.truth, _layers(fault.truth), card, fault)


def _surprises() -> Mapping[str, Practice]:
    """What is not in the catalogue of causes: no fault, and faults that no rule knows."""
    found = {
        name: Practice(name, UNKNOWN, (UNKNOWN,), layers, UNKNOWN_CARD, fault)
        for name, (fault, layers) in catalogue.UNKNOWN.items()
    }
    for name in HARMLESS:
        fault = Fault(name, (HEALTHY,), _harmless(name), at_once, own_workers=True)
        found[name] = Practice(name, HEALTHY, (HEALTHY,), (), HEALTHY_CARD, fault)
    return found


def _layers(causes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(BY_ID[cause].layer for cause in causes))


def _harmless(name: str) -> Stage:
    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        with catalogue.HEALTHY[name].stage(scene, random.Random(name)):
            yield

    return stage
