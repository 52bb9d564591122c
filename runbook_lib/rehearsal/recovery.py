"""Recovery: a fault is staged, its first action is done by itself, and it is measured how soon jobs flow again.

What a person has to repair (credit, a site that is down) is repaired right after the action, as in a practice.
Where the action alone is the remedy, it is given the chance to be: the fault stands on meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import psycopg2

from runbook_lib import changes
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone, RunbookError
from runbook_lib.health.context import open_context
from runbook_lib.pipeline import brakes
from runbook_lib.pipeline.failures import FAILURE_CLASSES
from runbook_lib.pipeline.failures import Fault as Whose
from runbook_lib.policy import Automation as Rules
from runbook_lib.procedures.automation import Automation, may_be_automated
from runbook_lib.rehearsal.catalogue import CATALOGUE
from runbook_lib.rehearsal.doubled_posts import doubled_posts
from runbook_lib.rehearsal.faults import Fault
from runbook_lib.rehearsal.laboratory import CATEGORIES, Laboratory
from runbook_lib.rehearsal.scene import Scene, environment_of
from runbook_lib.rehearsal.surroundings import surroundings
from runbook_lib.rehearsal.trials import SETTLE_SECONDS, STAGING_SECONDS
from runbook_lib.settings import Settings, load_settings
from runbook_lib.triage.causes import BY_ID
from runbook_lib.triage.diagnosis import diagnose_context

_SQL = load("rehearsal_recovery")
RECOVERED_WITHIN_SECONDS = 120.0
ENDS_SOON_SECONDS = 60.0
NOTHING_DONE, UNTREATED = "nothing was done", "untreated"
# So long the action alone has, where it is the remedy.
ALONE_SECONDS = 15.0
SETTLED_WITHIN_SECONDS = 60.0
FRESH_JOBS, FRESH_TOPIC = 4, "Afterwards, how to"
# Of what the kinds do, what holds back instead of repairing.
BRAKES = ("provider.pause", "limits.lower")
# A job that a person or a rule set aside stays so.
_SET_ASIDE = (Whose.JOB,)


@dataclass(frozen=True)
class Recovery:
    """How one fault went. `seconds` from the action until fresh jobs were published; None: not in time."""

    fault: str
    cause: str
    named: tuple[str, ...]
    kind: str | None
    outcome: str
    repaired: bool
    resumed: bool
    seconds: float | None
    left: tuple[str, ...]
    lost: int
    doubled: int
    problem: str | None = None

    @property
    def well(self) -> bool:
        """Jobs flow again, none lost, none doubled, after the action for a cause that was named. That action may be
        none: what workers do by themselves needs nobody, and the only worker is not drained."""
        flows = self.seconds is not None and not self.lost and not self.doubled
        return flows and (self.cause in self.named or self.outcome == UNTREATED)

    def as_dictionary(self) -> dict[str, Any]:
        return {**asdict(self), "well": self.well}


def automatable() -> list[Fault]:
    """The faults that can be staged here and whose first action is safe by itself."""
    return [fault for fault in CATALOGUE if fault.truth[0] in may_be_automated()]


def not_automated() -> dict[str, str]:
    """Causes that are safe by themselves, and whose first action is nothing that the workbench changes."""
    return {
        cause.id: cause.action.words
        for cause in BY_ID.values()
        if cause.action.automation == "Y" and cause.id not in may_be_automated()
    }


def recover(
    laboratory: Laboratory, fault: Fault, seed: int = 0, *, treated: bool = True
) -> Recovery:
    """Stages a fault, lets the automation act unless it is the untreated twin, and measures."""
    try:
        with laboratory.scene(seed, fault) as scene, ExitStack() as stack:
            stack.enter_context(surroundings(scene, fault.name, seed))
            if not fault.own_workers:
                stack.enter_context(scene.working())
            staged = stack.enter_context(ExitStack())
            staged.callback(_set_back, scene, scene.settings, scene.looking)
            staged.enter_context(fault.stage(scene))
            scene.until(lambda: fault.shows(scene), "the fault takes hold", STAGING_SECONDS)
            time.sleep(SETTLE_SECONDS)
            return _recover(scene, fault, stack, staged, treated)
    except (RunbookError, psycopg2.Error, OSError) as error:
        told = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
        return Recovery(fault.name, fault.truth[0], (), None, "not staged", False, False, None, (), 0, 0, told)  # fmt: skip


def _recover(
    scene: Scene, fault: Fault, stack: ExitStack, staged: ExitStack, treated: bool
) -> Recovery:
    kind = BY_ID[fault.truth[0]].action.change
    named, outcome = _act(scene, fault.truth[0]) if treated else ((), UNTREATED)
    began = time.monotonic()
    scene.add(FRESH_JOBS, topic=FRESH_TOPIC, category=CATEGORIES[1])
    alone = kind not in BRAKES and _flows_within(scene, ALONE_SECONDS)
    seconds = time.monotonic() - began if alone else None
    staged.close()
    resumed = _resume_long_pauses(scene)
    if fault.own_workers:
        stack.enter_context(scene.working())
    if not alone and _flows_within(scene, RECOVERED_WITHIN_SECONDS - (time.monotonic() - began)):
        seconds = time.monotonic() - began
    left, lost = _settled(scene)
    return Recovery(
        fault.name, fault.truth[0], named, kind, outcome, not alone, resumed and not alone,
        None if seconds is None else round(seconds, 1), left, lost, len(doubled_posts(scene.control)),
    )  # fmt: skip


def _set_back(scene: Scene, settings: Settings, looking: Settings) -> None:
    """The addresses and keys from before the fault: whoever repairs it sees to that, too."""
    scene.settings, scene.looking = settings, looking


def _resume_long_pauses(scene: Scene) -> bool:
    """Whoever repaired what a provider was paused for ends the pause, unless it soon ends by itself."""
    soon = scene.value("now") + timedelta(seconds=ENDS_SOON_SECONDS)
    paused = [
        state.provider
        for state in brakes.provider_states(scene.database)
        if state.pause is not None and (state.pause.until is None or state.pause.until > soon)
    ]
    if paused:
        brakes.resume(scene.database, paused, actor="rehearsal", reason="repaired")
    return bool(paused)


def _act(scene: Scene, cause: str) -> tuple[tuple[str, ...], str]:
    """What triage named, and what the automation did about it."""
    rules = Rules(causes=(cause,), least_confidence=0.6, look_every_minutes=0)
    with _as_its_process(scene), open_context(scene.looking, require_schema=False) as context:
        diagnosis = diagnose_context(context)
        deeds = Automation(rules).act(context, diagnosis)
    named = tuple(each.cause.id for each in diagnosis.causes)
    return named, "; ".join(f"{deed.outcome}: {deed.why}" for deed in deeds) or NOTHING_DONE


@contextmanager
def _as_its_process(scene: Scene) -> Iterator[None]:
    """This process has the settings of the scene, and a category that stands in, as its monitor would."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update({**environment_of(scene.looking), "RUNBOOK_FALLBACK_CATEGORY": CATEGORIES[1]})
    load_settings.cache_clear()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        load_settings.cache_clear()


