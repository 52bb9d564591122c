"""Which columns each check and each figure needs: what a pipeline that is not ours can be asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from runbook_lib.health.mapping import STATEMENTS

_ENDED = ("runs.status", "runs.execution_time")
# Figure → the columns without which it says nothing.
FIGURES: Mapping[str, tuple[str, ...]] = {
    "attempts and rates by day and hour": _ENDED,
    "jobs that failed for good, by day": (*_ENDED, "runs.job_status"),
    "durations of whole attempts": (*_ENDED, "runs.started_at", "runs.completed_at"),
    "durations of writing, by model": (*_ENDED, "runs.write_seconds"),
    "durations of publishing": (*_ENDED, "runs.publish_seconds"),
    "failures by text": (*_ENDED, "runs.error"),
    "failures by class": (*_ENDED, "runs.error_class"),
    "tokens by day": (*_ENDED, "runs.tokens"),
    "cost by day and model": (*_ENDED, "runs.tokens", "runs.model", "runs.cost_usd"),
    "queue: how many wait, since when": ("jobs.status", "jobs.created_at"),
    "queue: how many are worked on, since when": ("jobs.status", "jobs.started_at"),
    "queue: expired leases": ("jobs.status", "jobs.lease_until"),
}


@dataclass(frozen=True)
class Needed:
    """One thing that can be asked: `kind` is figure, check or statement."""

    kind: str
    needs: tuple[str, ...]


@cache
def answers() -> Mapping[str, Needed]:
    """Everything that can be asked of a pipeline, by name, in the order in which it is told."""
    from runbook_lib.health.survey import DECLARED

    statements = {
        f"the runbook's {name}": Needed(
            "statement", tuple(f"{relation}.{column}" for column in columns)
        )
        for name, (relation, columns) in STATEMENTS.items()
    }
    figures = {name: Needed("figure", needs) for name, needs in FIGURES.items()}
    checks = {check.name: Needed("check", check.needs) for check in DECLARED}
    return {**statements, **figures, **checks}


def lacking(missing: Callable[[Iterable[str]], list[str]]) -> dict[str, list[str]]:
    """What cannot be answered → the columns that it lacks. `missing` is a mapping's or `Sources.missing`."""
    found = {name: missing(answer.needs) for name, answer in answers().items()}
    return {name: columns for name, columns in found.items() if columns}


def as_markdown() -> str:
    """The table in docs/adopting.md: what works with which columns."""
    lines = ["| what | kind | columns without which it cannot be told |", "|---|---|---|"]
    for name, answer in answers().items():
        if answer.needs:
            columns = ", ".join(f"`{need}`" for need in dict.fromkeys(answer.needs))
            lines.append(f"| {name} | {answer.kind} | {columns} |")
    lines.append("| every other check | check | none of theirs |")
    return "\n".join(lines)
