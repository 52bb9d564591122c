"""Due times in every zone, checked against a clock that walks through the year minute by minute."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from runbook_lib.errors import UsageError
from runbook_lib.scheduling.cron import parse
from runbook_lib.scheduling.decisions import IN_TIME, decide
from runbook_lib.scheduling.schedules import Schedule

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
YEAR = datetime(2026, 1, 1, tzinfo=UTC)
YEARS_END = YEAR + timedelta(days=365)
HOUR = timedelta(hours=1)
# When each zone changes its clocks in 2026.
CHANGES = {
    "UTC": (datetime(2026, 3, 29, 1, tzinfo=UTC),),
    "Europe/Berlin": (datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)),
    "America/New_York": (datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)),
    "Australia/Lord_Howe": (
        datetime(2026, 4, 4, 15, tzinfo=UTC), datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
    ),
}  # fmt: skip


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", ["*/7 * * * *", "0 * * * *", "17,43 */3 * * *"])
def test_where_the_hour_is_a_star_time_simply_goes_on(cron: str, zone: str) -> None:
    """Beside a clock that walks through the days around each change, minute by minute."""
    read, there = parse(cron, zone), ZoneInfo(zone)
    for change in CHANGES[zone]:
        begins = change - timedelta(days=1)
        minutes = [begins + timedelta(minutes=number) for number in range(1, 2 * 24 * 60 + 1)]
        clock = {moment: moment.astimezone(there) for moment in minutes}
        shown = {
            moment for moment, local in clock.items()
            if local.minute in read.minutes and local.hour in read.hours
        }  # fmt: skip
        found = list(read.times(begins, minutes[-1]))
        assert found == sorted(set(found))
        # Every minute whose clock fits, and beyond that only what the zone skips, right after it.
        assert shown <= set(found)
        assert all(timedelta(0) <= extra - change < HOUR for extra in set(found) - shown)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    "cron", ["0 0 * * *", "30 0 * * *", "15 2 * * *", "30 2 * * *", "30 6 * * *"]
)
def test_a_named_time_comes_due_once_a_day_all_year(cron: str, zone: str) -> None:
    there = ZoneInfo(zone)
    found = list(parse(cron, zone).times(YEAR, YEARS_END))
    days = Counter(moment.astimezone(there).date() for moment in found)
    first, last = min(days), max(days)
    assert set(days.values()) == {1}
    assert len(days) == (last - first).days + 1 >= 364
    minute, hour = (int(part) for part in cron.split()[:2])
    changed = [m for m in found if (m.astimezone(there).hour, m.astimezone(there).minute) != (hour, minute)]  # fmt: skip
    assert len(changed) <= 1  # the day on which the clocks skip it
    for moment in changed:
        assert any(timedelta(0) <= moment - change < timedelta(hours=1) for change in CHANGES[zone])


def test_dates_and_names() -> None:
    def first(cron: str, count: int = 3) -> list[str]:
        found = parse(cron, "UTC").times(YEAR, YEARS_END)
        return [f"{next(found):%a %m-%d %H:%M}" for _ in range(count)]

    assert first("0 6 * * mon") == ["Mon 01-05 06:00", "Mon 01-12 06:00", "Mon 01-19 06:00"]
    assert first("0 6 * * thu-sun", 5) == [
        "Thu 01-01 06:00", "Fri 01-02 06:00", "Sat 01-03 06:00", "Sun 01-04 06:00", "Thu 01-08 06:00",
    ]  # fmt: skip
    assert first("0 0 last * *") == ["Sat 01-31 00:00", "Sat 02-28 00:00", "Tue 03-31 00:00"]
    assert first("0 0 31 * *") == ["Sat 01-31 00:00", "Tue 03-31 00:00", "Sun 05-31 00:00"]
    assert first("5-15/5 8 1 feb,aug *") == ["Sun 02-01 08:05", "Sun 02-01 08:10", "Sun 02-01 08:15"]  # fmt: skip
    leap = parse("0 0 29 2 *", "UTC").times(YEAR, YEAR + timedelta(days=366 * 8))
    assert [f"{moment:%Y-%m-%d}" for moment in leap] == ["2028-02-29", "2032-02-29"]


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("0 6 * * 1", "name weekdays"),
        ("0 6 * *", "five fields"),
        ("0 25 * * *", "hour '25' is not one of 0 to 23"),
        ("60 * * * *", "minute '60'"),
        ("*/0 * * * *", "holds nothing"),
        ("5-2 * * * *", "holds nothing"),
        ("0 6 1 * mon", "a day and a weekday"),
        ("0 6 31 2 *", "never comes due"),
        ("0 6 * * moon", "not one of mon, tue"),
        ("0 6 * foo *", "month 'foo'"),
        ("a-b-c * * * *", "is not read"),
        ("١ * * * *", "minute"),
    ],
)
def test_what_is_no_cron_is_refused_in_words(cron: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse(cron, "UTC")


@settings(max_examples=30, deadline=None)
@given(
    zone=some.sampled_from(ZONES),
    cron=some.sampled_from(
        ["*/7 * * * *", "30 2 * * *", "0 */2 * * *", "15 0 * * mon", "*/30 1-3 * * *"]
    ),
    steps=some.lists(some.integers(1, 60_000), min_size=3, max_size=30),
    change=some.integers(0, 1),
)
def test_due_times_do_not_depend_on_when_one_looks(
    zone: str, cron: str, steps: list[int], change: int
) -> None:
    start = CHANGES[zone][change % len(CHANGES[zone])] - timedelta(hours=30)
    read, moment = parse(cron, zone), start
    bit_by_bit: list[datetime] = []
    for seconds in steps:
        later = moment + timedelta(seconds=seconds)
        bit_by_bit += read.times(moment, later)
        moment = later
    assert bit_by_bit == list(read.times(start, moment))


# --- a simulated scheduler: looks, outages, a clock that jumps


class Simulation:
    """Schedulers that share a ledger, as they share the table; its key is unique, so is ours."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule, self.last = schedule, YEAR
        self.ledger: dict[datetime, str] = {}
        self.times_run: Counter[datetime] = Counter()

    def look(self, now: datetime) -> None:
        """What a scheduler's look does, with this clock and this ledger."""
        for decision in decide(self.schedule, list(self.schedule.due_times(self.last, now)), now):
            if decision.due_at not in self.ledger:  # the insert under the unique key
                self.ledger[decision.due_at] = decision.outcome
                self.times_run[decision.due_at] += decision.outcome == "started"
                self.last = max(self.last, decision.due_at)


