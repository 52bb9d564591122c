"""The card of a procedure: what somebody who is called at night must know before the first cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from typing import Any

from runbook_lib.errors import UsageError

METADATA_KEY = "runbook"
LEVELS = {1: "System Administrator", 2: "Senior Developer", 3: "Technical Lead"}


@dataclass(frozen=True)
class Card:
    """A procedure's card, from the notebook's metadata under `runbook`.

    `changes` says in words what it changes, "nothing" for a report. `level` is the escalation level
    that may run it (1 to 3). `alert` is the alert that leads here, None for a routine procedure.
    """

    title: str
    purpose: str
    changes: str
    level: int
    owner: str
    expected_minutes: float
    alert: str | None
    version: str
    reviewed_on: date
    reviewed_by: str
    next_review: date

    @property
    def read_only(self) -> bool:
        return self.changes.strip().lower().startswith("nothing")

    def overdue(self, today: date) -> bool:
        """Whether somebody should have looked through it again by now."""
        return today > self.next_review

    def markdown(self) -> str:
        """The card as the notebook's first cell shows it."""
        minutes = f"{self.expected_minutes:g} minute{'' if self.expected_minutes == 1 else 's'}"
        facts = {
            "Changes": self.changes,
            "Level": f"{self.level}, {LEVELS[self.level]}",
            "Owner": self.owner,
            "Takes": f"about {minutes}",
            "Alert": self.alert or "none, routine",
            "Version": self.version,
            "Reviewed": f"{self.reviewed_on.isoformat()} by {self.reviewed_by}",
            "Next review": self.next_review.isoformat(),
        }
        line = " · ".join(f"**{label}:** {value}" for label, value in facts.items())
        return f"# {self.title}\n\n{self.purpose}\n\n{line}"


def read_card(metadata: Mapping[str, Any], procedure: str) -> Card:
    """The card in a notebook's metadata. Raises `UsageError` that names every field that is wrong."""
    found = metadata.get(METADATA_KEY)
    if not isinstance(found, Mapping):
        raise UsageError(f"{procedure} has no card: its metadata lacks {METADATA_KEY!r}.")
    names = {field.name for field in fields(Card)}
    problems = [f"{name} is missing" for name in sorted(names - found.keys())]
    problems += [f"{name} is unknown" for name in sorted(found.keys() - names)]
    values = dict(found)
    for name in ("title", "purpose", "changes", "owner", "version", "reviewed_by"):
        if name in values and not (isinstance(values[name], str) and values[name].strip()):
            problems.append(f"{name} must be a text")
    for name in ("reviewed_on", "next_review"):
        if name in values:
            values[name], problem = _date(name, values[name])
            problems += problem
    if "level" in values and values["level"] not in LEVELS:
        problems.append(f"level must be 1, 2 or 3, not {values['level']!r}")
    minutes = values.get("expected_minutes", 1)
    if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 < minutes <= 1440:
        problems.append(f"expected_minutes must be a number of minutes, not {minutes!r}")
    if not isinstance(values.get("alert"), str | None):
        problems.append("alert must be a text or null")
    if problems:
        raise UsageError(f"The card of {procedure} does not fit: {'; '.join(problems)}.")
    return Card(**values)


def _date(name: str, value: Any) -> tuple[date | None, list[str]]:
    try:
        return date.fromisoformat(value), []
    except (TypeError, ValueError):
        return None, [f"{name} must be a date such as 2026-11-24, not {value!r}"]
