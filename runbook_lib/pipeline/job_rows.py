"""What a row of a job file must be: its columns, their values, and the key that makes it one job."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

# column → other headings that mean it, with `_` for blanks and hyphens
HEADINGS: dict[str, tuple[str, ...]] = {
    "topic": ("title", "headline", "subject"),
    "category": ("categories", "section"),
    "keywords": ("keyword", "tags", "key_words"),
    "audience": ("target_audience", "readers", "reader"),
    "tone": ("tone_of_voice", "voice", "style"),
    "post_status": ("requested_post_status", "wordpress_status", "publish_as"),
    "priority": ("prio",),
    "run_at": ("not_before", "publish_at", "publish_date", "publication_date", "scheduled_for"),
    "idempotency_key": ("external_id",),
}
POST_STATUSES = ("publish", "draft", "pending")
PRIORITY_WORDS = {"urgent": 10, "high": 50, "normal": 100, "medium": 100, "low": 200}
TEXT_CHARACTERS = 500
KEY_CHARACTERS = 500
KEYWORDS = 50
EXCERPT_CHARACTERS = 500
_LARGEST_INTEGER = 2**31 - 1
_SURROGATE = re.compile("[\ud800-\udfff]")
_BAD_BYTE = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True)
class Columns:
    """Which heading of a file gives which column, and which headings give none."""

    heading_of: dict[str, str]
    unknown: list[str]

    @staticmethod
    @lru_cache(maxsize=256)
    def of(headings: tuple[str, ...]) -> Columns:
        """The column's own name goes before an alias; a heading that is not used is unknown."""
        folded = {
            heading: re.sub(r"[\s_-]+", "_", heading.strip().casefold()) for heading in headings
        }
        heading_of: dict[str, str] = {}
        for column, aliases in HEADINGS.items():
            for name in (column, *aliases):
                found = [heading for heading, text in folded.items() if text == name]
                if found:
                    heading_of[column] = found[0]
                    break
        used = set(heading_of.values())
        return Columns(heading_of, [each for each in headings if each.strip() and each not in used])

    @staticmethod
    def known() -> list[str]:
        return list(HEADINGS)


@dataclass(frozen=True)
class FileRow:
    """One row as the file has it: the physical line it begins on, and its values by known column."""

    line: int
    values: dict[str, Any]


@dataclass(frozen=True)
class BrokenRow:
    """A line that is no row; reading goes on with the next one."""

    line: int
    reason: str
    text: str


def broken_row(line: int, reason: str, text: str) -> BrokenRow:
    return BrokenRow(line, reason, text.strip("\r\n")[:EXCERPT_CHARACTERS])


def not_read(headings: list[str], where: str) -> str:
    return (
        f"{where}: {', '.join(headings)} was not read; the known headings are "
        f"{', '.join(Columns.known())}."
    )


class NewJob(NamedTuple):
    """A row that can become a job. `line` is the physical line on which it begins."""

    line: int
    topic: str
    category: str | None
    keywords: list[str]
    audience: str | None
    tone: str | None
    post_status: str | None
    priority: int | None
    run_at: datetime | None
    idempotency_key: str


class Unfit(Exception):
    """A value does not fit; `column` says where."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.reason = reason


def new_job(line: int, values: Mapping[str, Any], maximum_topic_characters: int) -> NewJob:
    """A row's values, checked, with its key: the given one, or one derived from the content.

    Raises `Unfit` naming the column and the reason.
    """
    topic = _text(values, "topic", maximum_topic_characters)
    if topic is None:
        raise Unfit("topic", "is empty")
    category = _text(values, "category")
    audience = _text(values, "audience")
    tone = _text(values, "tone")
    keywords = _keywords(values.get("keywords"))
    return NewJob(
        line,
        topic,
        category,
        keywords,
        audience,
        tone,
        _post_status(_text(values, "post_status")),
        _priority(values.get("priority")),
        _run_at(_text(values, "run_at")),
        _text(values, "idempotency_key", KEY_CHARACTERS)
        or content_key(topic, category, audience, tone, keywords),
    )


def content_key(
    topic: str,
    category: str | None = None,
    audience: str | None = None,
    tone: str | None = None,
    keywords: Sequence[str] = (),
) -> str:
    """The key of a job without one of its own: sha256 of the content, whatever its case and spacing.

    The order of the keywords does not count.
    """
    content = [_folded(part or "") for part in (topic, category, audience, tone)]
    content.append(sorted({_folded(keyword) for keyword in keywords}))  # type: ignore[arg-type]
    plain = json.dumps(content, ensure_ascii=False).encode("utf-8")
    return f"content:{hashlib.sha256(plain).hexdigest()}"


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _text(
    values: Mapping[str, Any], column: str, maximum_characters: int = TEXT_CHARACTERS
) -> str | None:
    value = values.get(column)
    if value is None or value == "":
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and column != "topic":
        value = str(value)
    if not isinstance(value, str):
        raise Unfit(column, f"must be a text, not {_kind(value)}")
    return _plain(value, column, maximum_characters) or None


def _plain(value: str, column: str, maximum_characters: int) -> str:
    text = value.strip()
    if len(text) > maximum_characters:
        raise Unfit(column, f"has {len(text)} characters; {maximum_characters} are allowed")
    if "\x00" in text:
        raise Unfit(column, "holds a NUL character")
    if surrogate := _SURROGATE.search(text):
        code = ord(surrogate[0])
        if _BAD_BYTE.match(surrogate[0]):
            raise Unfit(column, f"holds the byte 0x{code - 0xDC00:02x}, which is no character here")
        raise Unfit(column, f"holds half a character (U+{code:04X})")
    return text


def _keywords(value: Any) -> list[str]:
    if value is None:
        return []
    parts = re.split("[;,]", value) if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise Unfit("keywords", "must be texts, separated by ; or ,")
    found = dict.fromkeys(_plain(part, "keywords", TEXT_CHARACTERS) for part in parts)
    found.pop("", None)
    if len(found) > KEYWORDS:
        raise Unfit("keywords", f"are {len(found)}; {KEYWORDS} are allowed")
    return list(found)


def _post_status(text: str | None) -> str | None:
    if text is None or text.casefold() in POST_STATUSES:
        return text and text.casefold()
    raise Unfit("post_status", f"is {text[:40]!r}; it can be {', '.join(POST_STATUSES)}")


def _priority(value: Any) -> int | None:
    text = str(value).strip().casefold() if value is not None else ""
    if not text:
        return None
    if text in PRIORITY_WORDS:
        return PRIORITY_WORDS[text]
    if re.fullmatch(r"[+-]?[0-9]{1,10}", text) and abs(int(text)) <= _LARGEST_INTEGER:
        return int(text)
    raise Unfit(
        "priority",
        f"is {text[:40]!r}; it is a whole number, the smaller the earlier (100 is usual), "
        f"or one of {', '.join(PRIORITY_WORDS)}",
    )


def _run_at(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        # A time without a zone is UTC; arithmetic at the ends of the calendar overflows.
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unfit(
            "run_at", f"is {text[:40]!r}; write 2026-12-31 or 2026-12-31T08:00+01:00"
        ) from None
    return moment


_KINDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)
