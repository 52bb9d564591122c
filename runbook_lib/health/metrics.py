"""The history of a pipeline in figures: by day and hour, durations, failures, queue and cost.

    history = History(context)
    history.by_day(7, "Europe/Berlin")

Every frame's columns are in its method's description; what is not known is NaN, never 0 or 100. All but
the queue come from the rollup, which each reading brings up to date first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

from psycopg2.errors import InsufficientPrivilege, ReadOnlySqlTransaction

from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Connection, Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import UsageError
from runbook_lib.health.context import Context
from runbook_lib.health.histogram import percentile_seconds
from runbook_lib.health.periods import (
    HOUR,
    Period,
    days_until,
    floor_hour,
    floor_quarter,
    hours_until,
    slot_minutes,
    zone_of,
)
from runbook_lib.health.rollup import Refreshed, refresh
from runbook_lib.pipeline.failures import FAILURE_CLASSES, NOT_COUNTED_AS_FAILURE

if TYPE_CHECKING:
    import pandas

By = Literal["stage", "model", "provider"]
_SQL = load("history")
# Below this many attempts a percentile is one attempt's accident.
FEWEST_FOR_P95 = 20
FEWEST_FOR_P99 = 100
# Stage → whose time it is. `own` is an attempt without the time inside calls to providers.
PROVIDER_OF_STAGE = {"writing": "openai", "publishing": "wordpress", "own": "pipeline"}
STAGES = ("writing", "publishing", "own", "whole")
# A reading refreshes the rollup unless this object did so within these seconds.
FRESH_SECONDS = 10.0
REFRESH_DEADLINE_SECONDS = 20.0
_SKETCH = 64

_COUNTS = ("completed", "error", "lost", "released", "left_out", "jobs_completed", "jobs_failed")
_TIMES = ("average_seconds", "p50_seconds", "p95_seconds", "p99_seconds", "longest_seconds")


@dataclass(frozen=True)
class AsOf:
    """How current the rollup is: what was committed before `moment` is in, unless `problem` says why not."""

    moment: datetime | None
    problem: str | None = None


class History:
    """Figures of a pipeline's history. Keeps a connection; `close` lets go of it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._sources = context.sources
        self._connections: dict[int, Connection] = {}
        self._refreshed_at = -math.inf
        self.as_of = AsOf(None, "Nothing was read yet.")

    def now(self) -> datetime:
        """The database's clock."""
        return self._now()

    def by_day(
        self, days: int = 7, timezone: str = "UTC", *, last_day: date | None = None
    ) -> pandas.DataFrame:
        """One row a day of the time zone, also for days without any attempt; the last one is today.

        `day`; attempts by outcome: `attempts`, `completed`, `error`, `lost`, `released`, `left_out`; of
        attempts that count: `failures_percent`, `success_percent`; jobs that ended: `jobs_completed`,
        `jobs_failed`, `jobs_failed_percent`; of completed attempts: `average_seconds`, `p50_seconds`,
        `p95_seconds`, `p99_seconds`, `longest_seconds`; `last_completed_at`.
        """
        zone = zone_of(timezone)
        with self._reading() as (transaction, now):
            last = last_day or now.astimezone(zone).date()
            periods = days_until(last, _positive(days, "days"), zone)
            return _by_period(transaction, "day", periods, zone)

    def by_hour(self, hours: int = 24, timezone: str = "UTC") -> pandas.DataFrame:
        """One row an hour of the time zone's clock, the last one being this hour; else as `by_day`."""
        zone = zone_of(timezone)
        with self._reading() as (transaction, now):
            periods = hours_until(now, _positive(hours, "hours"), zone)
            return _by_period(transaction, "hour", periods, zone)

    def durations(
        self, since: datetime, until: datetime | None = None, by: By = "stage", *, completed: bool = True
    ) -> pandas.DataFrame:  # fmt: skip
        """How long attempts took, by stage, model or provider, since a quarter of an hour (see `_quarters`).

        The name of `by`; `attempts`, `average_seconds`, `p50_seconds`, `p95_seconds`, `p99_seconds`,
        `longest_seconds`. Stage `own` is an attempt less the time inside calls to providers, `whole` all
        of it. `completed=False`: of the attempts that failed.
        """
        stages = {"model": ["writing"], "provider": list(PROVIDER_OF_STAGE), "stage": list(STAGES)}
        if by not in stages:
            raise UsageError(f"Durations are by stage, model or provider, not by {by!r}.")
        with self._reading() as (transaction, now):
            period = _quarters(since, until, now)
            rows = _durations(transaction, [period], stages[by], by, completed)
        names = {"provider": PROVIDER_OF_STAGE}.get(by, {})
        order = {name: place for place, name in enumerate(STAGES)}
        rows.sort(key=lambda row: (order.get(row["name"], 0), row["name"]))
        found = [
            {by: names.get(row["name"], row["name"]), "attempts": row["attempts"], **row["times"]}
            for row in rows
        ]
        return _frame(found, [by, "attempts", *_TIMES])

    def failures(self, since: datetime, until: datetime | None = None) -> pandas.DataFrame:
        """What failed between two hours, the most frequent cause first.

        `error_class`, `fingerprint`, `attempts`, `share_percent`, `jobs` (distinct ones), `jobs_exact`
        (whether they were counted or, beyond 64, estimated), `counted` (whether failure rates count it),
        `first_seen`, `last_seen`, `sample_job`, `sample` (a masked error text), `meaning`, `advice`.
        """
        with self._reading() as (transaction, now):
            found = transaction.rows(_SQL["failures"], since=floor_hour(since), until=until or now)
        total = sum(row.attempts for row in found)
        rows = []
        for row in found:
            known = FAILURE_CLASSES.get(row.error_class)
            jobs, exact = _distinct_jobs(row)
            rows.append({
                "error_class": row.error_class, "fingerprint": row.fingerprint or None,
                "attempts": row.attempts, "share_percent": round(100 * row.attempts / total, 1),
                "jobs": jobs, "jobs_exact": exact,
                "counted": row.error_class not in NOT_COUNTED_AS_FAILURE,
                "first_seen": row.first_seen, "last_seen": row.last_seen,
                "sample_job": row.sample_job or None, "sample": row.sample,
                "meaning": known.meaning if known else "Not in the catalogue of failures.",
                "advice": known.advice if known else "Read the message: `runbook jobs show`.",
            })  # fmt: skip
        return _frame(rows, [
            "error_class", "fingerprint", "attempts", "share_percent", "jobs", "jobs_exact", "counted",
            "first_seen", "last_seen", "sample_job", "sample", "meaning", "advice",
        ])  # fmt: skip

    def queue(self) -> pandas.DataFrame:
        """What waits and is worked on now: `state`, `jobs`, `oldest_at`, `oldest_seconds`.

        `due` may be claimed now, `deferred` later; `processing` has a worker, `expired` lost it.
        """
        with self._read(self._sources.pipeline) as transaction:
            found = {
                row.state: row for row in transaction.rows(self._sources.reading(_SQL["queue"]))
            }
        rows = [
            found[state]._asdict() if state in found
            else {"state": state, "jobs": 0, "oldest_at": None, "oldest_seconds": math.nan}
            for state in ("due", "deferred", "processing", "expired")
        ]  # fmt: skip
        return _frame(rows, ["state", "jobs", "oldest_at", "oldest_seconds"])

    def cost(
        self, days: int = 30, timezone: str = "UTC", *, last_day: date | None = None
    ) -> pandas.DataFrame:
        """Calls, tokens and cost by day and model; a day without calls has one row, without a model.

        `day`, `model`, `calls`, `prompt_tokens`, `completion_tokens`, `tokens`, `cost_usd`,
        `calls_without_price` (their cost is not in the sum, which then is a lower bound).
        """
        zone = zone_of(timezone)
        with self._reading() as (transaction, now):
            last = last_day or now.astimezone(zone).date()
            periods = days_until(last, _positive(days, "days"), zone)
            found = transaction.rows(_SQL["cost_by_period"], **_moments(periods))
        columns = ("model", "calls", "prompt_tokens", "completion_tokens", "tokens", "cost_usd", "calls_without_price")  # fmt: skip
        rows = []
        for position, period in enumerate(periods, start=1):
            of_day = [row for row in found if row.position == position]
            for row in of_day or [None]:
                values = [getattr(row, name) for name in columns] if row else [None, *[0] * 6]
                rows.append({"day": period.label, **dict(zip(columns, values, strict=True))})
        return _frame(rows, ["day", *columns])

    def stored_runs(self, older_than_days: int = 30) -> pandas.DataFrame:
        """How many runs are kept: one row of `runs`, `old_runs` (older than that, to the hour), `oldest`, `newest`."""
        with self._reading() as (transaction, now):
            before = floor_hour(now - timedelta(days=older_than_days))
            row = transaction.row(_SQL["stored_runs"], before=before)
        return _frame([row._asdict()] if row else [], ["runs", "old_runs", "oldest", "newest"])

    def as_json(self, days: int = 7, hours: int = 24, timezone: str = "UTC") -> dict[str, Any]:
        """Everything above as plain values: None where nothing is known, moments in ISO 8601."""
        since = self._now() - timedelta(days=days)
        return {
            "timezone": timezone,
            "days": records(self.by_day(days, timezone)),
            "hours": records(self.by_hour(hours, timezone)),
            "durations": {
                by: records(self.durations(since, by=by)) for by in ("stage", "model", "provider")
            },
            "failures": records(self.failures(self._now() - timedelta(hours=hours))),
            "queue": records(self.queue()),
            "cost": records(self.cost(days, timezone)),
            "stored_runs": records(self.stored_runs())[0],
            "as_of": self.as_of.moment.isoformat() if self.as_of.moment else None,
            "problem": self.as_of.problem,
        }

    def refresh(self) -> Refreshed | None:
        """Brings the rollup up to date; None when this role or the time did not allow it (`as_of`)."""
        try:
            done = refresh(self._sources, deadline_seconds=REFRESH_DEADLINE_SECONDS)
        except (InsufficientPrivilege, ReadOnlySqlTransaction) as error:
            self.as_of = AsOf(
                self.as_of.moment, f"Not brought up to date: {one_line(str(error), 200)}"
            )
            return None
        finally:
            self._refreshed_at = time.monotonic()
        left = f"{done.hours_left} hours are not counted again yet." if done.hours_left else None
        self.as_of = AsOf(done.as_of, left)
        return done

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _now(self) -> datetime:
        with self._reading() as (_, now):
            return now

    @contextmanager
    def _reading(self) -> Iterator[tuple[Transaction, datetime]]:
        """A transaction where the rollup is, brought up to date before, and the database's clock."""
        if time.monotonic() - self._refreshed_at > FRESH_SECONDS:
            self.refresh()
        with self._read(self._sources.bookkeeping) as transaction:
            state = transaction.row(load("rollup")["state"])
            assert state is not None
            self.as_of = AsOf(state.refreshed_at, self.as_of.problem)
            yield transaction, state.now

    @contextmanager
    def _read(self, database: Database) -> Iterator[Transaction]:
        connection = self._connections.get(id(database))
        if connection is None or connection.broken:
            connection = self._connections[id(database)] = database.connect()
        with connection.transaction(read_only=True) as transaction:
            yield transaction


