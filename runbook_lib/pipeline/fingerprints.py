"""Fingerprints of failures: the same cause has the same id, whatever topic, number or host stands in its text.

Raw texts fall into hundreds of groups. So first come the facts that are no text (class, HTTP status,
code, SQLSTATE, constraint: the *hard key*), then the text with everything masked that varies by itself
(numbers, addresses, quoted values), then a tree that finds free text: under one hard key a message
joins the template that it agrees with but for a few words, and those words become a gap.

Two causes are never merged for being similar: their hard keys differ, or they differ in a word that
names a cause (`refused` and `reset`, `role` and `database`), and such a word is never a gap.

Sources: the order of keys is that of Sentry's grouping (fingerprint, exception, message); the tree is a
small relative of Drain (He et al., "Drain: An Online Log Parsing Approach with Fixed Depth Tree", 2017),
whose ids depend on the order of arrival; ours are a digest of the first template and stay.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from runbook_lib.pipeline.failure_text import (
    facts_in_text,
    is_decisive,
    masked_words,
    names_a_cause,
)
from runbook_lib.pipeline.failures import Failure

# A change of rules makes new ids and leaves those that are stored alone.
RULESET = 1
GAP = "<*>"
LONGEST_TEXT_CHARACTERS = 2_000
# Of the shorter message's words, so many must agree, in order.
# A key under which so many texts differ tells nothing more by them: the rest is one group.
MOST_TEMPLATES_A_KEY = 100
LEAST_AGREEMENT = 0.5
LEAST_AGREEING_WORDS = 2
# From so many words on, a part that differs is taken for a title or the like.
FREE_TEXT_WORDS = 4
CHANCE_WORDS = 0.25


@dataclass(frozen=True)
class Template:
    """One cause: `key` are its hard facts, `words` its text with gaps; `fingerprint` never changes.

    `joined` is the fingerprint that this one turned out to be the same as, if any.
    """

    fingerprint: str
    key: str
    words: tuple[str, ...]
    error_class: str | None = None
    sample: str = ""
    joined: str | None = None

    @property
    def text(self) -> str:
        return " ".join(self.words)


class TemplateTree:
    """The templates that a process knows. Safe for threads.

    `identify` answers at once and from memory; what it learned is in `unsaved` until it is stored.
    """

    def __init__(self, templates: Iterable[Template] = ()) -> None:
        self._lock = threading.Lock()
        self._by_key: dict[str, list[Template]] = {}
        self._changed: dict[str, Template] = {}
        self.learn(templates)

    def learn(self, templates: Iterable[Template]) -> None:
        """Takes in what other processes stored; two that are the same cause keep the first one's id."""
        with self._lock:
            for template in templates:
                self._take_in(template)

    def identify(self, failure: Failure) -> str:
        """The fingerprint of a failure, from its columns and its masked message."""
        return self._find(_key_of_failure(failure), failure.message, failure.error_class)

    def identify_text(self, text: str, *, known_key: str = "") -> str:
        """The fingerprint of a text alone, for a pipeline that stores no more than that."""
        text = text[:LONGEST_TEXT_CHARACTERS]
        return self._find(" ".join(filter(None, (known_key, facts_in_text(text)))), text, None)

    def unsaved(self) -> list[Template]:
        """Templates that are new or wider than what was stored."""
        with self._lock:
            return list(self._changed.values())

    def saved(self, templates: Iterable[Template]) -> None:
        """Says that these are stored."""
        with self._lock:
            for template in templates:
                if self._changed.get(template.fingerprint) == template:
                    del self._changed[template.fingerprint]

    def _find(self, key: str, text: str, error_class: str | None) -> str:
        text = text[:LONGEST_TEXT_CHARACTERS]
        words = tuple(masked_words(text))
        with self._lock:
            found = self._matching(key, words)
            if found is None and len(self._by_key.get(key, ())) >= MOST_TEMPLATES_A_KEY:
                words = (GAP,)
                found = self._matching(key, words)
            if found is None:
                found = Template(_digest(key, words), key, words, error_class, text)
                self._by_key.setdefault(key, []).append(found)
                self._changed[found.fingerprint] = found
            elif found.words != (wider := _merged(found.words, words)):
                self._replace(found, replace(found, words=wider))
            return found.joined or found.fingerprint

    def _matching(self, key: str, words: tuple[str, ...]) -> Template | None:
        same_key = self._by_key.get(key, [])
        for template in same_key:
            if template.words == words:
                return template
        agreeing = [(_agreement(each.words, words), each) for each in same_key if not each.joined]
        best = max(agreeing, key=lambda pair: pair[0], default=(0.0, None))
        return best[1] if best[0] > 0 else None

    def _take_in(self, template: Template) -> None:
        same_key = self._by_key.setdefault(template.key, [])
        known = next((each for each in same_key if each.fingerprint == template.fingerprint), None)
        if known is not None:
            wider = _merged(known.words, template.words)
            self._replace(known, replace(known, words=wider, joined=known.joined or template.joined), quiet=wider == template.words)  # fmt: skip
            return
        same = None if template.joined else self._matching(template.key, template.words)
        if same is not None:
            template = replace(template, joined=same.joined or same.fingerprint)
            self._changed[template.fingerprint] = template
        same_key.append(template)

    def _replace(self, old: Template, new: Template, *, quiet: bool = False) -> None:
        if old == new:
            return
        same_key = self._by_key[old.key]
        same_key[same_key.index(old)] = new
        if not quiet:
            self._changed[new.fingerprint] = new


