"""How a topic is spoken of inside sentences: "How to choose a CRM" is written about as "choosing a CRM"."""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST_PHRASE_WORDS = 10
_QUESTION_WORDS = ("what", "when", "where", "which", "who", "whose", "how", "why")
_AUXILIARIES = ("is", "are", "was", "do", "does", "did", "should", "can", "could", "will", "would")
_CLAUSE_OPENERS = ("for", "that", "which", "who", "before", "after", "without", "with", "so", "when", "if", "from", "in", "and", "by", "on")  # fmt: skip


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SMALL_WORDS = _words("a about after all an and any are as at be before best by can do does ever every for from get has have how i if in into is it its less make matter matters more most need never not of off on one or our out over own should so than that the their them they this through to too top under up use using vs versus was we what when where which who why will with without you your")  # fmt: skip
_DOUBLED = _words("begin cut dig drop fit get hit hop let log map nap pin plan plot put quit rub run set ship shop sit skip slim slip spin split spot stop strip swim tag tap tip top trim win wrap")  # fmt: skip
_LIST = re.compile(
    r"^(?:the )?(?:\d+|two|three|four|five|six|seven|eight|nine|ten|twelve)\s+(.*)$", re.IGNORECASE
)
_PROPER = re.compile(r"[A-Z].*[A-Z0-9]|.*\d")


@dataclass(frozen=True)
class Subject:
    """`phrase` fits after a preposition; `kind` is how, list, question, why or noun."""

    title: str
    phrase: str
    short_names: tuple[str, ...]
    kind: str


def read_subject(topic: str) -> Subject:
    """The topic as a title, and as phrases to write about."""
    title = topic.rstrip(" .")
    head = _head(title)
    kind, phrase = _phrase(head.rstrip("?! "), asked=head.endswith("?"))
    return Subject(_capital(title), phrase, _short_names(phrase, kind), kind)


def _head(title: str) -> str:
    """What the title is about, without what it adds behind a question mark or a colon."""
    question, mark, _ = title.partition("? ")
    if mark:
        return f"{question}?"
    before, colon, after = title.partition(": ")
    if not colon:
        return title
    return before if len(before.split()) >= 2 else after


def keywords_of(topic: str) -> list[str]:
    """The groups of words that carry a topic, for a brief without keywords."""
    words = re.sub(r"(?i)^how to \w+ ", "", topic)
    groups: list[list[str]] = [[]]
    for word in re.findall(r"[^\W_][\w'’-]*|[^\w\s]", words):
        carries = len(word) > 1 and not word.isdigit() and word.lower() not in _SMALL_WORDS
        if not carries or len(groups[-1]) == 3:
            groups.append([])
        if carries:
            groups[-1].append(word if _PROPER.match(word) else word.lower())
    found = dict.fromkeys(" ".join(group) for group in groups if group)
    return list(found)[:5] or ["the basics"]


def _phrase(head: str, *, asked: bool) -> tuple[str, str]:
    words = head.split()
    first, second = (each.lower() for each in (*words, "", "")[:2])
    if first == "how" and second == "to" and len(words) > 2:
        return "how", _shorter(" ".join([_gerund(words[2].lower()), *words[3:]]))
    if asked or first in _AUXILIARIES or (first in _QUESTION_WORDS and second in _AUXILIARIES):
        return "question", f"the question “{' '.join(words[:LONGEST_PHRASE_WORDS])}?”"
    if first in _QUESTION_WORDS:
        return "why", _shorter(head[:1].lower() + head[1:])
    if found := _LIST.match(head):
        return "list", _shorter(_lower(found[1]))
    return "noun", _shorter(_lower(head))


def _shorter(phrase: str) -> str:
    """A phrase that can be said again and again: without its afterthoughts."""
    before, comma, _ = phrase.partition(", ")
    if comma and len(before.split()) >= 3:
        phrase = before
    words = phrase.split()
    if len(words) <= LONGEST_PHRASE_WORDS:
        return phrase
    cuts = [
        at
        for at, word in enumerate(words)
        if word in _CLAUSE_OPENERS and 3 <= at <= LONGEST_PHRASE_WORDS
    ]
    return " ".join(words[: cuts[-1] if cuts else LONGEST_PHRASE_WORDS]).rstrip(",;:")


def _gerund(verb: str) -> str:
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and verb != "be":
        return verb[:-1] + "ing"
    return verb + verb[-1] + "ing" if verb in _DOUBLED else verb + "ing"


def _lower(text: str) -> str:
    first, space, rest = text.partition(" ")
    # A capital may be a name: it stays when other words have capitals too, or when it stands alone.
    name = _PROPER.match(first) or not first.istitle() or not _is_common(first, rest)
    return text if name else f"{first.lower()}{space}{rest}"


def _is_common(first: str, rest: str) -> bool:
    word = first.lower()
    if word in _SMALL_WORDS or word.endswith(("ing", "ion", "ions", "ment", "ness", "ies", "ers", "ity", "able", "al", "ive", "ful", "ed")):  # fmt: skip
        return True
    return (
        bool(rest)
        and not re.search(r"\b[A-Z]", rest)
        and not word.endswith(("ia", "land", "’s", "'s"))
    )


def _short_names(phrase: str, kind: str) -> tuple[str, ...]:
    if kind == "how":
        return ("this work", "the task", "the whole matter", phrase)
    if kind in ("question", "why"):
        return ("this question", "the matter", "the topic", "the question")
    return ("the subject", "this field", "the topic", phrase)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
