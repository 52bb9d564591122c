"""The hourly rollup of runs, kept up to date by making marked hours again from their rows.

Whoever changes `job_runs` marks the hours in the same transaction (a trigger), so a mark is seen exactly
when its rows are: late commits, late finishers, sweeps and rows with an old `execution_time` are all in.
An attached pipeline gets no trigger: its open hours are read again each time, and the counts of older
ones are compared. Refreshes wait for each other, and each reads after it has the lock: whatever the
order, nothing is counted twice or lost.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg2.errors

from runbook_lib.credentials.masking import one_line
from runbook_lib.database import Transaction
from runbook_lib.database.statements import load
from runbook_lib.health import text_failures
from runbook_lib.health.sources import Sources
from runbook_lib.pipeline import failure_templates
from runbook_lib.pipeline.failures import NOT_COUNTED_AS_FAILURE
from runbook_lib.pipeline.fingerprints import TemplateTree

_SQL = load("rollup")
HOUR = timedelta(hours=1)
# As many hours are made again in one transaction: each is short, and what is done stays done.
HOURS_AT_ONCE = 48
# Of an attached pipeline: hours that are read again each time, that are counted each time, and how
# often all of them are counted.
OPEN_HOURS = 2
COUNTED_HOURS = 26
RECOUNT_EVERY = timedelta(hours=6)


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did. `as_of`: what was committed before is in the rollup, but for hours left.

    `hours` were made again from `attempts` rows; `hours_left` are still marked, when the time was over
    or somebody else was at it.
    """

    hours: int
    attempts: int
    hours_left: int
    as_of: datetime | None
    seconds: float

    @property
    def complete(self) -> bool:
        return self.hours_left == 0


def refresh(sources: Sources, *, deadline_seconds: float = 30.0) -> Refreshed:
    """Makes the marked hours again, the newest first, until none is left or the time is over.

    Any number may run at once. Raises what a database raises that is away or closed to this role.
    """
    started = time.monotonic()
    hours = attempts = 0
    turn = None
    while (left := deadline_seconds - (time.monotonic() - started)) > 0:
        try:
            turn = _turn(sources, left, first=turn is None)
        except psycopg2.errors.LockNotAvailable:
            break
        hours, attempts = hours + turn.hours, attempts + turn.attempts
        if turn.hours_left == 0:
            break
    if turn is None:
        turn = _not_our_turn(sources)
    seconds = round(time.monotonic() - started, 3)
    return Refreshed(hours, attempts, turn.hours_left, turn.as_of, seconds)


@dataclass(frozen=True)
class _Turn:
    """What one transaction did."""

    hours: int
    attempts: int
    hours_left: int
    as_of: datetime | None


def _turn(sources: Sources, deadline_seconds: float, *, first: bool) -> _Turn:
    with sources.bookkeeping.transaction(
        deadline_seconds=deadline_seconds, lock_timeout_seconds=deadline_seconds * 0.8
    ) as transaction:
        transaction.rows(_SQL["lock"])
        if first:
            _note_changes(sources, transaction, deadline_seconds)
        hours = [row.begins for row in transaction.rows(_SQL["marked_hours"], count=HOURS_AT_ONCE)]
        # The marks first: what is committed after this, and before it is read, stays marked.
        transaction.run(_SQL["take_marks"], hours=hours)
        attempts = 0
        with _reading(sources, transaction, deadline_seconds) as theirs:
            for since, until in _ranges(sorted(hours)):
                attempts += _make(sources, theirs, transaction, since, until)
        state = transaction.row(_SQL["state"])
        return _Turn(
            len(hours),
            attempts,
            transaction.value(_SQL["left_marked"]),
            state and state.refreshed_at,
        )


def _not_our_turn(sources: Sources) -> _Turn:
    with sources.bookkeeping.transaction(read_only=True) as transaction:
        state = transaction.row(_SQL["state"])
        return _Turn(
            0, 0, transaction.value(_SQL["left_marked"]) or 1, state and state.refreshed_at
        )


@contextmanager
def _reading(
    sources: Sources, transaction: Transaction, deadline_seconds: float
) -> Iterator[Transaction]:
    """Where runs are read: our own in the same transaction, an attached pipeline's in one of its own."""
    if not sources.attached:
        yield transaction
        return
    with sources.pipeline.transaction(read_only=True, deadline_seconds=deadline_seconds) as theirs:
        yield theirs


def _note_changes(sources: Sources, transaction: Transaction, deadline_seconds: float) -> None:
    """Marks what no trigger sees: partitions that came or went, and everything of an attached pipeline."""
    state = transaction.row(_SQL["state"])
    assert state is not None
    everything = False
    if sources.attached:
        everything = state.recounted_at is None or state.now - state.recounted_at >= RECOUNT_EVERY
        _mark_by_counts(sources, transaction, state.now, everything, deadline_seconds)
    else:
        transaction.run(_SQL["mark_changed_partitions"])
    transaction.run(_SQL["note_refreshed"], as_of=state.now, recounted=everything)


def _mark_by_counts(
    sources: Sources, transaction: Transaction, now: datetime, everything: bool,
    deadline_seconds: float,
) -> None:  # fmt: skip
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    since = None if everything else this_hour - COUNTED_HOURS * HOUR
    with _reading(sources, transaction, deadline_seconds) as theirs:
        counted = theirs.rows(sources.reading(_SQL["count_runs"]), since=since)
    transaction.run(
        _SQL["mark_differing_hours"],
        counted=json.dumps([row._asdict() for row in counted], default=str),
        since=since,
        open_since=this_hour - (OPEN_HOURS - 1) * HOUR,
    )


def _make(
    sources: Sources, theirs: Transaction, transaction: Transaction, since: datetime, until: datetime
) -> int:  # fmt: skip
    made = theirs.row(
        sources.reading(_SQL["summarise"]),
        since=since, until=until, left_out=list(NOT_COUNTED_AS_FAILURE),
    )  # fmt: skip
    assert made is not None
    failures, samples = _causes(transaction, made.failures, made.samples)
    made = made._replace(failures=failures)
    for part in ("slots", "durations", "failures", "costs"):
        transaction.run(_SQL[f"forget_{part}"], since=since, until=until)
        transaction.run(_SQL[f"put_{part}"], **{part: getattr(made, part)})
    _keep_samples(transaction, samples)
    return int(made.attempts)


def _causes(
    transaction: Transaction, failures: str, samples: str
) -> tuple[str, list[dict[str, Any]]]:
    """Failures and samples by cause; what was learned about texts is stored for all processes."""
    kept = json.loads(samples)
    if not text_failures.has_texts(kept):
        return failures, kept
    tree = TemplateTree()
    failure_templates.learn(transaction, tree)
    joined, kept = text_failures.by_cause(json.loads(failures), kept, tree)
    failure_templates.save(transaction, tree)
    return json.dumps(joined), kept


def _keep_samples(transaction: Transaction, found: list[dict[str, Any]]) -> None:
    """One masked text a cause: an attached pipeline's errors may hold anything."""
    for sample in found:
        sample["sample"] = one_line(sample["sample"] or "", 300)
    transaction.run(_SQL["put_samples"], samples=json.dumps(found))
    transaction.run(_SQL["forget_old_samples"])


def _ranges(hours: list[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """Hours that follow each other are one range: since, until."""
    position = 0
    while position < len(hours):
        end = position
        while end + 1 < len(hours) and hours[end + 1] - hours[end] == HOUR:
            end += 1
        yield hours[position], hours[end] + HOUR
        position = end + 1
