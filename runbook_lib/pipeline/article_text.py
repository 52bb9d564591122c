"""From the text that a model answered to an article's title, excerpt, body and tags.

Asked for JSON, most models give it; some wrap it into a code fence or a greeting, and servers that ignore
the schema give plain Markdown, with front matter or a `Title:` line. All of that is understood here; what
cannot be told from an article is left standing for the content gate to refuse.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runbook_lib.pipeline.hidden_characters import visible, without_hidden
from runbook_lib.pipeline.rendering import (
    first_heading,
    first_paragraph,
    plain_excerpt,
    plain_tag,
    plain_title,
    without_title,
)

MOST_TAGS = 8
JSON_CANDIDATES = 20

_BODY_KEYS = ("body_markdown", "body", "content", "markdown", "article", "text")
_TITLE_KEYS = ("title", "headline")
_EXCERPT_KEYS = ("excerpt", "summary", "description")
_TAG_KEYS = ("tags", "keywords")
_THINKING = re.compile(r"\A\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_FENCED = re.compile(
    r"\A```[ \t]*(?:json|markdown|md)?[ \t]*\n(?P<inside>.*)\n```\Z", re.DOTALL | re.IGNORECASE
)
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(?P<lines>(?:[^\n]*\n){1,40}?)---[ \t]*(?:\n|\Z)")
_LABELLED = re.compile(r"\A\**(?:title|headline)\**\s*:\s*\**(?P<title>[^\n]+)\n", re.IGNORECASE)


class UnreadableArticle(ValueError):
    """The text began as JSON and cannot be read as such."""


@dataclass(frozen=True)
class ArticleText:
    """Title, excerpt and tags as plain text, the body as Markdown without its title."""

    title: str
    excerpt: str
    body_markdown: str
    tags: tuple[str, ...]


def read_article(answer: str, topic: str, keywords: Sequence[str]) -> ArticleText:
    """Reads a model's answer; the topic is the title, and the keywords the tags, where it names none.

    Raises `UnreadableArticle`.
    """
    text = _unwrap(visible_lines(_THINKING.sub("", answer, count=1)))
    found = _read_json(text)
    if found is None and text.startswith("{"):
        raise UnreadableArticle("the answer began as JSON and is none")
    return _from_fields(found if found is not None else _read_markdown(text), topic, keywords)


def visible_lines(text: str) -> str:
    """The text in one form: NFC, plain line ends, no control or hidden characters."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").split("\n")
    clean = without_hidden("\n".join(line.rstrip() for line in lines))
    return unicodedata.normalize("NFC", clean).strip()


def _from_fields(found: Mapping[str, Any], topic: str, keywords: Sequence[str]) -> ArticleText:
    body = visible_lines(_text(found, _BODY_KEYS))
    if "\n" not in body and "\\n" in body:
        body = body.replace("\\n", "\n")  # escaped twice
    body = _unwrap(body)
    title = plain_title(visible(_text(found, _TITLE_KEYS)) or first_heading(body) or topic)
    body = without_title(body, title)
    excerpt = plain_excerpt(visible(_text(found, _EXCERPT_KEYS)) or first_paragraph(body))
    return ArticleText(title, excerpt, body, _tags(found) or _plain_tags(keywords))


def _read_json(text: str) -> Mapping[str, Any] | None:
    """The object that holds an article: the whole text, or what stands between a few words."""
    decoder = json.JSONDecoder(strict=False)  # models put real line ends into strings
    for number, opening in enumerate(re.finditer(r"\{", text)):
        if number >= JSON_CANDIDATES:
            break
        try:
            value, end = decoder.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            continue
        article = _article_in(value)
        # An article about JSON holds objects as well; the answer itself is nearly all of the text.
        if article is not None and (opening.start() == 0 or end - opening.start() > len(text) / 2):
            return article
    return None


def _article_in(value: object) -> Mapping[str, Any] | None:
    if not isinstance(value, dict):
        return None
    if any(isinstance(value.get(key), str) for key in _BODY_KEYS):
        return value
    inner = [each for each in value.values() if isinstance(each, dict)]
    if len(inner) == 1 and any(isinstance(inner[0].get(key), str) for key in _BODY_KEYS):
        return inner[0]
    return value if _TITLE_KEYS[0] in value else None


def _read_markdown(text: str) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    if front := _FRONT_MATTER.match(text):
        pairs = (line.partition(":") for line in front["lines"].splitlines() if ":" in line)
        found = {name.strip().lower(): value.strip().strip("\"'") for name, _, value in pairs}
        text = text[front.end() :].lstrip()
    if labelled := _LABELLED.match(text):
        found.setdefault("title", labelled["title"])
        text = text[labelled.end() :].lstrip()
    kept = (*_TITLE_KEYS, *_EXCERPT_KEYS, *_TAG_KEYS)
    return {**{name: found[name] for name in kept if name in found}, "body_markdown": text}


def _unwrap(text: str) -> str:
    """The text without a code fence around all of it."""
    fenced = _FENCED.match(text)
    if fenced is None or len(re.findall(r"^ {0,3}```", fenced["inside"], re.MULTILINE)) % 2:
        return text
    return fenced["inside"].strip()


def _text(found: Mapping[str, Any], keys: Iterable[str]) -> str:
    return next((found[key] for key in keys if isinstance(found.get(key), str)), "")


def _tags(found: Mapping[str, Any]) -> tuple[str, ...]:
    value = next((found[key] for key in _TAG_KEYS if found.get(key)), ())
    if isinstance(value, str):
        value = value.strip("[]").split(",")
    return _plain_tags(value if isinstance(value, list) else ())


def _plain_tags(values: Iterable[object]) -> tuple[str, ...]:
    named = [plain_tag(visible(each.strip(" \"'"))) for each in values if isinstance(each, str)]
    distinct = {tag.casefold(): tag for tag in reversed(named) if any(map(str.isalnum, tag))}
    return tuple(reversed(distinct.values()))[:MOST_TAGS]
