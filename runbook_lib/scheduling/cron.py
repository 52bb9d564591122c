"""Five cron fields in a time zone → moments in UTC.

APScheduler's own trigger leaves a whole day out when its local time falls into the hour that a zone
skips after midnight, and counts weekdays from Monday where cron counts from Sunday. Here a named local
time comes due once a day in every zone: one that the zone skips as much later as it skips, one that it
repeats the first time only. Where the hour is `*`, time simply goes on, and the repeated hour counts twice.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from runbook_lib.errors import UsageError

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# Four years bring every date; eight, where a year without a leap day lies between.
LONGEST_WAIT = timedelta(days=366 * 8)

_FIELDS = ("minute", "hour", "day", "month", "weekday")
_RANGES = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 6)}
_PART = re.compile(
    r"(?P<every>\*)(?:/(?P<every_step>\d+))?|(?P<first>\w+)(?:-(?P<last>\w+)(?:/(?P<step>\d+))?)?",
    re.ASCII,
)


@dataclass(frozen=True)
class Cron:
    """When something comes due; read by `parse`."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    last_day: bool
    months: frozenset[int]
    weekdays: frozenset[int]
    every_hour: bool
    zone: ZoneInfo

    def times(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The moments later than `after` and not later than `until`, in UTC, in order."""
        # A day earlier and later: the local date is up to 14 hours away, and what is skipped comes later.
        day = after.astimezone(self.zone).date() - timedelta(days=1)
        last = until.astimezone(self.zone).date() + timedelta(days=1)
        newest = after.astimezone(UTC)
        while day <= last:
            for moment in _moments_on(self, day):
                if newest < moment <= until:
                    yield moment
                    newest = moment
            day += timedelta(days=1)

    def matches(self, day: date) -> bool:
        """Whether anything comes due on this local date."""
        if day.month not in self.months or day.weekday() not in self.weekdays:
            return False
        return day.day in self.days or (
            self.last_day and day.day == calendar.monthrange(day.year, day.month)[1]
        )


@lru_cache(maxsize=64)
def _moments_on(cron: Cron, day: date) -> tuple[datetime, ...]:
    found = set()
    for hour in cron.hours if cron.matches(day) else ():
        for minute in cron.minutes:
            local = datetime.combine(day, time(hour, minute), cron.zone)
            found.add(local.astimezone(UTC))
            if cron.every_hour and _exists(local):
                found.add(local.replace(fold=1).astimezone(UTC))
    return tuple(sorted(found))


def _exists(local: datetime) -> bool:
    """Whether the zone's clocks show this time; not when they leap over it."""
    back = local.astimezone(UTC).astimezone(local.tzinfo)
    return back.replace(fold=0) == local


def parse(text: str, zone: str) -> Cron:
    """Reads five fields. Raises `UsageError` that names the field and what is wrong with it."""
    parts = text.lower().split()
    if len(parts) != len(_FIELDS):
        raise UsageError(f"cron {text!r} must have five fields: {' '.join(_FIELDS)}")
    minute, hour, day, month, weekday = parts
    # APScheduler counts weekdays from Monday, cron from Sunday: a figure means two different days.
    if re.search(r"\d", re.sub(r"/\d+", "", weekday)):
        raise UsageError(
            f"weekday {weekday!r}: name weekdays (mon, tue … sun), figures differ between programs"
        )
    if weekday != "*" and day != "*":
        raise UsageError(
            f"cron {text!r} names a day and a weekday; programs differ in whether either or both must fit. Use one"
        )
    ordinary_days = [part for part in day.split(",") if part != "last"]
    cron = Cron(
        minutes=tuple(sorted(_values(text, "minute", minute))),
        hours=tuple(sorted(_values(text, "hour", hour))),
        days=frozenset(_values(text, "day", ",".join(ordinary_days)) if ordinary_days else ()),
        last_day="last" in day.split(","),
        months=frozenset(_values(text, "month", month, MONTHS)),
        weekdays=frozenset(_values(text, "weekday", weekday, WEEKDAYS)),
        every_hour=hour.startswith("*"),
        zone=ZoneInfo(zone),
    )
    start = datetime(2026, 1, 1, tzinfo=UTC)
    if next(cron.times(start, start + LONGEST_WAIT), None) is None:
        raise UsageError(f"cron {text!r} never comes due")
    return cron


def _values(text: str, name: str, field: str, names: tuple[str, ...] = ()) -> set[int]:
    lowest, highest = _RANGES[name]
    found: set[int] = set()
    for part in field.split(","):
        read = _PART.fullmatch(part)
        if read is None:
            raise UsageError(
                f"cron {text!r}: {name} {part!r} is not read; write *, */n, a, a-b or a-b/n"
            )
        step = int(read["every_step"] or read["step"] or 1)
        first = lowest if read["every"] else _value(text, name, read["first"], names)
        end = highest if read["every"] else first
        last = _value(text, name, read["last"], names) if read["last"] else end
        if step < 1 or step > highest or first > last:
            raise UsageError(f"cron {text!r}: {name} {part!r} holds nothing")
        found |= set(range(first, last + 1, step))
    return found


def _value(text: str, name: str, word: str, names: tuple[str, ...]) -> int:
    lowest, highest = _RANGES[name]
    if word in names:
        return names.index(word) + lowest
    if not word.isdecimal() or not lowest <= int(word) <= highest:
        allowed = f"{lowest} to {highest}" if name != "weekday" else ", ".join(names)
        raise UsageError(f"cron {text!r}: {name} {word!r} is not one of {allowed}")
    return int(word)
