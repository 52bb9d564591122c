"""First actions that are done by themselves: off, unless the policy names the cause.

The monitor asks, while something is critical. What is done goes through the same plans as a person's: looked
at first, refused on drift, within a budget a day, with a row in `admin_actions` that names cause and evidence,
and an alert that says how it is taken back. What is refused leaves a row too.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

import psycopg2

from runbook_lib import changes
from runbook_lib.changes import admin_action
from runbook_lib.credentials.masking import mask, one_line
from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.errors import ConfigurationError, PlanRefused, RunbookError
from runbook_lib.health.checks import Check
from runbook_lib.health.context import Context
from runbook_lib.pipeline.permits import Event, add_event
from runbook_lib.policy import Automation as Rules
from runbook_lib.triage.causes import BY_ID, Cause
from runbook_lib.triage.diagnosis import Diagnosis, diagnose_context
from runbook_lib.triage.judgement import Found

_SQL = load("automation")
ACTOR = "automation"
_EVIDENCE_NAMED = 3


@dataclass(frozen=True)
class Deed:
    """What became of one first action. `outcome`: applied, refused or failed; `why` says so in words."""

    cause: str
    kind: str
    outcome: str
    why: str
    change_id: str | None = None


def may_be_automated() -> dict[str, Cause]:
    """The causes whose first action is a change and safe without a person."""
    return {
        name: cause
        for name, cause in BY_ID.items()
        if cause.action.automation == "Y" and cause.action.change is not None
    }


def require_automatable(causes: Collection[str]) -> None:
    """Raises `ConfigurationError` for a cause that is not known, or whose first action is not to be automated."""
    for name in causes:
        if name in may_be_automated():
            continue
        raise ConfigurationError(f"RUNBOOK_CONFIG: automation.causes: {_why_not(name)}")


def _why_not(name: str) -> str:
    cause = BY_ID.get(name)
    if cause is None:
        close = get_close_matches(name, BY_ID, n=1)
        return f"there is no cause {name!r}. " + (
            f"Did you mean {close[0]}?" if close else f"There is {', '.join(may_be_automated())}."
        )
    if cause.action.automation == "Y":
        return f"for {name} there is nothing to be done by itself: {cause.action.words}"
    who = "a person confirms it" if cause.action.automation == "P" else "only a person can do it"
    return (
        f"the first action for {name} is not safe without a person ({cause.action.automation}: {who}). "
        f"Automated may be {', '.join(may_be_automated())}."
    )


class Automation:
    """What one monitor does by itself. Raises `ConfigurationError` for rules that name what may not be automated."""

    def __init__(self, rules: Rules) -> None:
        require_automatable(rules.causes)
        self._rules = rules
        self._looked_at: float | None = None

    def after_survey(self, context: Context, checks: Sequence[Check]) -> list[dict[str, Any]]:
        """Asks triage when something is critical, and does what the rules allow; what was done, for the log."""
        if not self._is_due(context, checks):
            return []
        self._looked_at = time.monotonic()
        return [asdict(deed) for deed in self.act(context, diagnose_context(context))]

    def _is_due(self, context: Context, checks: Sequence[Check]) -> bool:
        if not self._rules.causes or context.sources.attached:
            return False
        if not any(check.verdict == "critical" for check in checks):
            return False
        waited = None if self._looked_at is None else time.monotonic() - self._looked_at
        return waited is None or waited >= 60 * self._rules.look_every_minutes

    def act(self, context: Context, diagnosis: Diagnosis) -> list[Deed]:
        """The first action of each cause that stands, that is sure enough, and that the rules name."""
        if diagnosis.verdict != "fault":
            return []
        deeds = [self._do(context.sources.bookkeeping, found) for found in self._chosen(diagnosis)]
        return [deed for deed in deeds if deed is not None]

    def _chosen(self, diagnosis: Diagnosis) -> list[Found]:
        return [
            found
            for found in diagnosis.causes
            if found.cause.id in self._rules.causes
            and not found.over
            and found.confidence >= self._rules.least_confidence
            # For whom it is about may not be known: then there is nothing to plan.
            and found.action.change is not None
            and found.action.automation == "Y"
        ]

    def _do(self, database: Database, found: Found) -> Deed | None:
        """None where the same was refused, and said, within the hour."""
        kind = str(found.action.change)
        try:
            if (why := self._against(database, kind, self._parameters(found))) is not None:
                return _refuse(database, found, kind, why)
            plan = changes.plan(database, kind, self._parameters(found), actor=ACTOR)
            result = changes.apply(
                database, plan.change_id, actor=ACTOR, dry_run=False, reason=_reason(found)
            )
            done = "applied" if result.status == "applied" else "failed"
            words = f"{kind}: {result.changed} changed, {result.failed} failed, {result.left} left."
            _tell(database, found, kind, plan.change_id, words, result.undo is not None)
            return Deed(found.cause.id, kind, done, words, plan.change_id)
        except PlanRefused as error:
            return _refuse(database, found, kind, _words(error))
        except (RunbookError, psycopg2.Error) as error:
            return Deed(found.cause.id, kind, "failed", _words(error))

    def _parameters(self, found: Found) -> Mapping[str, Any]:
        given = dict(found.action.parameters)
        if found.action.change == "provider.pause":
            # Nobody may be there to resume it.
            given["minutes"] = self._rules.pause_minutes
        return given

    def _against(self, database: Database, kind: str, parameters: Mapping[str, Any]) -> str | None:
        """What stands against it, in words; None when nothing does."""
        with database.transaction(read_only=True) as transaction:
            done = int(transaction.value(_SQL["acted_today"], actor=ACTOR))
        if done >= self._rules.actions_per_day:
            return f"the budget of {self._rules.actions_per_day} actions within 24 hours is spent (automation.actions_per_day)"
        preview = changes.look(database, kind, parameters)
        if not preview.count:
            return "there is nothing to change: it is so already, or whoever it was about is gone"
        return None


def done_lately(database: Database, row_count: int = 5) -> list[Any]:
    """What was done by itself within a day, and what was refused; the newest first."""
    with database.transaction(read_only=True) as transaction:
        return transaction.rows(_SQL["lately"], actor=ACTOR, row_count=row_count)


def _reason(found: Found) -> str:
    evidence = "; ".join(fact.words for fact in found.evidence[:_EVIDENCE_NAMED])
    return one_line(
        mask(f"{found.cause.id}, {found.confidence:.0%} sure by triage: {evidence}"), 500
    )


def _refuse(database: Database, found: Found, kind: str, why: str) -> Deed | None:
    """Records that it was not done, once an hour for the same reason."""
    with database.transaction(read_only=True) as transaction:
        if transaction.value(
            _SQL["said_lately"], actor=ACTOR, kind=kind, cause=found.cause.id, why=why
        ):
            return None
    try:
        with admin_action(
            database, actor=ACTOR, action=kind, target=found.cause.id, reason=_reason(found)
        ):
            raise PlanRefused(why)
    except PlanRefused:
        return Deed(found.cause.id, kind, "refused", why)


def _tell(
    database: Database, found: Found, kind: str, change_id: str, words: str, can_be_undone: bool
) -> None:
    undo = (
        f" `runbook changes undo {change_id}` takes it back."
        if can_be_undone
        else " It needs no undoing."
    )
    message = f"By itself, for {found.cause.id} ({found.confidence:.0%} sure): {words}{undo} The cause is yours: {found.cause.action.words}"
    details = {"cause": found.cause.id, "kind": kind, "change_id": change_id}
    with database.transaction() as transaction:
        add_event(
            transaction, ACTOR, Event("automation_acted", message, "warning", details=details)
        )


def _words(error: Exception) -> str:
    return one_line(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__, 300)  # fmt: skip
