"""Times and lengths of time as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from runbook_lib.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LENGTH = re.compile(r"(?:\d{1,9}(?:\.\d{1,3})?[smhdw])+")
_PART = re.compile(r"([\d.]+)([smhdw])")


def length_of_time(text: str) -> timedelta:
    """`90s`, `30m`, `2h`, `1h30m`, `3d`, `1w` as a length of time. Raises `UsageError`."""
    folded = text.strip().lower().replace(" ", "")
    if not _LENGTH.fullmatch(folded):
        raise UsageError(f"{text!r} is no length of time. Write 90s, 30m, 2h, 1h30m or 3d.")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(folded))
    if seconds > 3650 * _SECONDS["d"]:
        raise UsageError(f"{text!r} is longer than ten years.")
    return timedelta(seconds=seconds)


def moment(text: str, now: datetime, *, direction: int = -1) -> datetime:
    """A moment: ISO 8601 (without a zone: UTC), or a length of time from now.

    `direction` -1 takes `2h` as two hours ago, +1 as in two hours. Raises `UsageError`.
    """
    try:
        found = datetime.fromisoformat(text.strip())
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    try:
        return now + direction * length_of_time(text)
    except UsageError:
        raise UsageError(
            f"{text!r} is no time. Write 2026-12-31T08:00, with a zone if it is not UTC, "
            "or a length such as 30m, 2h or 3d."
        ) from None
