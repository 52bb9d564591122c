"""Retrying failed jobs as a planned change, ramped so that it is no second outage.

Paid articles are not bought again: a job keeps its stage. Undoing a retry puts back into error what no
worker has taken since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from runbook_lib import changes
from runbook_lib.changes import ChangedRow, Preview, SeenRow, TransactionalKind
from runbook_lib.database.connection import Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import UsageError
from runbook_lib.pipeline.failures import FAILURE_CLASSES, NOT_COUNTED_AS_FAILURE
from runbook_lib.pipeline.moments import moment
from runbook_lib.pipeline.operations import full_job_id

_SQL = load("retries")
DEFAULT_JOBS_PER_MINUTE = 60.0
# Of a limit that was set, so that the retried jobs leave room for new ones.
SHARE_OF_LIMIT = 0.5


class Retry(TransactionalKind):
    """Failed jobs become pending again: retry_count 0, lost_count 0, run_at spread over time."""

    name = "jobs.retry"
    summary = "Sets failed jobs back to pending, spread over time."
    parameters = {  # noqa: RUF012
        "job_ids": "these jobs, separated by commas",
        "class": "only this error class",
        "category": "only this category",
        "since": "failed at or after this time (2026-12-31T08:00, or 2h for two hours ago)",
        "until": "failed before this time",
        "per_minute": "so many jobs a minute (default: half the providers' limits, else 60)",
    }
    inverse = "jobs.unretry"
    row_limit = 20_000

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        chosen = {name: value for name, value in given.items() if value not in (None, "", [])}
        if not set(chosen) - {"per_minute"}:
            raise UsageError(
                f"Say which jobs to retry: {', '.join(set(self.parameters) - {'per_minute'})}."
            )
        now = datetime.now(UTC)
        return {
            "job_ids": chosen_job_ids(chosen.get("job_ids")),
            "class": _known_class(chosen.get("class")),
            "category": chosen.get("category"),
            "since": chosen_moment(chosen.get("since"), now),
            "until": chosen_moment(chosen.get("until"), now),
            "per_minute": _rate(chosen.get("per_minute")),
        }

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        # Jobs that a person or protection ended are retried only when they are named.
        named = parameters["class"] is not None or parameters["job_ids"] is not None
        rows = transaction.rows(
            _SQL["retryable_jobs"],
            job_ids=parameters["job_ids"],
            error_class=parameters["class"],
            category=parameters["category"],
            since=parameters["since"],
            until=parameters["until"],
            left_out=[] if named else list(NOT_COUNTED_AS_FAILURE),
            row_count=row_count,
        )
        return Preview([_seen(row) for row in rows], rows[0].total if rows else 0)

    def lock(self, transaction: Transaction, rows: Sequence[SeenRow]) -> None:
        transaction.rows(_SQL["lock_jobs"], job_ids=[row.key for row in rows])

    def apply(
        self,
        transaction: Transaction,
        rows: Sequence[SeenRow],
        parameters: Mapping[str, Any],
        actor: str,
    ) -> list[ChangedRow]:
        per_minute = parameters["per_minute"] or jobs_per_minute(transaction)
        after = put_pending(transaction, [row.key for row in rows], per_minute)
        return [ChangedRow(row.key, row.seen, after[row.key]) for row in rows]


class Unretry(TransactionalKind):
    """Takes a retry back for the jobs that no worker has claimed since."""

    name = "jobs.unretry"
    summary = "Puts retried jobs that no worker has taken yet back into error."
    parameters = {"change": "the change that retried them"}  # noqa: RUF012
    row_limit = Retry.row_limit

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return changes.undo_parameters(given)

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        rows = transaction.rows(
            _SQL["retried_jobs"], change_id=parameters["change"], row_count=row_count
        )
        seen = [
            SeenRow(row.job_id, row.before, {"topic": row.topic}, row.created_at) for row in rows
        ]
        return Preview(seen, rows[0].total if rows else 0)

    def lock(self, transaction: Transaction, rows: Sequence[SeenRow]) -> None:
        transaction.rows(_SQL["lock_jobs"], job_ids=[row.key for row in rows])

    def apply(
        self,
        transaction: Transaction,
        rows: Sequence[SeenRow],
        parameters: Mapping[str, Any],
        actor: str,
    ) -> list[ChangedRow]:
        put_back(transaction, rows)
        return [ChangedRow(row.key, {"status": "pending"}, row.seen) for row in rows]


def put_pending(
    transaction: Transaction, job_ids: Sequence[str], per_minute: float
) -> dict[str, dict[str, Any]]:
    """Failed jobs wait again, spread over time; how each stands then."""
    rows = transaction.rows(
        _SQL["retry_jobs"],
        job_ids=list(job_ids),
        # As many as pass in ten seconds begin at once, so that one sees soon whether it works.
        at_once=max(1, int(per_minute / 6)),
        seconds_between=60 / per_minute,
    )
    return {row.job_id: {"status": "pending", "run_at": row.run_at} for row in rows}


def put_back(transaction: Transaction, rows: Sequence[SeenRow]) -> None:
    """Jobs that wait again stand in error with the counts that were seen before."""
    transaction.run(
        _SQL["unretry_jobs"],
        job_ids=[row.key for row in rows],
        retry_counts=[row.seen["retry_count"] for row in rows],
        lost_counts=[row.seen["lost_count"] for row in rows],
    )


def jobs_per_minute(transaction: Transaction) -> float:
    """How many retried jobs a minute the providers' limits leave room for; 60 without limits."""
    lowest = transaction.value(_SQL["lowest_limit"])
    return DEFAULT_JOBS_PER_MINUTE if lowest is None else max(1.0, lowest * SHARE_OF_LIMIT)


def default_jobs_per_minute(database: Database) -> float:
    """As `jobs_per_minute`, in a transaction of its own."""
    with database.transaction(read_only=True) as transaction:
        return jobs_per_minute(transaction)


def _seen(row: Any) -> SeenRow:
    return SeenRow(
        row.job_id,
        seen={
            "status": row.status,
            "error_class": row.error_class,
            "stage": row.stage,
            "attempt": row.attempt,
            "retry_count": row.retry_count,
            "lost_count": row.lost_count,
        },
        shown={"topic": row.topic, "category": row.category},
        at=row.updated_at,
    )


def chosen_job_ids(given: Any) -> list[str] | None:
    if given is None:
        return None
    ids = given.split(",") if isinstance(given, str) else given
    return sorted({full_job_id(str(each)) for each in ids})


def _known_class(name: Any) -> str | None:
    if name is None or name in FAILURE_CLASSES:
        return name
    close = get_close_matches(str(name), FAILURE_CLASSES, n=3)
    hint = (
        f" Did you mean {' or '.join(close)}?"
        if close
        else " `runbook jobs list --status error` shows them."
    )
    raise UsageError(f"There is no error class {name!r}.{hint}")


def chosen_moment(given: Any, now: datetime) -> str | None:
    if given is None:
        return None
    return (given if isinstance(given, datetime) else moment(str(given), now)).isoformat()


def _rate(given: Any) -> float | None:
    if given is None:
        return None
    try:
        rate = float(given)
    except (TypeError, ValueError):
        rate = 0
    if not 0 < rate <= 1_000_000:
        raise UsageError(f"per_minute must be a number above 0; it is {given!r}.")
    return rate


changes.register(Retry())
changes.register(Unretry())