def _by_period(
    transaction: Transaction, name: str, periods: list[Period], zone: ZoneInfo
) -> pandas.DataFrame:
    found = transaction.rows(_SQL["attempts_by_period"], **_moments(periods))
    counted = {row.position: row for row in found}
    whole = _durations(transaction, periods, ["whole"], "stage", completed=True)
    times = {row["position"]: row["times"] for row in whole}
    rows = []
    for position, period in enumerate(periods, start=1):
        row = counted.get(position)
        counts = {each: int(getattr(row, each)) if row else 0 for each in _COUNTS}
        last = row.last_completed_at.astimezone(zone) if row and row.last_completed_at else None
        rows.append({
            name: period.label, **_with_rates(counts),
            **times.get(position, dict.fromkeys(_TIMES, math.nan)), "last_completed_at": last,
        })  # fmt: skip
    columns = [*_with_rates(dict.fromkeys(_COUNTS, 0)), *_TIMES, "last_completed_at"]
    return _frame(rows, [name, *columns])


def _durations(
    transaction: Transaction, periods: Sequence[Period], stages: list[str], by: By, completed: bool
) -> list[dict[str, Any]]:
    found = transaction.rows(
        _SQL["durations_by_period"],
        by=by, stages=stages, completed=[completed], **_moments(periods),
    )  # fmt: skip
    return [
        {"position": row.position, "name": row.name, "attempts": int(row.attempts), "times": _times(row)}
        for row in found
    ]  # fmt: skip


