"""Articles about a topic, as plain as a trade journal's, the same for the same brief and seed.

They are for trying the pipeline out, and say so in their last sentence and by a tag.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runbook_lib.sandbox import phrases
from runbook_lib.sandbox.briefs import Brief
from runbook_lib.sandbox.subjects import Subject, keywords_of, read_subject

NOTICE = "This article was written by the sandbox of the runbook workbench to try the pipeline out; no model was asked."
SANDBOX_TAG = "sandbox"
LONGEST_TITLE_CHARACTERS = 90
FEWEST_WORDS, MOST_WORDS = 500, 780
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Article:
    """A finished article; the body is Markdown without the title."""

    title: str
    excerpt: str
    body_markdown: str
    tags: tuple[str, ...]

    def markdown(self) -> str:
        """The whole as one text, for a request that asked for no structure."""
        return f"# {self.title}\n\n{self.body_markdown}"

    def word_count(self) -> int:
        return len(self.body_markdown.split())

    def with_fields(self, fields: Mapping[str, Any]) -> Article:
        """The article with some fields replaced; unknown ones are left out."""
        known = {name: value for name, value in fields.items() if name in self.__dataclass_fields__}
        if "tags" in known:
            known["tags"] = tuple(known["tags"])
        return replace(self, **known)


def write_article(brief: Brief, seed: int = 0) -> Article:
    """An article of 450–900 words with an introduction, four to seven sections and a conclusion."""
    speaker = _Speaker(brief, seed)
    parts = [_introduction(speaker)]
    words = 0
    for number, section in enumerate(speaker.sample(phrases.SECTIONS, 7)):
        if words >= FEWEST_WORDS and number >= 4:
            break
        if words >= MOST_WORDS:
            break
        parts.append(_section(speaker, section))
        words = sum(len(part.split()) for part in parts)
    parts.append(_conclusion(speaker))
    return Article(
        title=speaker.title(),
        excerpt=speaker.headline(speaker.choice(phrases.EXCERPTS)),
        body_markdown="\n\n".join([*parts, f"*{NOTICE}*"]) + "\n",
        tags=_tags(speaker),
    )


class _Speaker:
    """Fills templates for one brief; all chance comes from the brief and the seed."""

    def __init__(self, brief: Brief, seed: int) -> None:
        text = repr((brief, seed)).encode("utf-8", errors="replace")
        self._random = random.Random(hashlib.sha256(text).digest())
        self.subject: Subject = read_subject(brief.topic)
        self.tags = list(brief.keywords) or keywords_of(brief.topic)
        # With a single keyword every sentence would be about the same two words.
        self.keywords = (
            self.tags
            if len(self.tags) > 1
            else [*self.tags, *self.sample(phrases.DEFAULT_KEYWORDS, 2)]
        )
        self.category = brief.category
        self.audience = brief.audience or self.choice(phrases.DEFAULT_AUDIENCES)
        self.tone = _tone(brief.tone)
        self._turn = self._random.randrange(len(self.keywords))
        self._mentions = 0
        self._asides = {
            group: self.sample(sentences, len(sentences))
            for group, sentences in (
                ("tone", phrases.TONES[self.tone]),
                ("keyword", phrases.KEYWORD_SENTENCES),
            )
        }
        self._draws: dict[str, Callable[[], str]] = {
            "subject": self._subject,
            "keyword": self._keyword,
            "audience": lambda: self.audience,
            "few": lambda: str(self._random.randint(3, 6)),
            "some": lambda: str(self._random.randint(8, 20)),
            "many": lambda: str(self._random.randint(25, 90)),
            "percent": lambda: str(self._random.randint(5, 45)),
            "weekday": lambda: self.choice(phrases.WEEKDAYS),
            "role": lambda: self.choice(phrases.ROLES),
            "place": lambda: self.choice(phrases.PLACES),
            "Topic": lambda: self.subject.title,
        }

    def choice(self, values: Sequence[str]) -> str:
        return self._random.choice(values)

    def sample(self, values: Sequence[Any], count: int) -> list[Any]:
        return self._random.sample(values, min(count, len(values)))

    def between(self, least: int, most: int) -> int:
        return self._random.randint(least, most)

    def say(self, template: str) -> str:
        """One sentence or heading, with choices made, slots filled and a capital in front."""
        text = _CHOICE.sub(lambda found: self.choice(found[1].split("|")), template)
        text = _SLOT.sub(lambda found: self._slot(found[1]), text)
        text = re.sub(r"\s+([.,;:?!])", r"\1", text).replace("??", "?").replace("?.", "?")
        first = re.search(r"[^\W\d_]", text)
        if first is None or any(each.isdigit() for each in text[: first.start()]):
            return text
        return text[: first.start()] + text[first.start()].upper() + text[first.start() + 1 :]

    def aside(self, group: str) -> list[str]:
        """One more sentence in the tone or about a keyword, never the same twice."""
        return [self._asides[group].pop()] if self._asides[group] else []

    def headline(self, template: str) -> str:
        """As `say`, with the subject named in full."""
        self._mentions = 0
        return self.say(template)

    def paragraph(self, templates: Sequence[str]) -> str:
        return " ".join(self.say(template) for template in templates)

    def title(self) -> str:
        """The topic itself, or with a few words more where there is room and no subtitle yet."""
        topic = self.subject.title
        titles = (
            ("{Topic}",) if ":" in topic or "? " in topic else phrases.TITLES[self.subject.kind]
        )
        title = self.headline(self.choice(titles))
        if len(title) > LONGEST_TITLE_CHARACTERS:
            title = topic
        if len(title) > LONGEST_TITLE_CHARACTERS:
            title = title[:LONGEST_TITLE_CHARACTERS].rsplit(" ", 1)[0] + "…"
        return title

    def _slot(self, name: str) -> str:
        if name in self._draws:
            return self._draws[name]()
        text = self._draws[name.lower()]()
        return text[:1].upper() + text[1:]

    def _subject(self) -> str:
        # The whole subject now and then, a shorter name in between: as people write.
        self._mentions += 1
        # A short phrase may come back in every other sentence; a long one reads like a machine's.
        words = len(self.subject.phrase.split())
        every = 2 if words <= 4 else 3 * words
        if self._mentions % every == 1:
            return self.subject.phrase
        return self.choice([name for name in self.subject.short_names if len(name.split()) <= 4])

    def _keyword(self) -> str:
        self._turn += 1
        return self.keywords[self._turn % len(self.keywords)]


def _introduction(speaker: _Speaker) -> str:
    first = [*speaker.aside("tone"), *speaker.sample(phrases.INTRODUCTIONS, 2)]
    second = speaker.sample(phrases.ROAD_MAPS, 2)
    return f"{speaker.paragraph(first)}\n\n{speaker.paragraph(second)}"


def _section(speaker: _Speaker, section: phrases.Section) -> str:
    chosen = speaker.sample(range(len(section.sentences)), speaker.between(4, 6))
    sentences = [section.sentences[number] for number in sorted(chosen)]  # a case is told in order
    if speaker.between(0, 2) == 0:
        sentences[1:1] = speaker.aside("keyword")
    if speaker.between(0, 3) == 0:
        sentences += speaker.aside("tone")
    parts = [f"## {speaker.say(speaker.choice(section.headings))}"]
    if any(sentence.startswith("**") for sentence in sentences):
        parts += [speaker.say(sentence) for sentence in sentences]
        return "\n\n".join(parts)
    middle = len(sentences) if len(sentences) < 5 or section.items else len(sentences) // 2
    parts.append(speaker.paragraph(sentences[:middle]))
    if section.items:
        parts.append(_list(speaker, section))
    if sentences[middle:]:
        parts.append(speaker.paragraph(sentences[middle:]))
    return "\n\n".join(parts)


def _list(speaker: _Speaker, section: phrases.Section) -> str:
    chosen = speaker.sample(range(len(section.items)), speaker.between(3, 5))
    # Steps keep their order; other lists come as they were drawn.
    items = [section.items[number] for number in (sorted(chosen) if section.numbered else chosen)]
    marks = [f"{number}." if section.numbered else "-" for number in range(1, len(items) + 1)]
    return "\n".join(f"{mark} {speaker.say(item)}" for mark, item in zip(marks, items, strict=True))


def _conclusion(speaker: _Speaker) -> str:
    heading = speaker.say(speaker.choice(phrases.CONCLUSION_HEADINGS))
    return f"## {heading}\n\n{speaker.paragraph(speaker.sample(phrases.CONCLUSIONS, 3))}"


def _tags(speaker: _Speaker) -> tuple[str, ...]:
    tags = [
        *speaker.tags[:4],
        *([speaker.category.lower()] if speaker.category else []),
        SANDBOX_TAG,
    ]
    return tuple(dict.fromkeys(tag[:50] for tag in tags))


def _tone(asked: str | None) -> str:
    words = (asked or "").lower()
    for tone, names in phrases.TONE_WORDS.items():
        if any(name in words for name in names):
            return tone
    return "practical"
