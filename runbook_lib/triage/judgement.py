"""From facts to causes: what each cause predicts, compared with what was seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from runbook_lib.triage.causes import BY_ID, CAUSES, SHOWN_BY_ITSELF, Cause, FirstAction
from runbook_lib.triage.facts import LAYERS, Fact, Facts

Outcome = Literal["fault", "healthy", "watch", "unknown"]
# Less than two sources, and one text line could name a culprit.
FEWEST_SOURCES = 2
_BASE, _SUPPORT = 0.6, 0.39
# Say that something is wrong, and not where.
GENERIC = ("check.", "attempts.", "database.history_unread", "database.not_opened")


@dataclass(frozen=True)
class Found:
    """A cause that fits, how well, and on what evidence. `over`: it has passed; it is to be watched."""

    cause: Cause
    confidence: float
    evidence: tuple[Fact, ...]
    over: bool = False

    @property
    def subject(self) -> dict[str, Any]:
        """Whom the evidence is about; what comes first in it wins."""
        found: dict[str, Any] = {}
        for fact in self.evidence:
            found = {**fact.subject, **found}
        return found

    @property
    def action(self) -> FirstAction:
        """The first action, for whom it is about."""
        return self.cause.action.about(self.subject)


@dataclass(frozen=True)
class Judgement:
    """What the facts amount to. `layer` is that of the first cause, or the one that trouble is narrowed to."""

    verdict: Outcome
    causes: tuple[Found, ...]
    layer: str | None
    unexplained: tuple[Fact, ...] = ()
    maintenance: str | None = None


def judge(facts: Facts, causes: Sequence[Cause] = CAUSES) -> Judgement:
    """Names every cause that fits and that no other one explains."""
    symptoms = facts.symptoms()
    if facts.holds("maintenance.planned"):
        words = facts.by_name["maintenance.planned"].words
        return Judgement("watch" if symptoms else "healthy", (), None, tuple(symptoms), words)
    found = _without_consequences(
        [each for cause in causes if (each := fit(cause, facts)) is not None], facts
    )
    found.sort(
        key=lambda each: (
            each.over, each.cause.of_single_jobs, -each.confidence, LAYERS.index(each.cause.layer),
        )
    )  # fmt: skip
    if any(not each.over for each in found):
        return Judgement("fault", tuple(found), found[0].cause.layer, _unexplained(symptoms, found))
    serious = [fact for fact in symptoms if fact.severe or fact.name.startswith("failing.")]
    cited = {fact.name for each in found for fact in each.evidence}
    open_ones = [fact for fact in serious if fact.name not in cited]
    # What is over explains no trouble that stands.
    left = any(fact.severe and not fact.name.startswith(GENERIC) for fact in open_ones)
    if serious and (left or not found):
        return Judgement(
            "unknown", (), _narrowed(open_ones or serious), (*symptoms, *facts.clues())
        )
    if found:
        return Judgement("watch", tuple(found), found[0].cause.layer, _unexplained(symptoms, found))
    return Judgement("watch" if symptoms else "healthy", (), None, tuple(symptoms))


def fit(cause: Cause, facts: Facts) -> Found | None:
    """How well a cause fits; None when it does not."""
    if any(facts.holds(name) for name in cause.excludes):
        return None
    if not all(facts.holds(name) for name in cause.needs):
        return None
    groups = [facts.holding(group) for group in cause.one_of]
    if not all(groups):
        return None
    supports = facts.holding(cause.supports)
    evidence = _once(
        [*facts.holding(cause.needs), *(fact for group in groups for fact in group), *supports]
    )
    if len({fact.source for fact in evidence}) < FEWEST_SOURCES:
        return None
    answered = sum(
        weight for name, weight in cause.supports.items() if facts.holds(name) is not None
    )
    held = sum(cause.supports[fact.name] for fact in supports)
    confidence = _BASE + _SUPPORT * (held / answered if answered else 0.5)
    over = bool(cause.stands) and not any(facts.holds(name) for name in cause.stands)
    return Found(cause, round(confidence, 2), tuple(evidence), over)


def _without_consequences(found: Iterable[Found], facts: Facts) -> list[Found]:
    """Leaves out what another cause that fits explains, unless a probe from here shows it by itself.

    What is over explains nothing that stands.
    """
    present = list(found)
    standing = any(not each.over for each in present)
    explained = {
        name for each in present if not (each.over and standing)
        for name in each.cause.explains if name != each.cause.id
    }  # fmt: skip
    return [
        each
        for each in present
        if each.cause.id not in explained
        or facts.holds(SHOWN_BY_ITSELF.get(each.cause.id, "")) is True
    ]


def _unexplained(symptoms: Sequence[Fact], found: Sequence[Found]) -> tuple[Fact, ...]:
    """Symptoms that neither a cause cites nor one that follows from it."""
    cited = {fact.name for each in found for fact in each.evidence}
    follow = [BY_ID[name] for each in found for name in each.cause.explains]
    cited |= {name for cause in follow for name in (*cause.needs, *chain(*cause.one_of))}
    layers = {each.cause.layer for each in found}
    return tuple(
        fact
        for fact in symptoms
        if fact.name not in cited and fact.layer not in layers and not fact.name.startswith(GENERIC)
    )


def _narrowed(serious: Sequence[Fact]) -> str:
    """The outermost layer that does not do its work; what only says that something is wrong comes last."""
    telling = [fact for fact in serious if not fact.name.startswith(GENERIC)] or list(serious)
    severe = [fact for fact in telling if fact.severe] or telling
    return severe[0].layer


def _once(facts: Iterable[Fact]) -> list[Fact]:
    return list({fact.name: fact for fact in facts}.values())