def _quarters(since: datetime, until: datetime | None, now: datetime) -> Period:
    """To the quarter of an hour; a moment of no clock (seven days ago) that is further back than a day, to
    the hour: then a quarter as many rows are read."""
    ends = floor_quarter(until) if until else floor_hour(now) + HOUR
    began = floor_quarter(since)
    if began != since and ends - began > timedelta(days=1):
        began = floor_hour(since)
    return Period(began, began, ends)


def records(frame: pandas.DataFrame) -> list[dict[str, Any]]:
    """A frame's rows as plain values: None for what is not known, moments in ISO 8601."""
    return [
        {str(name): _plain(value) for name, value in row.items()}
        for row in frame.to_dict("records")
    ]


def _plain(value: Any) -> Any:
    if value is None or value != value or type(value).__name__ == "NaTType":
        return None
    if isinstance(value, date):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame(rows, columns=columns)


def _moments(periods: Sequence[Period]) -> dict[str, Any]:
    return {
        "begins": [period.since for period in periods],
        "since": periods[0].since,
        "until": periods[-1].until,
        "minutes": slot_minutes(periods),
    }


def _with_rates(counts: dict[str, int]) -> dict[str, Any]:
    failed = counts["error"] + counts["lost"]
    jobs = counts["jobs_completed"] + counts["jobs_failed"]
    failures_percent = _percent(failed, failed + counts["completed"])
    outcomes = {
        name: counts[name] for name in ("completed", "error", "lost", "released", "left_out")
    }
    return {
        "attempts": sum(outcomes.values()),
        **outcomes,
        "failures_percent": failures_percent,
        "success_percent": 100 - failures_percent,
        "jobs_completed": counts["jobs_completed"],
        "jobs_failed": counts["jobs_failed"],
        "jobs_failed_percent": _percent(counts["jobs_failed"], jobs),
    }


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else math.nan


def _times(row: Any) -> dict[str, float]:
    attempts = int(row.attempts)

    def at(percent: float, fewest: int) -> float:
        if attempts < fewest:
            return math.nan
        return min(percentile_seconds(row.buckets, row.counts, percent), row.longest)

    return {
        "average_seconds": row.seconds / attempts,
        "p50_seconds": at(50, 1),
        "p95_seconds": at(95, FEWEST_FOR_P95),
        "p99_seconds": at(99, FEWEST_FOR_P99),
        "longest_seconds": row.longest,
    }


def _distinct_jobs(row: Any) -> tuple[int, bool]:
    """Distinct jobs of a cause, and whether they were counted or estimated.

    Hashes are spread evenly, so the 64th smallest of them tells how many there are (Bar-Yossef and
    others, "Counting distinct elements in a data stream", 2002): within 25 %, 19 times of 20.
    """
    if row.longest < _SKETCH:
        return int(row.hash_count), True
    share = (row.sixty_fourth + 2**31 + 1) / 2**32
    return round((_SKETCH - 1) / share), False


def _positive(number: int, unit: str) -> int:
    if number < 1:
        raise UsageError(f"{number} {unit} is no period; give 1 or more.")
    return number