def _flows_within(scene: Scene, seconds: float) -> bool:
    try:
        scene.until(
            lambda: scene.ask(_SQL["fresh_completed"], topic=FRESH_TOPIC) >= FRESH_JOBS,
            "fresh jobs are published", seconds,
        )  # fmt: skip
    except CouldNotBeDone:
        return False
    return True


def _settled(scene: Scene) -> tuple[tuple[str, ...], int]:
    """What is not published once everything had its time, and how many of it ought to be.

    What failed while the fault lasted is retried as its procedure says: by class, and never what a job itself
    is to blame for.
    """
    _retry_what_failed(scene)
    try:
        scene.until(
            lambda: not scene.counts().pending + scene.counts().processing, "all is settled",
            SETTLED_WITHIN_SECONDS,
        )  # fmt: skip
    except CouldNotBeDone:
        pass  # what is left is told
    with scene.database.transaction(read_only=True) as transaction:
        rows = transaction.rows(_SQL["unfinished"])
    left = tuple(f"{row.jobs} {row.status}: {row.error_class}" for row in rows)
    return left, sum(row.jobs for row in rows if not _set_aside(row))


def _retry_what_failed(scene: Scene) -> None:
    with scene.database.transaction(read_only=True) as transaction:
        rows = [row for row in transaction.rows(_SQL["unfinished"]) if row.status == "error"]
    for row in rows:
        if not _set_aside(row):
            given = {"class": row.error_class, "per_minute": 6000}
            plan = changes.plan(scene.database, "jobs.retry", given, actor="rehearsal")
            changes.apply(scene.database, plan.change_id, actor="rehearsal", dry_run=False)


def _set_aside(row: Any) -> bool:
    known = FAILURE_CLASSES.get(row.error_class or "")
    return row.status == "error" and known is not None and known.fault in _SET_ASIDE