some_hours = some.integers(0, 364 * 24)


@settings(max_examples=10, deadline=None)
@given(
    zone=some.sampled_from(ZONES),
    cron=some.sampled_from(
        ["0 * * * *", "30 2 * * *", "*/20 1-3 * * *", "0 0 * * *", "0 6 * * mon"]
    ),
    catch_up=some.sampled_from(["once", "each", "none"]),
    outages=some.lists(some_hours, max_size=12),
    jumps=some.lists(some.tuples(some_hours, some.sampled_from([-2, 2])), max_size=8),
)
def test_a_year_of_outages_and_clock_jumps_deals_with_each_due_time_once(
    zone: str, cron: str, catch_up: str, outages: list[int], jumps: list[tuple[int, int]]
) -> None:
    """No scheduler for three hours at a time; a clock that is two hours wrong for five, either way."""
    schedule = Schedule("s", "a/b", cron, timezone=zone, catch_up=catch_up)
    simulation, everything = Simulation(schedule), list(schedule.due_times(YEAR, YEARS_END))
    away = {hour + offset for hour in outages for offset in range(3)}
    wrong = {hour + offset: by * HOUR for hour, by in jumps for offset in range(5)}
    # Where something disturbs, a look each minute; elsewhere those at the due times are enough.
    disturbed = {hour + offset for hour in [*away, *wrong] for offset in range(-3, 4)}
    looks = [YEAR + hour * HOUR + timedelta(minutes=minute)
             for hour in sorted(disturbed - away) for minute in range(60)]  # fmt: skip
    quiet = [due for due in everything if (due - YEAR) // HOUR not in disturbed]
    for real in sorted({*looks, *quiet, YEARS_END + 3 * HOUR}):
        simulation.look(real + wrong.get((real - YEAR) // HOUR, timedelta(0)))
    assert [due for due in everything if due not in simulation.ledger] == []
    assert max(simulation.times_run.values()) == 1
    missed = [due for due in everything if simulation.ledger[due] == "missed"]
    assert not missed or catch_up != "each"
    for due in missed:  # only what nobody saw in time: an outage, or a clock that had leapt over it
        assert (due - YEAR) // HOUR in disturbed or due > YEARS_END - HOUR


def test_what_is_dealt_with_in_time_is_what_a_minute_of_looking_allows() -> None:
    assert timedelta(minutes=1) < IN_TIME < timedelta(minutes=5)
