"""Days and hours of a time zone as moments: with half-hour offsets, and days of 23 or 25 hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from runbook_lib.errors import UsageError

HOUR = timedelta(hours=1)
QUARTER = timedelta(minutes=15)


@dataclass(frozen=True)
class Period:
    """From `since` up to, and without, `until`; `label` is the day, or the hour in its time zone."""

    label: date | datetime
    since: datetime
    until: datetime


def zone_of(name: str) -> ZoneInfo:
    """The time zone of a name. Raises `UsageError` for one that does not exist."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise UsageError(
            f"There is no time zone {name!r}; expected a name such as UTC or Europe/Berlin."
        ) from None


def days_until(last_day: date, days: int, zone: ZoneInfo) -> list[Period]:
    """So many whole days of a time zone, oldest first."""
    first = last_day - timedelta(days=days - 1)
    return [_day(first + timedelta(days=number), zone) for number in range(days)]


def hours_until(now: datetime, hours: int, zone: ZoneInfo) -> list[Period]:
    """So many hours of a time zone's clock, oldest first; the last one holds `now`."""
    local = now.astimezone(zone)
    into = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    last = now.astimezone(UTC) - into
    begins = [last - HOUR * number for number in range(hours - 1, -1, -1)]
    return [Period(begin.astimezone(zone), begin, begin + HOUR) for begin in begins]


def slot_minutes(periods: Sequence[Period]) -> int:
    """The widest slots that the periods are made of: 60, or 15 where one begins or ends within an hour of UTC."""
    moments = (moment for period in periods for moment in (period.since, period.until))
    return 60 if all(moment == floor_hour(moment) for moment in moments) else 15


def floor_hour(moment: datetime) -> datetime:
    """The beginning of the hour of UTC that holds a moment."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def floor_quarter(moment: datetime) -> datetime:
    """The beginning of the quarter of an hour that holds a moment."""
    hour = floor_hour(moment)
    return hour + (moment - hour) // QUARTER * QUARTER


def _day(day: date, zone: ZoneInfo) -> Period:
    return Period(day, _midnight(day, zone), _midnight(day + timedelta(days=1), zone))


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    # The first of two midnights where clocks are set back over it; where they are set forward over it,
    # the moment at which that happens.
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
