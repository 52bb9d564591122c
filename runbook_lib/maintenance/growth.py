"""How the database grows, and when its room is used up: from sizes that were kept, not from a guess."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2

from runbook_lib.credentials.masking import one_line
from runbook_lib.database.statements import load
from runbook_lib.errors import RunbookError
from runbook_lib.health.answers import size_words
from runbook_lib.health.checks import Check, Verdict
from runbook_lib.health.sources import Sources

_SQL = load("database_review")
DAYS_READ = 60
# Two sizes an hour apart say nothing of a month.
LEAST_SPAN = timedelta(days=1)
WARNING_DAYS, CRITICAL_DAYS = 60.0, 14.0
# Beyond this the line says nothing any more.
FARTHEST_DAYS = 3650.0


@dataclass(frozen=True)
class Growth:
    """Sizes as they were kept, and what they grow by a day. `limit_bytes` is where the room ends."""

    sizes: Sequence[tuple[datetime, int]]
    tables: Sequence[dict[str, Any]]
    daily_bytes: float | None
    limit_bytes: float | None
    full_on: datetime | None
    check: Check


def growth(sources: Sources, room_bytes: float | None, room_words: str) -> Growth:
    """Keeps today's sizes among ours and draws the line through those that were kept.

    `room_bytes` is how much more the database may take, `room_words` where that is known from. Raises what
    the pipeline's database raises; that nothing could be kept of ours is told in the check.
    """
    with sources.pipeline.transaction(read_only=True) as transaction:
        now = transaction.row(_SQL["sizes"])
    assert now is not None
    kept, problem = _keep(sources, now)
    sizes = [(row.taken_at, row.bytes) for row in kept] or [(datetime.now(UTC), now.bytes)]
    daily = slope_per_day(sizes)
    limit = None if room_bytes is None else now.bytes + room_bytes
    full_on = _full_on(daily, room_bytes)
    return Growth(
        sizes, _tables(kept, now), daily, limit, full_on,
        _check(now.bytes, sizes, daily, room_bytes, room_words, full_on, problem),
    )  # fmt: skip


def slope_per_day(sizes: Sequence[tuple[datetime, int]]) -> float | None:
    """Bytes a day, as the median of the slopes between all pairs: one clean-up or import does not bend it."""
    if len(sizes) < 2 or sizes[-1][0] - sizes[0][0] < LEAST_SPAN:
        return None
    thinned = sizes[:: max(1, len(sizes) // 100)]
    slopes = sorted(
        (later[1] - earlier[1]) / ((later[0] - earlier[0]) / timedelta(days=1))
        for number, earlier in enumerate(thinned)
        for later in thinned[number + 1 :]
        if later[0] - earlier[0] >= LEAST_SPAN / 2
    )
    middle = len(slopes) // 2
    if not slopes:
        return None
    return slopes[middle] if len(slopes) % 2 else (slopes[middle - 1] + slopes[middle]) / 2


def _full_on(daily: float | None, room_bytes: float | None) -> datetime | None:
    if daily is None or room_bytes is None or daily <= 0 or room_bytes / daily > FARTHEST_DAYS:
        return None
    return datetime.now(UTC) + timedelta(days=max(0.0, room_bytes / daily))


def _keep(sources: Sources, now: Any) -> tuple[list[Any], str | None]:
    """The sizes that were kept, today's among them; and what went wrong with keeping it."""
    problem = None
    try:
        with sources.bookkeeping.transaction() as transaction:
            transaction.run(_SQL["keep_sizes"], database=now.database, bytes=now.bytes, tables=json.dumps(now.tables))  # fmt: skip
    except (psycopg2.Error, RunbookError) as error:
        problem = f"Today's size was not kept: {one_line(str(error).splitlines()[0], 200)}"
    try:
        with sources.bookkeeping.transaction(read_only=True) as transaction:
            return transaction.rows(_SQL["sizes_before"], database=now.database, days=DAYS_READ), problem  # fmt: skip
    except (psycopg2.Error, RunbookError):
        return [], problem


def _tables(kept: Sequence[Any], now: Any) -> list[dict[str, Any]]:
    """The largest tables, and what they grew by since the first size that was kept."""
    first = kept[0] if len(kept) > 1 else None
    rows = []
    for name, size in sorted(now.tables.items(), key=lambda each: -each[1])[:12]:
        before = first.tables.get(name) if first else None
        rows.append({
            "table": name, "size": size_words(size),
            "share_percent": round(100 * size / now.bytes, 1),
            "grown_since": first.taken_at if first and before is not None else None,
            "grown": None if before is None else f"{'-' if size < before else '+'}{size_words(abs(size - before))}",
        })  # fmt: skip
    return rows


def _check(
    size: int, sizes: Sequence[tuple[datetime, int]], daily: float | None, room_bytes: float | None,
    room_words: str, full_on: datetime | None, problem: str | None,
) -> Check:  # fmt: skip
    words = f"The database takes {size_words(size)}"
    if daily is None:
        words += (
            f". Growth is not known yet: sizes were kept {len(sizes)} times, over less than a day."
        )
        return Check("database.growth", "not_enough_data", _with(words, problem), source=_SQL["sizes"].source,
                     next="The hour's or the month's next run knows more.")  # fmt: skip
    change = f"{'grows' if daily >= 0 else 'shrinks'} by {size_words(abs(daily))} a day"
    words += f" and {change}."
    if room_bytes is None:
        return Check("database.growth", "ok", _with(words, problem), round(daily), "bytes a day", source=_SQL["sizes"].source,
                     does_not_prove=f"that there is room: {room_words}")  # fmt: skip
    days = None if full_on is None else (full_on - datetime.now(UTC)) / timedelta(days=1)
    verdict: Verdict = "ok"
    if days is not None and full_on is not None:
        verdict = "critical" if days < CRITICAL_DAYS else "warning" if days < WARNING_DAYS else "ok"
        words += f" At that rate its room ({size_words(room_bytes)}, {room_words}) is used up on {full_on:%Y-%m-%d}, in {days:.0f} days."
    else:
        words += (
            f" It has room for {size_words(room_bytes)} ({room_words}), and no end is in sight."
        )
    return Check(
        "database.growth", verdict, _with(words, problem), None if days is None else round(days, 1), "days left",
        WARNING_DAYS, _SQL["sizes"].source, "that it goes on so: an import or a clean-up bends the line",
        "Take old weeks out (weekly/cleanup), then look at the largest table, then enlarge the disk." if verdict != "ok" else None,
        procedure="weekly/cleanup" if verdict != "ok" else None,
    )  # fmt: skip


def _with(words: str, problem: str | None) -> str:
    return words if problem is None else f"{words} {problem}"
