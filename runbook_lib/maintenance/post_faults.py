"""What can be wrong with a post that readers see. Pure: texts and statuses in, faults out.

A healthy post must not be accused, so each rule is about what a person would not do on purpose: somebody
may shorten a post, move it back to draft or publish a draft by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from runbook_lib.pipeline.content import leftovers, repetition, without_subjects
from runbook_lib.pipeline.likeness import estimate_likeness, likeness_sketch, words_of
from runbook_lib.pipeline.post_text import PostText

# Kind → what it means for a reader.
KINDS: Mapping[str, str] = {
    "empty": "readers see a title and nothing below it",
    "cut": "the text stops in the middle",
    "repeated": "the text says the same again",
    "leftovers": "the model speaks to its user, or a placeholder was left",
    "too alike": "it is nearly the same as an earlier post",
    "doubled": "the same article is on the site more than once",
    "wrong status": "it is public and must not be, or was published and is not",
    "missing": "it was published and is gone from the site",
}
PUBLIC = ("publish", "future")
# Where fewer paragraphs end as sentences do, the end of the last one tells nothing.
FEWEST_PARAGRAPHS_TO_JUDGE_THE_END = 3
SHARE_OF_ENDED_PARAGRAPHS = 0.7
FEWEST_WORDS_OF_AN_END = 8
# A person who takes sections out leaves more than this of an article.
LEAST_SHARE_LEFT = 0.5
# Two texts that are so alike share nearly all of their smallest hashes.
HASHES_COMPARED_FIRST = 16
# A sentence that stands under so many posts is the site's own, and finds nobody.
MOST_POSTS_OF_A_HASH = 200
_UNFINISHED = re.compile(r"[\w,;–—(\[-]$")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: its kind, and what was seen, without the text itself."""

    kind: str
    detail: str


@dataclass(frozen=True)
class Written:
    """An article as it was written, as far as it is kept."""

    title: str
    prose: str
    finish_reason: str | None = None

    @cached_property
    def words(self) -> list[str]:
        return words_of(self.prose)


@dataclass(frozen=True)
class Text:
    """A post's text as readers see it at the site, or as it was written when the site did not answer."""

    title: str
    prose: str
    paragraphs: Sequence[str] = ()
    has_media: bool = False

    @classmethod
    def of_post(cls, title: str, content: str) -> Text:
        read = PostText(content)
        return cls(title, read.prose, tuple(read.paragraphs), read.has_media)

    @classmethod
    def of_article(cls, written: Written) -> Text:
        return cls(written.title, written.prose)

    @cached_property
    def words(self) -> list[str]:
        return words_of(self.prose)

    @cached_property
    def sketch(self) -> tuple[int, ...]:
        return likeness_sketch(self.prose)


@dataclass(frozen=True)
class Standing:
    """How a post should stand, and how it does. `live` None: it is gone; "" : nobody could look."""

    job_status: str
    recorded: str | None
    live: str | None
    taken_off: str | None = field(default=None)


def faults_of_text(text: Text, written: Written | None, topic: str) -> list[Fault]:
    """What is wrong with the text by itself, the gravest first."""
    if not text.words:
        return [] if text.has_media else [Fault("empty", "there is no word below the title")]
    found: list[Fault] = []
    if cut := _cut(text, written):
        found.append(Fault("cut", cut))
    if repeats := repetition(text.prose, without_subjects(text.words, (topic, text.title))):
        found.append(Fault("repeated", repeats[0].lower() + repeats[1:].rstrip(".")))
    if left := leftovers(text.title, text.prose):
        found.append(Fault("leftovers", left))
    return found


def fault_of_standing(post: Standing) -> Fault | None:
    """A post that is public and must not be, or was published and is not."""
    if post.live == "":
        return None
    if post.live is None or post.live == "trash":
        if post.recorded not in (*PUBLIC, None):
            return None
        where = "is in the trash of the site" if post.live else "does not exist any more"
        return Fault("missing", f"it was published and {where}")
    if post.live in PUBLIC and post.job_status == "error":
        return Fault("wrong status", "it is public although its job ended as an error")
    if post.live in PUBLIC and post.taken_off and post.recorded not in PUBLIC:
        return Fault("wrong status", f"it was taken off ({post.taken_off}) and is public again")
    if post.recorded in PUBLIC and post.live not in PUBLIC:
        return Fault("wrong status", f"it was published and is {post.live!r} now")
    return None


def alike_pairs(
    sketches: Iterable[tuple[str, Sequence[int]]], at_least: float
) -> list[tuple[str, str, float]]:
    """(later, earlier, likeness) of texts that are too alike, for sketches in the order of publishing.

    Each later one is named once, with the earliest that it is like. Compared are only those that share
    some of their smallest hashes, so thousands of texts take a second.
    """
    by_hash: dict[int, list[int]] = {}
    kept: list[tuple[str, Sequence[int]]] = []
    found: list[tuple[str, str, float]] = []
    for name, sketch in sketches:
        if not sketch:
            continue
        first = sketch[:HASHES_COMPARED_FIRST]
        candidates = sorted({at for each in first for at in by_hash.get(each, ())})
        for at in candidates:
            if (likeness := estimate_likeness(sketch, kept[at][1])) >= at_least:
                found.append((name, kept[at][0], likeness))
                break
        for each in first:
            holders = by_hash.setdefault(each, [])
            if len(holders) < MOST_POSTS_OF_A_HASH:
                holders.append(len(kept))
        kept.append((name, sketch))
    return found


def _cut(text: Text, written: Written | None) -> str | None:
    if written is not None:
        if written.finish_reason in ("length", "content_filter") and len(text.words) <= len(
            written.words
        ):
            return "the model stopped before the end, and nobody completed it"
        if part := _cut_at_the_site(text, written):
            return part
        if text.words != written.words:
            return None  # somebody worked on it: how they end it is theirs
    return _stops_in_a_sentence(text.paragraphs, text.prose)


def _cut_at_the_site(text: Text, written: Written) -> str | None:
    """The site holds the beginning of the article and stops inside a block: no person does that."""
    here, all_words = text.words, written.words
    if len(here) >= len(all_words) or here != all_words[: len(here)]:
        return None
    share = len(here) / len(all_words)
    ends = {tuple(words_of(line)) for line in written.prose.split("\n")}
    last = tuple(words_of(text.prose.rsplit("\n", 1)[-1]))
    if share < LEAST_SHARE_LEFT or last not in ends:
        return f"the site holds the first {share:.0%} of the article"
    return None


def _stops_in_a_sentence(paragraphs: Sequence[str], prose: str) -> str | None:
    if len(paragraphs) < FEWEST_PARAGRAPHS_TO_JUDGE_THE_END:
        return None
    last = paragraphs[-1]
    if not prose.endswith(last) or len(words_of(last)) < FEWEST_WORDS_OF_AN_END:
        return None
    ended = sum(not _UNFINISHED.search(each) for each in paragraphs[:-1])
    if ended < SHARE_OF_ENDED_PARAGRAPHS * (len(paragraphs) - 1):
        return None
    return "its last paragraph stops inside a sentence" if _UNFINISHED.search(last) else None
