"""The alert of a practice: what the staged system's own checks say is wrong, and never why."""

from __future__ import annotations

import psycopg2

from runbook_lib.errors import RunbookError
from runbook_lib.health.checks import Check
from runbook_lib.health.context import open_context
from runbook_lib.health.survey import survey
from runbook_lib.rehearsal.repertoire import HEALTHY, Practice
from runbook_lib.rehearsal.scene import Scene

# What tells that something is wrong, and leaves open what: the others name the part that is.
OUTSIDE = ("queue.last_success", "queue.oldest_pending", "queue.stuck", "workers.alive", "scheduler.absent_runs")  # fmt: skip
DEADLINE_SECONDS = 4.0


def alert_of(scene: Scene, practice: Practice) -> str:
    """What the checks raise of it; else, as before any check has noticed, what the card says."""
    raised = [] if practice.kind == HEALTHY else _raised(scene)
    if not raised:
        return practice.card.alert
    return "\n".join(f"{check.verdict.upper()} {check.name}: {check.message}" for check in raised)


def _raised(scene: Scene) -> list[Check]:
    try:
        with open_context(scene.looking, require_schema=False) as context:
            found = survey(context, only=OUTSIDE, deadline_seconds=DEADLINE_SECONDS)
    except (RunbookError, psycopg2.Error):
        return []
    return [check for check in found.worst_first() if check.verdict in ("critical", "warning") and check.name in OUTSIDE]  # fmt: skip
