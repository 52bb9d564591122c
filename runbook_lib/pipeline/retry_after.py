"""How long a provider asks to wait, in whatever way it says so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_NUMBER = re.compile(r"\d{1,9}(\.\d{1,9})?")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)")
_IN_WORDS = re.compile(
    r"(?:try again|retry)\s+(?:in|after)\s+"
    r"(?:(?P<duration>(?:\d{1,9}(?:\.\d{1,9})?(?:ms|s|m|h|d))+)\b"
    r"|(?P<count>\d{1,9}(?:\.\d{1,9})?)\s+(?P<unit>millisecond|second|minute|hour|day)s?\b)",
    re.IGNORECASE,
)
_UNITS = {"millisecond": "ms", "second": "s", "minute": "m", "hour": "h", "day": "d"}


def retry_after_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """What `Retry-After` asks for, given in seconds or as a date (RFC 9110, 10.2.3)."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    if _NUMBER.fullmatch(text):
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def openai_wait_seconds(headers: Mapping[str, str], message: str) -> float | None:
    """What OpenAI asks for: `retry-after-ms`, `Retry-After`, "try again in 6m0s" in the message, or the
    time at which the limit that is used up is filled again."""
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _NUMBER.fullmatch(milliseconds):
        return float(milliseconds) / 1000
    if (seconds := retry_after_seconds(headers)) is not None:
        return seconds
    if words := _IN_WORDS.search(message):
        if words["duration"]:
            return duration_seconds(words["duration"])
        return float(words["count"]) * _SECONDS[_UNITS[words["unit"].lower()]]
    resets = [
        duration_seconds(headers.get(f"x-ratelimit-reset-{kind}", ""))
        for kind in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{kind}") == "0"
    ]
    return max((each for each in resets if each is not None), default=None)


def duration_seconds(text: str) -> float | None:
    """`6m0s`, `12ms` or `1.5s` in seconds; None for anything else."""
    parts = _DURATION.findall(text.strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip().lower():
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
