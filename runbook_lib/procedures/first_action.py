"""The first safe action that triage names, as a proposal: looked at, dry, and refused where it is not safe."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from runbook_lib.health.checks import Check
from runbook_lib.procedures.proposals import Proposal, propose
from runbook_lib.triage.diagnosis import Diagnosis
from runbook_lib.triage.judgement import Found

if TYPE_CHECKING:
    from runbook_lib.procedures.workplace import Workplace

_NO_CHANGE = "first action"


def propose_first_action(workplace: Workplace, diagnosis: Diagnosis) -> Proposal:
    """Plans the first action of the first cause. Where that is nothing that the workbench changes, the
    proposal says what to do instead, and applying it changes nothing."""
    first = diagnosis.first
    if diagnosis.verdict == "healthy":
        return Proposal(workplace, _NO_CHANGE, None, (), "Every layer does its work.", well=True)
    if first is None:
        words = "No cause was named, so no action is known to be safe. See which layer it is, and who to tell."
        return Proposal(workplace, _NO_CHANGE, None, (), words)
    action = first.action
    if action.change is None:
        words = f"This is not a change that the workbench makes: {action.words} `{action.command}`"
        return Proposal(workplace, _NO_CHANGE, None, (), words)
    return propose(workplace, action.change, dict(action.parameters), guards=(_guard(diagnosis),))


def plan_command(found: Found) -> str | None:
    """The command that plans the first action for whom it is about; None where it is no change of ours."""
    action = found.action
    if action.change is None:
        return None
    given = " ".join(f"-p {shlex.quote(f'{name}={value}')}" for name, value in action.parameters.items())  # fmt: skip
    return f"runbook changes plan {action.change} {given}".strip()


def who(found: Found) -> str:
    """Whom the action is about, in words; nothing where it is nobody in particular, as for a pause."""
    if not any(str(value).startswith("{") for value in found.cause.action.parameters.values()):
        return ""
    return ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in found.subject.items() if value
    )


def _guard(diagnosis: Diagnosis) -> Check:
    """The action holds for a fault that lasts; for one that is over, there is nothing to brake."""
    first = diagnosis.first
    fits = first is not None and not first.over and first.action.automation != "N"
    words = (
        "The cause stands, and its first action is safe."
        if fits
        else "The cause is over, or its action is not one to be planned."
    )
    return Check("triage.action_fits", "ok" if fits else "not_enough_data", words, source="triage")
