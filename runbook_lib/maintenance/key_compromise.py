"""A credential that may be stolen: the order that does not make it worse, and signs of misuse.

A key that is revoked before the new one is in use fails every job. So: pause, new one in use, then revoke.
Revoking first is right where the thief does more harm in the next minutes than waiting jobs do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg2

from runbook_lib.credentials.masking import one_line
from runbook_lib.credentials.shapes import require_name
from runbook_lib.errors import RunbookError
from runbook_lib.health.answers import Answer, checks_table, table
from runbook_lib.health.checks import Check
from runbook_lib.health.sources import Sources
from runbook_lib.health.tables import Table
from runbook_lib.maintenance.key_misuse import signs_of_misuse
from runbook_lib.maintenance.rotation import Rotation
from runbook_lib.maintenance.rotation_plan import RotationPlan, rotation_plan
from runbook_lib.pipeline.brakes import provider_states
from runbook_lib.settings import current_actor, load_settings

PAUSED = {"OPENAI_API_KEY": "openai", "WORDPRESS_APP_PASSWORD": "wordpress"}


@dataclass(frozen=True)
class KeyCompromise(Answer):
    """Where a stolen credential's replacement stands; shown in a notebook, it is the answer."""

    check: Check
    credential: str
    steps_rows: tuple[Mapping[str, str], ...]
    misuse_checks: tuple[Check, ...]
    use_check: Check | None
    problem: str | None = None

    @property
    def steps(self) -> Table:
        """What to do in which order, how far it is, and what to type. The value is asked for, never shown."""
        return table(
            self.steps_rows, ("step", "state", "why", "command"), f"No plan: {self.problem}"
        )

    @property
    def misuse(self) -> Table:
        """Signs that somebody else uses it."""
        return checks_table(self.misuse_checks, "Nothing could be asked.")

    @property
    def use(self) -> Table:
        """Which of our workers have the value that is in the store."""
        return checks_table([self.use_check] if self.use_check else [], "Not known.")

    def sentences(self) -> list[str]:
        following = next((row for row in self.steps_rows if row["state"] == "next"), None)
        return [f"Next: {following['step']}. Type: {following['command']}"] if following else []

    def results(self) -> dict[str, Any]:
        return {
            "credential": self.credential,
            "steps": {row["step"]: row["state"] for row in self.steps_rows},
            "misuse": {check.name: check.verdict for check in self.misuse_checks},
            "use": self.use_check.verdict if self.use_check else None,
            "problem": self.problem,
        }


def key_compromise(
    sources: Sources,
    *,
    credential: str = "OPENAI_API_KEY",
    since_hours: int = 72,
    revoke_first: bool = False,
) -> KeyCompromise:
    """How far the replacement of a stolen credential is, and whether somebody uses it. Only reads, never raises."""
    try:
        name = require_name(credential)
        settings = load_settings()
        rotation = Rotation(settings, sources.bookkeeping, name, current_actor())
        present = rotation.present_handle()
        misuse = signs_of_misuse(settings, sources, name, since_hours)
        if present is None:
            return _nothing_to_steal(name, misuse)
        plan = rotation_plan(rotation)
        paused = _is_paused(sources, name)
        use = rotation.verify()
    except (RunbookError, psycopg2.Error) as error:
        words = one_line(str(error).splitlines()[0], 500)
        check = Check("key.compromise", "not_enough_data", f"It cannot be told how it stands. {words}", next="`runbook doctor`; a stolen key can be replaced without the database: docs/credentials.md.")  # fmt: skip
        return KeyCompromise(check, credential, (), (), None, words)
    steps = tuple(_steps(name, plan, paused, revoke_first))
    return KeyCompromise(_overall(name, present, plan, misuse), name, steps, misuse, use)


def _is_paused(sources: Sources, name: str) -> bool:
    if sources.attached or name not in PAUSED:
        return False
    states = provider_states(sources.bookkeeping)
    return any(state.pause is not None for state in states if state.provider == PAUSED[name])


def _steps(name: str, plan: RotationPlan, paused: bool, revoke_first: bool) -> list[dict[str, str]]:
    """Pause, the rotation's own steps, resume; the state of each. The first that is not done is the next one."""
    rotation = [(step.step, step.state, step.what, step.command) for step in plan.steps]
    if revoke_first:
        rotation = [
            ("revoke", "later", "At once, at the provider: the thief is out, and our jobs wait behind the pause.", "at the provider's page"),
            *rotation,
        ]  # fmt: skip
    replaced = any(step == "activate" and state == "done" for step, state, _, _ in rotation)
    ordered = [*_pause(name, paused or replaced), *rotation, *_resume(name)]
    rows, reached = [], False
    for step, state, why, command in ordered:
        done = state == "done" and not reached
        rows.append({"step": step, "state": "done" if done else "later" if reached else "next", "why": why, "command": command})  # fmt: skip
        reached = reached or not done
    return rows


def _pause(name: str, done: bool) -> list[tuple[str, str, str, str]]:
    if name not in PAUSED:
        return []
    why = "Jobs wait, uncharged, instead of failing; what the thief does is no longer hidden among ours."
    state = "done" if done else "next"
    return [("pause", state, why, f"runbook pause {PAUSED[name]} --reason 'key may be stolen'")]


def _resume(name: str) -> list[tuple[str, str, str, str]]:
    if name not in PAUSED:
        return []
    return [("resume", "later", "Jobs go on with the new one.", f"runbook resume {PAUSED[name]}")]


def _overall(name: str, present: str, plan: RotationPlan, misuse: tuple[Check, ...]) -> Check:
    signs = [check for check in misuse if check.verdict in ("warning", "critical")]
    states = {step.step: step.state for step in plan.steps}
    if states["activate"] == "done":
        words = f"{name} was replaced; {present} is in use. The earlier one waits to be revoked."
    elif states["stage"] == "done":
        words = f"A new {name} is staged; {present}, which may be stolen, is still in use."
    else:
        words = f"{present} is in use for {name}, and no newer value waits."
    if signs:
        words += f" Somebody else may use it: {signs[0].message}"
        return Check("key.compromise", "critical", words, len(signs), "signs", 0, signs[0].source, next=signs[0].next)  # fmt: skip
    words += " No sign of misuse was found where it could be asked." if any(check.answered for check in misuse) else " Whether it is misused could not be asked."  # fmt: skip
    return Check(
        "key.compromise", "warning", words, 0, "signs", 0, "credentials",
        "that it was not stolen: reading leaves no trace",
        "If you suspect it, go through the steps; if not, nothing is to be done.",
    )  # fmt: skip


def _nothing_to_steal(name: str, misuse: tuple[Check, ...]) -> KeyCompromise:
    check = Check("key.compromise", "ok", f"{name} is not set: what stands in for it opens nothing outside this machine.", source="settings")  # fmt: skip
    return KeyCompromise(check, name, (), misuse, None)