def _key_of_failure(failure: Failure) -> str:
    facts = (
        failure.error_class,
        failure.http_status,
        failure.provider_code,
        failure.sqlstate,
        failure.constraint_name,
        failure.exception_class,
        failure.stage,
    )
    return " ".join(str(fact) if fact is not None else "-" for fact in facts)


def _digest(key: str, words: tuple[str, ...]) -> str:
    text = "\0".join((str(RULESET), key, *words))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _agreement(template: tuple[str, ...], words: tuple[str, ...]) -> float:
    """How far two texts are the same but for free text: 0 (not the same) to 1."""
    if not template or not words:
        return float(template == words)
    agreeing = 0
    for action, begin, end, other_begin, other_end in _compared(template, words):
        if action == "equal":
            agreeing += sum(word != GAP for word in template[begin:end])
        elif _tells_causes_apart(template[begin:end], words[other_begin:other_end]):
            return 0.0
    fixed = sum(word != GAP for word in template)
    least = min(fixed, len(words))
    if agreeing < min(LEAST_AGREEING_WORDS, least) or agreeing < LEAST_AGREEMENT * least:
        return 0.0
    return 2 * agreeing / (fixed + len(words))


def _tells_causes_apart(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two differing parts name causes; a longer part with a chance word in it is free text."""
    longest = max(len(one), len(other))
    for part in (one, other):
        naming = sum(names_a_cause(word) for word in part)
        if naming and (longest < FREE_TEXT_WORDS or naming > len(part) * CHANCE_WORDS):
            return True
        if any(is_decisive(word) for word in part):
            return True
    return False


def _merged(template: tuple[str, ...], words: tuple[str, ...]) -> tuple[str, ...]:
    """What both agree in, in order, with one gap where they differ."""
    if template == words:
        return template
    merged: list[str] = []
    for action, begin, end, _, _ in _compared(template, words):
        part = template[begin:end] if action == "equal" else (GAP,)
        for word in part:
            if word != GAP or merged[-1:] != [GAP]:
                merged.append(word)
    return tuple(merged)


def _compared(
    one: tuple[str, ...], other: tuple[str, ...]
) -> Sequence[tuple[str, int, int, int, int]]:
    return SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
