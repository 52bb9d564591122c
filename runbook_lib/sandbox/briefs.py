"""What an article is to be about, found in the messages of a request, however they put it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LONGEST_TOPIC_CHARACTERS = 300
MOST_KEYWORDS = 8
_FIELDS = ("topic", "keywords", "audience", "tone", "category")
_LABELLED = re.compile(
    r"^[\s*#>-]*<?(?P<name>topic|title|keywords?|audience|readers|tone|category)\W*[:=>]\s*\**\s*(?P<value>.+?)\s*\**(?:</\w+>)?\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_NAMES = {"title": "topic", "keyword": "keywords", "readers": "audience"}


@dataclass(frozen=True)
class Brief:
    """What was asked for. `keywords` may be empty, `audience`, `tone` and `category` absent."""

    topic: str
    keywords: tuple[str, ...] = ()
    audience: str | None = None
    tone: str | None = None
    category: str | None = None


def read_brief(body: dict[str, Any]) -> Brief:
    """The brief in a chat's messages: a JSON object, lines such as `Topic: …`, or the bare text."""
    texts = [text for role, text in _texts(body) if role == "user"] or [
        text for _, text in _texts(body)
    ]
    for text in reversed(texts):
        for found in (_read_json(text), _read_lines(text)):
            if found.get("topic"):
                return _brief(found)
    return _brief({"topic": next(iter((texts[-1] if texts else "").strip().splitlines()), "")})


def _texts(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for message in body.get("messages") or ():
        if not isinstance(message, dict):
            continue
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content}]
        text = "\n".join(
            str(part.get("text")) for part in parts if isinstance(part, dict) and part.get("text")
        )
        yield str(message.get("role")), text


def _read_json(text: str) -> dict[str, Any]:
    decoder = json.JSONDecoder()
    for opening in list(re.finditer(r"\{", text))[:20]:
        try:
            found, _ = decoder.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            continue
        named = {str(name).lower(): value for name, value in found.items()}
        if "topic" in named:
            return named
    return {}


def _read_lines(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in _LABELLED.finditer(text):
        name = line["name"].lower()
        found.setdefault(_NAMES.get(name, name), line["value"])
    return found


def _brief(found: dict[str, Any]) -> Brief:
    keywords = found.get("keywords") or ()
    if isinstance(keywords, str):
        keywords = re.split(r"[,;|]", keywords)
    cleaned = [_clean(str(each), 60) for each in keywords if isinstance(each, (str, int))]
    return Brief(
        topic=_clean(str(found.get("topic") or ""), LONGEST_TOPIC_CHARACTERS)
        or "an untitled topic",
        keywords=tuple(dict.fromkeys(each for each in cleaned if each))[:MOST_KEYWORDS],
        audience=_optional(found.get("audience")),
        tone=_optional(found.get("tone")),
        category=_optional(found.get("category")),
    )


def _optional(value: Any) -> str | None:
    text = _clean(value, 120) if isinstance(value, str) else ""
    return text if text and text.lower() not in ("none", "null", "-") else None


def _clean(text: str, longest: int) -> str:
    # What would be markup in an article goes; the rest of the topic stays as it was written.
    text = re.sub(r"[<>{}`*_#|\\\[\]]|[^\S ]|[\x00-\x1f\x7f\ud800-\udfff]", " ", text)
    text = " ".join(text.split()).strip(" \"'“”")
    return text if len(text) <= longest else text[:longest].rsplit(" ", 1)[0]
