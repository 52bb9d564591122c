"""Facts: what the evidence says, as statements that hold, do not hold, or are not known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from runbook_lib.database.statements import find_statement
from runbook_lib.health.checks import Check

# From outside in: the way of a job, then those who carry it. A cause and a fact name one of these.
LAYERS = (
    "resolve", "connect", "log in", "query", "claim", "generate", "draft", "publish", "record",
    "workers", "scheduler", "clocks", "configuration", "data",
)  # fmt: skip


@dataclass(frozen=True)
class Fact:
    """One statement about the system. `holds` None: it could not be told.

    `value` beside `threshold` is the figure behind it; `source` names the statement or probe from which
    anybody can have it again. `symptom`: where it holds, the layer does not do its work, whatever the
    cause; `severe` says that jobs stop or get lost by it. `subject` names whom it is about: a worker, the
    process of a session, a job, a category. `clue`: no trouble by itself; told where no cause is known. `next`
    is what the probe that saw it advises.
    """

    name: str
    layer: str
    holds: bool | None
    words: str
    value: Any = None
    threshold: Any = None
    source: str = ""
    symptom: bool = False
    severe: bool = False
    subject: Mapping[str, Any] = field(default_factory=dict)
    clue: bool = False
    next: str | None = None

    def cited(self) -> dict[str, Any]:
        """As a line of evidence: the statement or probe, the figure and what it is measured by, and how anybody
        asks the same again."""
        statement = find_statement(self.source)
        again = f"runbook triage --statement {statement.source}" if statement else "runbook doctor"
        return {
            "fact": self.name, "statement" if statement else "probe": self.source, "value": self.value,
            "threshold": self.threshold, "words": self.words, "again": again,
        }  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """All facts by name. One that nobody stated is not known."""

    by_name: dict[str, Fact] = field(default_factory=dict)

    @classmethod
    def of(cls, facts: Iterable[Fact]) -> Facts:
        return cls({fact.name: fact for fact in facts})

    def __iter__(self) -> Iterator[Fact]:
        return iter(self.by_name.values())

    def holds(self, name: str) -> bool | None:
        fact = self.by_name.get(name)
        return None if fact is None else fact.holds

    def holding(self, names: Iterable[str]) -> list[Fact]:
        return [self.by_name[name] for name in names if self.holds(name)]

    def clues(self) -> list[Fact]:
        """What is no trouble by itself, and may be the reason where no cause is known."""
        return [fact for fact in self if fact.clue and fact.holds]

    def symptoms(self) -> list[Fact]:
        """What holds and is a symptom, from the outermost layer on."""
        found = [fact for fact in self if fact.symptom and fact.holds]
        return sorted(found, key=lambda fact: LAYERS.index(fact.layer))


def fact_of_check(
    name: str, layer: str, holds: bool | None, check: Check | None, words: str, *,
    figure: Callable[[Check], Any], symptom: bool = False, severe: bool = False, source: str = "",
    subject: Mapping[str, Any] | None = None,
) -> Fact:  # fmt: skip
    """A fact that a check told. `figure` picks what stands for it; where there is none, its verdict does."""
    if check is None:
        return Fact(name, layer, holds, words, None, None, source, symptom, severe, subject or {})
    value = figure(check)
    return Fact(
        name, layer, holds, words, check.verdict if value is None else value, check.threshold,
        check.source or check.name, symptom, severe, subject or {}, next=check.next,
    )  # fmt: skip


def figure_of(check: Check) -> Any:
    """A check's own figure; where it has none, the reason that it gives."""
    if check.value is not None:
        return check.value
    return check.details.get("reason") or check.details.get("kind") or None


def rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
