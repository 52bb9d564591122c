"""Compares a post that WordPress stored with what it was asked to store.

WordPress drops unknown category and tag ids without a word, filters an author's HTML and turns
characters into entities. The last is harmless; the others must not go out unseen.
"""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

from runbook_lib.pipeline.model import Post
from runbook_lib.pipeline.slugs import in_slug_family

COMPARED_ATTRIBUTES = ("href", "src", "alt")
SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class PostRequest:
    """A post as it is asked for; it becomes a draft first, whatever it is to become then."""

    title: str
    content: str
    excerpt: str
    slug: str
    category_ids: tuple[int, ...]
    tag_ids: tuple[int, ...]

    def draft_fields(self) -> dict[str, Any]:
        """The fields of the request that creates the draft."""
        fields: dict[str, Any] = {
            "status": "draft",
            "slug": self.slug,
            "title": self.title,
            "content": self.content,
            "excerpt": self.excerpt,
        }
        if self.category_ids:
            fields["categories"] = list(self.category_ids)
        if self.tag_ids:
            fields["tags"] = list(self.tag_ids)
        return fields


def missing_categories(request: PostRequest, post: Post) -> tuple[int, ...]:
    """The category ids that WordPress dropped."""
    return tuple(each for each in request.category_ids if each not in post.category_ids)


def differences(request: PostRequest, post: Post, author_id: int) -> list[str]:
    """What differs between the draft asked for and the post stored, in words; empty when nothing does.

    A plugin may add categories; that is the site's own business and no difference.
    """
    found = []
    if post.status != "draft":
        found.append(f"status is {post.status or 'not told'!r} instead of 'draft'")
    if not in_slug_family(post.slug, request.slug):
        found.append(f"slug is {_shown(post.slug)} instead of {_shown(request.slug)}")
    if post.author_id != author_id:
        found.append(f"author is {post.author_id} instead of {author_id}")
    if dropped := [each for each in request.tag_ids if each not in post.tag_ids]:
        found.append(f"tags {', '.join(map(str, dropped))} were dropped")
    if _text(post.title) != _text(request.title):
        found.append(f"title is {_shown(post.title)}")
    if part := _first_difference(_pieces(request.content), _pieces(post.content)):
        found.append(f"content differs: {part}")
    return found


class _Pieces(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._end_text()
        kept = [f" {name}={value}" for name, value in sorted(attrs) if name in COMPARED_ATTRIBUTES]
        self.pieces.append(f"<{tag}{''.join(kept)}>")

    def handle_endtag(self, tag: str) -> None:
        self._end_text()
        self.pieces.append(f"</{tag}>")

    def handle_comment(self, data: str) -> None:
        self._end_text()
        self.pieces.append(f"<!-- {_text(data)} -->")

    def handle_data(self, data: str) -> None:
        self._words.append(data)

    def _end_text(self) -> None:
        if text := _text("".join(self._words)):
            self.pieces.append(text)
        self._words.clear()

    def close(self) -> None:
        super().close()
        self._end_text()


def _pieces(content: str) -> list[str]:
    parser = _Pieces()
    parser.feed(content)
    parser.close()
    return parser.pieces


def _text(text: str) -> str:
    plain = unicodedata.normalize("NFC", html.unescape(text))
    return re.sub(r"\s+", " ", plain).strip()


def _first_difference(asked: list[str], stored: list[str]) -> str:
    for number in range(max(len(asked), len(stored))):
        one = asked[number] if number < len(asked) else "nothing more"
        other = stored[number] if number < len(stored) else "nothing more"
        if one != other:
            start = next(
                (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
                0,
            )
            start = max(0, start - SHOWN_CHARACTERS // 3)
            return f"{_shown(one[start:])} was asked for, {_shown(other[start:])} was stored"
    return ""


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…")
