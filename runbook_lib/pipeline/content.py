"""The gate before an article goes out, and the check of a topic before it is paid for.

Each refusal is a `JobFailed` whose class says what is wrong; its message names the fault and its measure,
never the text. The thresholds on repetition are those by which Rae et al. filtered their training data
("Scaling Language Models", 2021, table A1).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook_lib.pipeline.failures import JobFailed
from runbook_lib.pipeline.languages import base_language, is_in_language
from runbook_lib.pipeline.likeness import first_likeness, shingles, words_of
from runbook_lib.pipeline.model import Article, Job
from runbook_lib.pipeline.rendering import visible_text

if TYPE_CHECKING:
    from runbook_lib.settings import Settings

# The share of the words that are in runs of so many words that occur again.
MOST_IN_REPEATED_RUNS = {5: 0.15, 10: 0.10}
# A reader sees at once that a paragraph of this length stands twice, however long the article is.
FEWEST_WORDS_OF_A_PARAGRAPH = 20
FEWEST_WORDS_TO_JUDGE_REPETITION = 50
MOST_STRAY_MARKS = 2


@dataclass(frozen=True)
class ContentLimits:
    """What is asked of topics and articles; the defaults are those of `Settings`."""

    maximum_topic_characters: int = 4_000
    language: str = "en"
    minimum_words: int = 300
    maximum_likeness: float = 0.8

    @classmethod
    def of(cls, settings: Settings) -> ContentLimits:
        return cls(
            settings.runbook_maximum_topic_characters,
            settings.runbook_language,
            settings.runbook_minimum_words,
            settings.runbook_maximum_likeness,
        )


def check_topic(job: Job, limits: ContentLimits) -> None:
    """Raises `JobFailed` (`topic_too_long`, `topic_unusable`) before anything is paid."""
    topic = job.topic
    if len(topic) > limits.maximum_topic_characters:
        raise _topic_failed(
            "topic_too_long",
            f"The topic has more than {limits.maximum_topic_characters} characters.",
        )
    if "\0" in topic:
        raise _topic_failed("topic_unusable", "The topic holds a NUL character.")
    if any("\ud800" <= character <= "\udfff" for character in topic):
        raise _topic_failed(
            "topic_unusable", "The topic holds half a character (a lone surrogate)."
        )
    if not any(character.isalnum() for character in topic):
        raise _topic_failed("topic_unusable", "The topic holds neither a letter nor a digit.")


def check(
    article: Article, job: Job, limits: ContentLimits, recent_sketches: Iterable[Sequence[int]]
) -> None:
    """Raises `JobFailed` with a `content_…` class if the article must not be published.

    `recent_sketches` are the likeness sketches of articles that it must not be too much like.
    """
    _check_whole(article)
    prose = visible_text(article.body_markdown, with_code=False)
    _check_leftovers(article, prose)
    _check_length(article, limits)
    words = words_of(prose)
    _check_language(words, limits)
    if repeats := repetition(prose, without_subjects(words, (job.topic, article.title))):
        raise _failed("content_repetitive", repeats)
    _check_likeness(article, limits, recent_sketches)


def _check_whole(article: Article) -> None:
    if article.finish_reason == "length":
        raise _failed("content_truncated", "The article stops where its tokens ended.")
    if article.finish_reason == "content_filter":
        raise _failed("openai_content_filtered", "The content filter cut the article off.")
    if not article.title.strip():
        raise _failed("content_empty", "The article has no title.")
    if not visible_text(article.body_markdown).strip():
        raise _failed("content_empty", "The article has no body.")


def _check_length(article: Article, limits: ContentLimits) -> None:
    if article.word_count < limits.minimum_words:
        raise _failed(
            "content_too_short",
            f"The article has {article.word_count} words; the minimum is {limits.minimum_words}.",
        )


def _check_language(words: Sequence[str], limits: ContentLimits) -> None:
    if not is_in_language(words, limits.language):
        raise _failed(
            "content_wrong_language",
            f"The article does not read as {base_language(limits.language)!r}.",
        )


def repetition(prose: str, words: Sequence[str]) -> str | None:
    """How a text repeats itself, in a sentence; None where it does not.

    `prose` is what a reader sees, a block a line; `words` are its words without what it is about.
    """
    if len(words) < FEWEST_WORDS_TO_JUDGE_REPETITION:
        return None
    if _repeats_a_paragraph(prose):
        return "A whole paragraph of the article stands in it twice."
    for length, most in MOST_IN_REPEATED_RUNS.items():
        share = _share_in_repeated_runs(words, length)
        if share > most:
            return f"{share:.0%} of the words are in runs of {length} words that occur again."
    return None


def without_subjects(words: Sequence[str], subjects: Iterable[str]) -> Sequence[str]:
    """The words without the topic and the title, which a good article names again and again."""
    text = f" {' '.join(words)} "
    for subject in subjects:
        text = text.replace(f" {' '.join(words_of(subject))} ", " ")
    return text.split()


def leftovers(title: str, prose: str) -> str | None:
    """What a model said to the person in front of it, or a template left: None where nothing is."""
    return _find_chatter(title) or _find_chatter(prose) or _find_chatter_around(prose)


def _repeats_a_paragraph(prose: str) -> bool:
    paragraphs = [words_of(line) for line in prose.split("\n")]
    long = [tuple(each) for each in paragraphs if len(each) >= FEWEST_WORDS_OF_A_PARAGRAPH]
    return len(set(long)) < len(long)


def _share_in_repeated_runs(words: Sequence[str], length: int) -> float:
    runs = shingles(words, length)
    times = Counter(runs)
    seen: set[str] = set()
    again = bytearray(len(words))
    for start, run in enumerate(runs):
        if times[run] > 1 and run in seen:
            again[start : start + length] = b"\1" * length
        seen.add(run)
    return sum(again) / max(1, len(words))


def _check_likeness(
    article: Article, limits: ContentLimits, recent_sketches: Iterable[Sequence[int]]
) -> None:
    likeness = first_likeness(article.likeness_sketch, recent_sketches, limits.maximum_likeness)
    if likeness is not None:
        raise _failed(
            "content_too_alike",
            f"The article is {likeness:.0%} the same as a recent one; "
            f"the limit is {limits.maximum_likeness:.0%}.",
        )


# What a model says to the person in front of it, and not to a reader; and what a template leaves.
_CHATTER_ANYWHERE = (
    (re.compile(r"\bas an? (?:ai|artificial intelligence|large language)(?: language)? (?:model|assistant),? (?:i|my)\b", re.I), "the model speaks of itself"),
    (re.compile(r"\b(?:my (?:knowledge|training) (?:cutoff|cut-off|data)|as of my last (?:update|knowledge|training))\b", re.I), "the model speaks of its training"),
    (re.compile(r"\{\{.{0,200}?\}\}|\{%.{0,200}?%\}|<%.{0,200}?%>"), "a template's placeholder"),
    (re.compile(r"<\|[a-z_]{2,30}\|>|\[/?INST\]|</?s>|<</?SYS>>", re.I), "a model's control token"),
    (re.compile(r"\[\s*(?:insert|your|add|enter|company|client|author|link|url|image|date|name|placeholder|todo|tbd)\b[^\]\n]{0,80}\](?!\()", re.I), "a placeholder in brackets"),
    (re.compile(r"\blorem ipsum\b", re.I), "a filler text"),
)  # fmt: skip
_CHATTER_AT_START = re.compile(
    r"\W*(?:(?:sure|certainly|absolutely|of course|great|okay|ok|understood|no problem)\b[^.\n]{0,40}?[,!.:-]+\s*)?"
    r"(?:here(?:'s|’s| is| are)\s+(?:the|your|an?|my)\b[^.\n]{0,60}\b(?:article|blog|post|draft|piece|version|text|rewrite|json)\b"
    r"|i(?:'d|’d| would) be (?:happy|glad)\b|i(?:'m|’m| am) (?:sorry|unable|happy)\b|i (?:can(?:no|')t|can’t|cannot) (?:help|assist|fulfil|provide|write|create)\b)"
    r"|\W*(?:sure|certainly|absolutely|of course|understood)\s*[,!]\s*(?:here|i)\b",
    re.I,
)  # fmt: skip
_CHATTER_AT_END = re.compile(
    r"(?:i hope this (?:helps|article|post|meets)|let me know if (?:you(?:'d|’d| would| need| want| have any (?:other|further|more))|there(?:'s|’s| is) anything)|feel free to ask|would you like me to|"
    r"(?:word count|total words)\s*[:=]|if you(?:'d|’d| would) like (?:me to|any (?:changes|adjustments)))",
    re.I,
)  # fmt: skip
_END_CHARACTERS = 300
_HTML_TAG = re.compile(r"</?(?:p|div|span|h[1-6]|ul|ol|li|table|tr|td|html|head|body|script|style|iframe|br|strong|em|b|i|a)\b[^<>]{0,200}>", re.I)  # fmt: skip
_BROKEN_BLOCK = re.compile(
    r"(?:^|\s)#{2,6}[^\s#]|\]\(\s*<?(?:[a-z]+:|www\.|/)|\|\s*:?-{3,}:?\s*\|",
    re.MULTILINE | re.IGNORECASE,
)
_STRAY_MARKS = re.compile(r"\*\*|__")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$", re.M)


def _check_leftovers(article: Article, prose: str) -> None:
    found = (
        _find_wrapping(article.body_markdown)
        or leftovers(article.title, prose)
        or _find_stray_markup(prose)
    )
    if found:
        raise _failed("content_leftovers", f"The article holds {found}.")


def _find_wrapping(markdown: str) -> str | None:
    body = markdown.strip()
    if body[:1] in "{[" and _is_json(body):
        return "JSON instead of Markdown"
    fence: str | None = None
    for line in _FENCE.finditer(body):
        if fence is None:
            fence = line[1]
            opened_at = line.start()
        elif line[1].startswith(fence) and not line[2].strip():
            if opened_at == 0 and line.end() >= len(body):
                return "a code fence around everything"
            fence = None
    return "a code fence that is never closed" if fence is not None else None


def _find_chatter(text: str) -> str | None:
    for pattern, meaning in _CHATTER_ANYWHERE:
        if pattern.search(text):
            return meaning
    return None


def _find_chatter_around(text: str) -> str | None:
    if _CHATTER_AT_START.match(text):
        return "an assistant's opening words"
    if _CHATTER_AT_END.search(text[-_END_CHARACTERS:]):
        return "an assistant's closing words"
    return None


def _find_stray_markup(prose: str) -> str | None:
    """Markup that a reader would see as characters, because it is broken or of another kind."""
    if len(_HTML_TAG.findall(prose)) > MOST_STRAY_MARKS:
        return "HTML instead of Markdown"
    if _BROKEN_BLOCK.search(prose) or len(_STRAY_MARKS.findall(prose)) > MOST_STRAY_MARKS:
        return "Markdown that does not become HTML"
    return None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _failed(error_class: str, message: str) -> JobFailed:
    return JobFailed.because(error_class, message, stage="write", provider="openai")


def _topic_failed(error_class: str, message: str) -> JobFailed:
    return JobFailed.because(error_class, message, stage="write")
