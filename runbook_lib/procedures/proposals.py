"""A change as a notebook proposes it: looked at first, applied only when told to, refused in words.

A cell must not rely on an earlier one having stopped the run: nbval and "run all" go on. So nothing here
raises for what it finds, and everything that stands against a change is looked at when it is applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg2

from runbook_lib import changes
from runbook_lib.changes import ChangeResult, Plan
from runbook_lib.credentials.masking import one_line
from runbook_lib.errors import PlanRefused, RunbookError
from runbook_lib.health.answers import verdict_box
from runbook_lib.health.checks import Check, Verdict
from runbook_lib.health.tables import Table
from runbook_lib.settings import current_actor

if TYPE_CHECKING:
    from runbook_lib.procedures.workplace import Workplace

_NOT_OURS = "This pipeline is not ours: the workbench reads it and changes nothing there. Do it with your own tools."


@dataclass(frozen=True)
class Applied:
    """What became of a proposal.

    `outcome`: dry (nothing was to be changed yet), nothing_to_do, applied, refused (nothing was changed),
    or failed (what was changed until then is in `result`; applying again goes on).
    """

    outcome: str
    message: str
    result: ChangeResult | None = None

    @property
    def check(self) -> Check:
        verdicts: dict[str, Verdict] = {"refused": "warning", "failed": "critical"}
        return Check(
            "change.applied", verdicts.get(self.outcome, "ok"), self.message,
            self.result.changed if self.result else 0, "rows", source="changes",
        )  # fmt: skip

    def results(self) -> dict[str, Any]:
        """For the record: what was changed, and by which change."""
        record = self.result.as_record() if self.result else {}
        return {"outcome": self.outcome, "message": self.message, **record}

    def __repr__(self) -> str:
        return f"{self.outcome.replace('_', ' ')}: {self.message}"

    def _repr_html_(self) -> str:
        return verdict_box(self.check.verdict, self.message, word=self.outcome)


@dataclass(frozen=True)
class Proposal:
    """A planned change, ready to be looked at and applied. `plan` is None when it could not be planned, or
    there is nothing to plan since all is `well`; `problem` says why."""

    workplace: Workplace
    kind: str
    plan: Plan | None
    guards: Sequence[Check] = ()
    problem: str | None = None
    against: list[str] = field(default_factory=list)
    well: bool = False

    @property
    def row_count(self) -> int:
        return self.plan.row_count if self.plan else 0

    @property
    def sample(self) -> Table:
        """Up to ten of the rows that would be changed, from both ends."""
        import pandas

        rows = self.plan.sample if self.plan else []
        return Table(pandas.DataFrame(rows), empty="There is nothing to change.")

    def apply(self, *, dry_run: bool = True, reason: str | None = None) -> Applied:
        """Applies the plan that was shown; dry unless told otherwise. Never raises for what stands against
        it: a guard that is not well or has no answer, drift, the limit, a second time, a schedule that does
        not allow it, a database that is away."""
        plan = self.plan
        if self.well:
            return Applied("nothing_to_do", f"{self.problem} There is nothing to change.")
        if plan is None:
            return Applied("refused", self.problem or "There is no plan.")
        if not plan.row_count:
            return Applied("nothing_to_do", "There is nothing to change.")
        if self.against:
            return Applied("refused", f"Nothing was changed. {' '.join(self.against)}")
        return _apply(self.workplace, plan, dry_run, reason)

    def undo(self, *, dry_run: bool = True, reason: str | None = None) -> Applied:
        """Takes the applied change back; dry unless told otherwise. Never raises, as `apply`."""
        if self.plan is None:
            return Applied(
                "nothing_to_do", "Nothing was planned, so there is nothing to take back."
            )
        try:
            now = changes.find(self.workplace.database, self.plan.change_id)
            if now.applied_at is None:
                return Applied(
                    "nothing_to_do", "It was not applied, so there is nothing to take back."
                )
            inverse = changes.plan_undo(
                self.workplace.database, self.plan.change_id, actor=current_actor()
            )
        except (RunbookError, psycopg2.Error) as error:
            return Applied("refused", _words(error))
        return _apply(self.workplace, inverse, dry_run, reason)

    def results(self) -> dict[str, Any]:
        """For the record: what was looked at."""
        if self.plan is None:
            return {"planned": None, "problem": self.problem}
        return {
            "planned": self.plan.change_id, "kind": self.kind, "rows": self.plan.row_count,
            "digest": self.plan.digest,
        }  # fmt: skip

    def _sentences(self) -> list[str]:
        if self.plan is None:
            return [self.problem or "It could not be planned."]
        plan = self.plan
        if not plan.row_count:
            return ["There is nothing to change."]
        told = [f"{plan.row_count:,} would be changed by {plan.kind} (limit {plan.row_limit:,})."]
        if plan.oldest and plan.newest:
            told.append(f"The oldest is of {plan.oldest:%Y-%m-%d %H:%M}, the newest of {plan.newest:%Y-%m-%d %H:%M} UTC.")  # fmt: skip
        told.append(f"Plan {plan.change_id}, digest {plan.digest[:12]}.")
        return [*told, *self.against]

    def __repr__(self) -> str:
        rows = f"\n{self.sample!r}" if self.row_count else ""
        return " ".join(self._sentences()) + rows

    def _repr_html_(self) -> str:
        stands_against = self.against or (self.plan is None and not self.well)
        verdict = "warning" if stands_against else "ok"
        shown = verdict_box(
            verdict, " ".join(self._sentences()), word="plan" if self.plan else "no plan"
        )
        return shown + (self.sample._repr_html_() if self.row_count else "")


def propose(
    workplace: Workplace,
    kind: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    guards: Sequence[Check] = (),
    row_limit: int | None = None,
) -> Proposal:
    """Plans a change of this kind, without changing anything. Never raises for what it finds.

    `guards` are checks that have to be ok, or no worse than a warning, for the change to be safe; one that
    is critical or has no answer refuses it when it is applied. Parameters that are None are left out.
    """
    against = [
        f"{guard.name} is {guard.verdict.replace('_', ' ')}: {guard.message}"
        for guard in guards
        if guard.verdict not in ("ok", "warning")
    ]
    if workplace.problem or workplace.sources.attached:
        return Proposal(workplace, kind, None, guards, workplace.problem or _NOT_OURS)
    given = {name: value for name, value in (parameters or {}).items() if value is not None}
    try:
        plan = changes.plan(
            workplace.database, kind, given, actor=current_actor(), row_limit=row_limit
        )
    except (RunbookError, psycopg2.Error) as error:
        return Proposal(workplace, kind, None, guards, _words(error))
    if plan.exceeds_limit:
        against.append(f"{plan.row_count:,} are more than the limit of {plan.row_limit:,}.")
    return Proposal(workplace, kind, plan, guards, None, against)


def _apply(workplace: Workplace, plan: Plan, dry_run: bool, reason: str | None) -> Applied:
    try:
        result = changes.apply(
            workplace.database,
            plan.change_id,
            actor=current_actor(),
            dry_run=dry_run,
            reason=reason,
        )
    except PlanRefused as error:
        return Applied("refused", _words(error))
    except (RunbookError, psycopg2.Error) as error:
        return Applied("failed", _words(error))
    if dry_run:
        return Applied("dry", f"Dry: nothing was changed; {result.left:,} would be.", result)
    told = f"{result.changed:,} changed, {result.unchanged:,} were so already"
    if result.status != "applied":
        return Applied("failed", f"{told}, {result.failed:,} failed, {result.left:,} are left.", result)  # fmt: skip
    return Applied("applied", f"{told}. Change {result.change_id}.", result)


def _words(error: Exception) -> str:
    return one_line(str(error), 500)
