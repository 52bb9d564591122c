"""One trial of the score: a scene is staged, triage answers, its advice is followed, and all of it is judged.

A trial gives one plain row, so that rows of many runs can be put together. `right` is None where the
scene could not be staged, and `problem` says why.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2

from runbook_lib.errors import RunbookError
from runbook_lib.health.context import open_context
from runbook_lib.rehearsal import expected_actions
from runbook_lib.rehearsal.broken_states import State
from runbook_lib.rehearsal.faults import Fault
from runbook_lib.rehearsal.harm import requests_by_others, try_first_action
from runbook_lib.rehearsal.healthy_scenes import HealthyScene
from runbook_lib.rehearsal.laboratory import Laboratory
from runbook_lib.rehearsal.recomputing import compare_figures
from runbook_lib.rehearsal.scene import Scene
from runbook_lib.rehearsal.surroundings import surroundings
from runbook_lib.triage import kept_evidence
from runbook_lib.triage.diagnosis import Diagnosis, diagnose_context

STAGING_SECONDS = 60.0
# A fault is given a moment to spread: an engineer would not look at once.
SETTLE_SECONDS = 1.0
# How long a fault is left alone in a control run, and must still be there.
UNTREATED_SECONDS = 5.0
VERDICTS = ("fault", "healthy", "watch", "unknown")

Row = dict[str, Any]


@dataclass(frozen=True)
class Truth:
    """What is right: the causes by their ids, or for one that no rule knows the layers it may be narrowed to."""

    causes: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()


@dataclass
class Look:
    """What triage answered, how long that took, and what it and its advice did."""

    answer: Mapping[str, Any]
    seconds: float
    layer: str | None
    harm: Row = field(default_factory=dict)
    paid: int = 0
    figures: Row = field(default_factory=dict)
    symptoms: list[str] = field(default_factory=list)

    @property
    def named(self) -> list[str]:
        return [each["id"] for each in self.answer["causes"]]

    @property
    def verdict(self) -> str:
        return str(self.answer["verdict"])

    def row(self) -> Row:
        first = (self.answer["causes"] or [None])[0]
        return {
            "verdict": self.verdict, "found": self.named, "layer": self.layer, "seconds": self.seconds,
            "paid": self.paid, "first_action": first and first["command"], "automate": first and first["safe_to_automate"],
            "not_checked": len(self.answer["not_checked"]), "symptoms": self.symptoms, **self.harm, **self.figures,
        }  # fmt: skip


def try_fault(
    laboratory: Laboratory, fault: Fault, seed: int, truth: Truth, *, severity: float = 1.0,
    evidence: Path | None = None,
) -> Row:  # fmt: skip
    """Stages a fault, waits until its oracle sees it, asks triage, and follows its advice."""
    began = time.monotonic()
    try:
        with laboratory.scene(seed, fault, severity=severity) as scene, ExitStack() as stack:
            decoy = _stage(scene, fault, seed, stack)
            staged = time.monotonic() - began
            found = look(scene, evidence=evidence)
    except (RunbookError, psycopg2.Error, OSError) as error:
        return {"right": None, "problem": _words(error), "truth": list(truth.causes)}
    return {
        **judge_fault(truth, found), **found.row(), "truth": list(truth.causes), "layers": list(truth.layers), "decoy": decoy,
        "staging_seconds": round(staged, 1), "scene_seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def judge_fault(truth: Truth, found: Look) -> Row:
    """Whether the answer is right: one cause must come first, several must be named exactly, and what no rule
    knows must be called unknown, at the right layer."""
    named = found.named
    if not truth.causes:
        right = found.verdict == "unknown" and not named and found.layer in truth.layers
    elif len(truth.causes) == 1:
        right = named[:1] == list(truth.causes)
    else:
        right = set(named) == set(truth.causes)
    first = (found.answer["causes"] or [None])[0]
    problem = expected_actions.against(truth.causes, first)
    return {
        "right": right, "exact": set(named) == set(truth.causes),
        "action_right": problem is None, "action_problem": problem,
    }  # fmt: skip


def try_healthy(
    laboratory: Laboratory, healthy: HealthyScene, seed: int, *, evidence: Path | None = None
) -> Row:
    """A scene that only looks alarming: no cause is named, and nothing advised."""
    began = time.monotonic()
    chance = random.Random(f"{healthy.name} {seed}")
    try:
        with laboratory.scene(seed, past=healthy.past) as scene, healthy.stage(scene, chance):
            found = look(scene, evidence=evidence)
    except (RunbookError, psycopg2.Error, OSError) as error:
        return {"right": None, "problem": _words(error), "truth": []}
    return {
        "right": is_no_alarm(found), **found.row(), "truth": [], "scene_seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def is_no_alarm(found: Look) -> bool:
    return found.verdict in ("healthy", "watch") and not found.named


def try_state(laboratory: Laboratory, state: State, seed: int) -> Row:
    """A state in which everything that is asked may stay silent: a verdict must be given all the same."""
    began = time.monotonic()
    try:
        with laboratory.scene(seed, past=seed % 2 == 0) as scene, state(scene):
            time.sleep(SETTLE_SECONDS)
            found = look(scene, follow=False)
    except (psycopg2.Error, OSError) as error:
        return {"right": None, "problem": _words(error), "truth": []}
    return {
        "right": found.verdict in VERDICTS, **found.row(), "truth": [],
        "scene_seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def try_controls(laboratory: Laboratory, fault: Fault, seed: int) -> Row:
    """The two control runs of a fault: without it nothing shows and nothing is named; with it and left alone,
    it is still there at the end."""
    began = time.monotonic()
    try:
        without = _without(laboratory, fault, seed)
        with laboratory.scene(seed, fault) as scene, ExitStack() as stack:
            _stage(scene, fault, seed, stack)
            time.sleep(UNTREATED_SECONDS)
            stays = bool(fault.shows(scene))
    except (RunbookError, psycopg2.Error, OSError) as error:
        return {"right": None, "problem": _words(error), "truth": []}
    problems = [
        *(["the oracle sees it without it being there"] if without["shows"] else []),
        *([f"named without being there: {without['found']}"] if without["found"] else []),
        *([] if stays else ["left alone, it went away by itself"]),
    ]
    return {
        "right": not problems, "problems": problems, **without, "truth": list(fault.truth),
        "scene_seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def _without(laboratory: Laboratory, fault: Fault, seed: int) -> Row:
    with laboratory.scene(seed, fault) as scene, scene.working():
        scene.add()
        scene.until(lambda: scene.completed() >= 6, "the first articles are published", 60)
        shows = bool(fault.shows(scene))
        found = look(scene)
    return {"shows": shows, **found.row()}


def _stage(scene: Scene, fault: Fault, seed: int, stack: ExitStack) -> str | None:
    """The fault in its surroundings, until its oracle sees it; gives the decoy, if there is one."""
    decoy = stack.enter_context(surroundings(scene, fault.name, seed))
    if not fault.own_workers:
        stack.enter_context(scene.working())
    stack.enter_context(fault.stage(scene))
    scene.until(lambda: fault.shows(scene), "the fault takes hold", STAGING_SECONDS)
    time.sleep(SETTLE_SECONDS)
    return decoy


def look(scene: Scene, *, follow: bool = True, evidence: Path | None = None) -> Look:
    """Asks triage as whoever looks would; then its figures are computed again, and its advice is followed.

    `evidence` is a file to keep it in, so that other rules can judge it anew.
    """
    began = time.monotonic()
    with open_context(scene.looking, require_schema=False) as context:
        diagnosis = diagnose_context(context)
        found = told(diagnosis, round(time.monotonic() - began, 2))
        if evidence is not None:
            kept_evidence.keep(diagnosis, evidence)
        found.paid = requests_by_others(scene) or 0
        found.figures = compare_figures(context, diagnosis)
        if follow:
            found.harm = try_first_action(scene, context, diagnosis).as_dictionary()
    return found


def told(diagnosis: Diagnosis, seconds: float = 0.0) -> Look:
    """What a diagnosis says, before anybody acts on it."""
    symptoms = [fact.name for fact in diagnosis.facts.symptoms()]
    return Look(diagnosis.as_dictionary(), seconds, diagnosis.layer, symptoms=symptoms)


def _words(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {(lines or ['no reason was given'])[0][:200]}"
