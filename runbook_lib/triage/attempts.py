"""What the newest attempts say: which failures still go on, how many, in which scope, and since when."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from typing import Any

from runbook_lib.health.rates import rate
from runbook_lib.pipeline.error_guide import UNKNOWN, scenario_of_text
from runbook_lib.pipeline.failures import FAILURE_CLASSES, NOT_COUNTED_AS_FAILURE, Fault

SOURCE = "triage.newest_attempts"
UNCLASSED = "unclassed"
HOST_EXHAUSTED = "host_exhausted"
# As resolvers, libpq and our own clients say it.
NAME_UNRESOLVED = re.compile(
    "does not resolve|not resolved|name or service not known|name resolution|getaddrinfo|could not translate host name|nodename nor servname",
    re.IGNORECASE,
)
_TOO_LONG = re.compile("context_length|maximum context length", re.IGNORECASE)
_HOST_EXHAUSTED = re.compile(
    "too many open files|no buffer space|cannot allocate memory|cannot assign requested address|no space left on device",
    re.IGNORECASE,
)
# How far "now" reaches back: so long, or so many attempts where there are fewer in that time.
WINDOW_SECONDS, FEWEST_IN_WINDOW = 1800.0, 12
# Failures among successes are a finding when even the cautious reading of their share is above this, and
# above what was usual before.
FEWEST_FAILURES, FEWEST_JOBS, SHARE_PERCENT = 4, 3, 4.0
# A few of a hundred requests fail at any provider for a moment, and go well when they are tried again.
PASSING_SHARE_PERCENT = 8.0
# Fewer than those say something only where this share is certain.
CERTAIN_FAILURES, CERTAIN_JOBS, CERTAIN_PERCENT = 3, 2, 20.0
# A few times that a provider asked to wait, where it never did: so unlikely if it were as it was before.
SUDDEN_CHANCE = 0.001
# Nothing but failures of one stage since its last success, or of one category, worker or model.
FEWEST_IN_A_ROW = 3
# Failures that came every few attempts are over when so long a calm would be chance in so few cases.
CALM_BY_CHANCE, FEWEST_CALM = 0.05, 3
WITHIN_CHANCE = 0.01
# So many attempts apart, two failures of a kind that strikes all or none are of two episodes.
EPISODES_APART = 10
# So many successes in a row part what fails now from what failed before.
CALM_ATTEMPTS = 30
# Of a stage's durations so many are needed to compare.
FEWEST_DURATIONS, FEWEST_LATE = 5, 2
WINDOWS = (5, 10, 20)
SLOWER_FACTOR = 1.8
ONE_SIDED_95 = 1.645


@dataclass(frozen=True)
class ClassSeen:
    """One class of failures among the newest attempts.

    `going_on`: it has not ended: of a provider's faults the newest outcome, of others a share that chance
    does not explain, or all there is since the last success. `over`: by how often it struck, it would have
    struck again by now; `newest_over`: so by its newest episode alone, where it had been healed before. `within`: the category, worker or model that all of it is of, while others succeed.
    """

    error_class: str
    attempts: int
    of: int
    jobs: int
    workers: int
    low_percent: float
    before_percent: float
    first_at: datetime
    newest_at: datetime
    since_success: int
    going_on: bool
    partial: bool
    over: bool
    newest_over: bool
    within: str | None
    rows: tuple[Any, ...]

    @property
    def fault(self) -> Fault | None:
        known = FAILURE_CLASSES.get(self.error_class)
        return known.fault if known else None


class Attempts:
    """The newest attempts, the newest first, without those that were handed back or ended by a person."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self.all = [row for row in rows if row.status != "released"]
        self.counted = [row for row in self.all if class_of(row) not in NOT_COUNTED_AS_FAILURE]
        self.recent = _recent(self.counted)
        self.earlier = self.counted[len(self.recent) :]

    @cached_property
    def classes(self) -> Mapping[str, ClassSeen]:
        """The classes of the failures among the recent attempts."""
        names = {class_of(row) for row in self.recent if failed(row)}
        return {name: self._seen(name) for name in sorted(names)}

    @property
    def failures(self) -> list[Any]:
        return [row for row in self.recent if failed(row)]

    @property
    def succeed(self) -> bool:
        return any(row.status == "completed" for row in self.recent)

    @cached_property
    def longest_seconds(self) -> float:
        """The longest that a completed attempt took."""
        return max(
            ((row.completed_at - row.started_at).total_seconds() for row in self.counted
             if row.status == "completed" and row.started_at and row.completed_at),
            default=0.0,
        )  # fmt: skip

    def failures_in_a_row(self) -> list[Any]:
        """The newest attempts up to the last success."""
        return _until(self.recent, lambda row: row.status == "completed")

    def newest_failures(self) -> list[Any]:
        """The failures of what goes on now, or went on last: back to the last calm, a long row of successes."""
        found: list[Any] = []
        calm = 0
        for row in self.recent:
            calm = 0 if failed(row) else calm + 1
            if found and calm >= CALM_ATTEMPTS:
                break
            if failed(row):
                found.append(row)
        return found

    def share_of(self, names: Iterable[str]) -> tuple[int, int]:
        """How many recent attempts failed with one of these classes, of how many."""
        wanted = frozenset(names)
        return sum(failed(row) and class_of(row) in wanted for row in self.recent), len(self.recent)

    def is_over(self, strikes: Callable[[Any], bool]) -> bool:
        """Whether, by how often these failures came among the recent attempts, another would have come by now."""
        places = self._places(strikes)
        return bool(places) and places[0] >= FEWEST_CALM and _is_over(places)

    def since_first(self, strikes: Callable[[Any], bool]) -> int:
        """How many of the recent attempts ended since the first of these failures, it among them."""
        places = self._places(strikes)
        return places[-1] + 1 if places else 0

    def _places(self, strikes: Callable[[Any], bool]) -> list[int]:
        """Which of the recent attempts, the newest first, failed so."""
        return [place for place, row in enumerate(self.recent) if failed(row) and strikes(row)]

    def _seen(self, name: str) -> ClassSeen:
        places = self._places(lambda row: class_of(row) == name)
        rows = [self.recent[place] for place in places]
        # Of what ran since the first of them; what ran before tells how usual they were.
        begun = self.recent[: places[-1] + 1]
        low = rate(len(rows), len(begun), z=ONE_SIDED_95).low_percent or 0.0
        before = sum(failed(row) and class_of(row) == name for row in self.earlier)
        before_percent = 100 * before / len(self.earlier) if self.earlier else 0.0
        since = [row for row in self._since_success(name) if failed(row) and class_of(row) == name]
        fault = FAILURE_CLASSES[name].fault if name in FAILURE_CLASSES else None
        of_a_provider = fault in (Fault.PROVIDER, Fault.RATE)
        in_a_row = bool(since) if of_a_provider else len(since) >= FEWEST_IN_A_ROW
        within = _all_within(rows, begun)
        more = low > before_percent and self._is_no_chance(rows, begun, low, before, fault)
        shared = more or within is not None
        return ClassSeen(
            name, len(rows), len(begun), len({row.job_id for row in rows}), len({row.worker for row in rows}), low, before_percent,
            min(row.execution_time for row in rows), max(row.execution_time for row in rows),
            len(since), in_a_row or shared, shared and not in_a_row, _is_over(places), _is_newest_over(places), within, tuple(rows),
        )  # fmt: skip

    def _is_no_chance(
        self,
        rows: Sequence[Any],
        begun: Sequence[Any],
        low: float,
        before: int,
        fault: Fault | None,
    ) -> bool:
        """Whether so many failures of a class are more than now and then one: a share since the first of them, a
        large share of all, or a few requests to wait where there were none."""
        jobs = len({row.job_id for row in rows})
        least_percent = PASSING_SHARE_PERCENT if fault is Fault.PASSING else SHARE_PERCENT
        if len(rows) >= FEWEST_FAILURES and jobs >= FEWEST_JOBS and low > least_percent:
            return True
        if len(rows) < CERTAIN_FAILURES or jobs < CERTAIN_JOBS:
            return False
        of_all = rate(len(rows), len(self.recent), z=ONE_SIDED_95).low_percent or 0.0
        others = len(self.earlier) + len(self.recent) - len(begun)
        sudden = unlikely_alone(len(rows), len(begun), before, others) < SUDDEN_CHANCE
        return of_all >= CERTAIN_PERCENT or (fault is Fault.RATE and sudden)

    def _since_success(self, name: str) -> list[Any]:
        """The attempts after the last one that got past the stage at which this class fails."""
        return _until(
            self.recent,
            _past_writing if name.startswith(("openai_", "content_", "topic_")) else _completed,
        )

    # durations

    def slower(
        self, column: str, at_least_seconds: float, under_way_seconds: Sequence[float] = ()
    ) -> tuple[float, float, float] | None:
        """Median of the newest durations and of those before, and how far chance is from explaining the
        difference, in standard deviations; None where there are too few.

        The newest few show what began a moment ago, the newest quarter a slow drift: of those that differ by
        a factor and by so many seconds, the one that chance explains least is told. What is under way counts
        once it has taken too long already, and only where others came to an end as late: it may hang.
        """
        values = [
            getattr(row, column) for row in self.counted
            if getattr(row, column) is not None and (row.status == "completed" or getattr(row, column) >= at_least_seconds)
        ]  # fmt: skip
        found = []
        for count in {*WINDOWS, max(FEWEST_DURATIONS, len(values) // 4)}:
            newer, older = _newer_and_older(values, count, at_least_seconds, under_way_seconds)
            if len(older) >= FEWEST_DURATIONS and len(newer) == count:
                new, old = statistics.median(newer), statistics.median(older)
                found.append((new, old, deviations_above(newer, older)))
        differ = [each for each in found if each[0] >= SLOWER_FACTOR * each[1] and each[0] - each[1] >= at_least_seconds]  # fmt: skip
        return max(differ or found, key=lambda each: each[2], default=None)


def _newer_and_older(
    values: Sequence[float], count: int, at_least_seconds: float, under_way_seconds: Sequence[float]
) -> tuple[list[float], list[float]]:
    """The newest durations, those that are under way and late first, and the ones before."""
    usual = statistics.median(values[count:] or values or [0.0])
    late_seconds = max(SLOWER_FACTOR * usual, usual + at_least_seconds)
    late = [age for age in under_way_seconds if age >= late_seconds]
    if sum(value >= late_seconds for value in values[:count]) < FEWEST_LATE:
        late = []
    return [*late, *values][:count], list(values[max(0, count - len(late)) :])


def _is_over(places: Sequence[int]) -> bool:
    """Whether the calm since the newest failure is longer than chance makes it; places count from the newest on."""
    calm, between = places[0], places[-1] - places[0]
    usual = (len(places) - 1) / between if between else 1.0
    return (1 - usual) ** calm < CALM_BY_CHANCE


def _is_newest_over(places: Sequence[int]) -> bool:
    """Whether the newest episode is over, which ends where more successes in a row parted it from an earlier one."""
    gaps = (index for index, (newer, older) in enumerate(pairwise(places), start=1) if older - newer > EPISODES_APART)  # fmt: skip
    return places[0] >= FEWEST_CALM and _is_over(places[: next(gaps, len(places))])


def _all_within(rows: Sequence[Any], begun: Sequence[Any]) -> str | None:
    """The column in which all failures are alike, where nothing alike succeeded since, and other things did."""
    if len(rows) < FEWEST_IN_A_ROW or len({row.job_id for row in rows}) < CERTAIN_JOBS:
        return None
    for column in ("category", "worker", "model"):
        values = {getattr(row, column) for row in rows}
        if len(values) != 1 or None in values:
            continue
        well = [row for row in begun if row.status == "completed"]
        alike = sum(getattr(row, column) in values for row in well)
        others = sum(getattr(row, column) not in (*values, None) for row in well)
        if not alike and others and unlikely_alone(len(rows), len(rows), 0, others) < WITHIN_CHANCE:
            return column
    return None


def class_of(row: Any) -> str:
    """The class of a failure; where a pipeline stores none, that of the scenario that its text tells of.

    What the worker's own host had no more of looks like a broken connection, and is none.
    """
    if row.error and _HOST_EXHAUSTED.search(row.error):
        return HOST_EXHAUSTED
    if row.error_class:
        return str(row.error_class)
    if row.status == "lost":
        return "worker_lost"
    if row.error and _TOO_LONG.search(row.error):
        return "openai_context_too_long"
    scenario = scenario_of_text(row.error)
    if scenario is UNKNOWN:
        return UNCLASSED
    return scenario.classes[0] if scenario.classes else scenario.id


def failed(row: Any) -> bool:
    return row.status in ("error", "lost")


def most_by(rows: Iterable[Any], column: str) -> tuple[Any, int]:
    """The most frequent value of a column, and how often it occurs."""
    counts = Counter(getattr(row, column) for row in rows)
    return counts.most_common(1)[0] if counts else (None, 0)


def unlikely_alone(inside: int, inside_of: int, outside: int, outside_of: int) -> float:
    """How likely it is by chance that so many failures or more fall inside (Fisher's exact test, one-sided)."""
    failures, whole = inside + outside, inside_of + outside_of
    if not inside_of or not failures:
        return 1.0
    ways = math.comb(whole, failures)
    most = min(failures, inside_of)
    return (
        sum(
            math.comb(inside_of, k) * math.comb(outside_of, failures - k)
            for k in range(inside, most + 1)
        )
        / ways
    )


def deviations_above(newer: Sequence[float], older: Sequence[float]) -> float:
    """By how many standard deviations the newer values rank above the older ones (Mann and Whitney's test)."""
    wins = sum((new > old) + 0.5 * (new == old) for new in newer for old in older)
    count, others = len(newer), len(older)
    deviation = math.sqrt(count * others * (count + others + 1) / 12)
    return (wins - count * others / 2) / deviation


def _recent(rows: Sequence[Any]) -> list[Any]:
    within = [row for row in rows if row.age_seconds <= WINDOW_SECONDS]
    return (
        within
        if len(within) >= FEWEST_IN_WINDOW
        else list(rows[: max(FEWEST_IN_WINDOW, len(within))])
    )


def _until(rows: Sequence[Any], stop: Callable[[Any], bool]) -> list[Any]:
    found = []
    for row in rows:
        if stop(row):
            break
        found.append(row)
    return found


def _completed(row: Any) -> bool:
    return bool(row.status == "completed")


def _past_writing(row: Any) -> bool:
    """Whether an article was written in this attempt: publishing one that was written before proves nothing."""
    if row.status == "completed":
        told = row.tokens is not None or row.write_seconds is not None
        return bool(row.tokens or row.write_seconds) if told else row.stage != "publish"
    return str(row.error_class).startswith("wordpress_") and bool(row.tokens)
