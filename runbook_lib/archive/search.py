"""Finds runs: by procedure, verdict, status, actor, incident, time, parameters and results.

::

    search(database, Query(procedure="daily/health_check", verdict="critical",
                           conditions=(condition("queue.pending>=50"), condition("model=gpt-4o", "parameter"))))

Paging: the last row's `started_at` and `run_id` are the next page's `before`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.errors import NotFoundError, UsageError

_CONDITION = re.compile(r"([A-Za-z_][\w.]*)\s*(<=|>=|!=|=|<|>|~)\s*(.*)", re.DOTALL)
PLACES = ("result", "parameter")
MOST_ROWS = 10_000


@dataclass(frozen=True)
class Condition:
    """What must stand at a path of results or parameters: `path operator value`."""

    place: str
    path: tuple[str, ...]
    operator: str
    value: Any


@dataclass(frozen=True)
class Query:
    """What a run must be. None asks for nothing. `well`: ran whole, and not critical."""

    procedure: str | None = None
    status: str | None = None
    verdict: str | None = None
    actor: str | None = None
    incident: str | None = None
    schedule_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    well: bool | None = None
    ended: bool | None = None
    text: str | None = None
    conditions: tuple[Condition, ...] = ()
    before: tuple[datetime, str] | None = None
    limit: int = 50


def condition(text: str, place: str = "result") -> Condition:
    """Reads `failure_rate_percent>20`, `queue.pending>=5`, `model=gpt-4o`, `note~refund`.

    The value is JSON if it reads as such, else a text; `~` asks whether it occurs in the text.
    Raises `UsageError`.
    """
    found = _CONDITION.fullmatch(text.strip())
    if found is None or place not in PLACES:
        raise UsageError(
            f"{text[:80]!r} is no condition. One is NAME=VALUE, or with != < <= > >= or ~ (occurs in), "
            "and a dot between the names of nested results."
        )
    name, operator, value = found.groups()
    try:
        wanted = json.loads(value)
    except ValueError:
        wanted = value
    return Condition(place, tuple(name.split(".")), operator, wanted)


def search(database: Database, query: Query) -> list[dict[str, Any]]:
    """The runs that fit, the newest first."""
    if not 1 <= query.limit <= MOST_ROWS:
        raise UsageError(f"The limit is from 1 to {MOST_ROWS}, not {query.limit}.")
    values = {name: getattr(query, name) for name in Query.__dataclass_fields__}
    started_at, run_id = values.pop("before") or (None, None)
    values["conditions"] = json.dumps([asdict(each) for each in query.conditions])
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows(
            load("notebook_runs")["search_runs"],
            before_started_at=started_at, before_run_id=run_id, **values,
        )  # fmt: skip
    return [row._asdict() for row in rows]


def search_all(database: Database, query: Query) -> Iterator[dict[str, Any]]:
    """All runs that fit, page by page, the newest first; `limit` is a page's size."""
    while True:
        page = search(database, query)
        yield from page
        if len(page) < query.limit:
            return
        before = (page[-1]["started_at"], page[-1]["run_id"])
        query = Query(**{**vars(query), "before": before})


def run_at(database: Database, address: str) -> str:
    """The run at `procedure@latest`, `@latest-ok` or `@2026-11-01`; returns its id.

    `latest` is the newest that ended, however; `latest-ok` the newest that ran whole and is not
    critical; at a date or time, the newest that ran whole up to then (a date's end is meant, in UTC).
    Raises `UsageError` and `NotFoundError`.
    """
    name, _, when = address.rpartition("@")
    procedure = _procedure(database, name)
    if when == "latest":
        query = Query(procedure=procedure, ended=True, limit=1)
    elif when == "latest-ok":
        query = Query(procedure=procedure, well=True, limit=1)
    else:
        query = Query(procedure=procedure, status="succeeded", until=_end_of(when), limit=1)
    found = search(database, query)
    if not found:
        raise NotFoundError(f"{procedure} has no run that fits @{when}.")
    return str(found[0]["run_id"])


def series(
    database: Database, procedure: str, result: str, *, query: Query | None = None
) -> list[dict[str, Any]]:
    """One figure across runs, the oldest first: {run_id, started_at, status, verdict, value}.

    `result` is a name, with dots for nested ones; runs that did not conclude it have None.
    """
    query = query or Query(limit=1000)
    name = _procedure(database, procedure)
    found = search(database, Query(**{**vars(query), "procedure": name, "ended": True}))
    return [
        {**{each: run[each] for each in ("run_id", "started_at", "status", "verdict")},
         "value": value_at(run["results"], result)}
        for run in reversed(found)
    ]  # fmt: skip


def value_at(results: Any, path: str) -> Any:
    """The value at a path such as `queue.pending`; None where there is none."""
    for part in path.split("."):
        if isinstance(results, list) and part.isdigit() and int(part) < len(results):
            results = results[int(part)]
        elif isinstance(results, dict):
            results = results.get(part)
        else:
            return None
    return results


def read_time(text: str) -> datetime:
    """A time as it is given on a command line: `2026-11-01`, `2026-11-01T10:00`, in UTC unless it says. Raises `UsageError`."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text[:40]!r} is no time; one is 2026-11-01 or 2026-11-01T10:00Z."
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _end_of(when: str) -> datetime:
    if len(when) == len("2026-11-01"):
        return datetime.combine(read_time(when) + timedelta(days=1), time.min, UTC)
    return read_time(when)


def _procedure(database: Database, name: str) -> str:
    with database.transaction(read_only=True) as transaction:
        found = transaction.rows(load("notebook_runs")["procedures_named"], name=name)
    if not found:
        raise NotFoundError(f"No procedure {name[:60]!r} has run yet. `runbook archive list` shows which did.")  # fmt: skip
    if len(found) > 1:
        raise UsageError(f"{name} is one of {', '.join(row.procedure for row in found)}; give the chapter as well.")  # fmt: skip
    return str(found[0].procedure)
