"""The change `job_runs.clean_up`: runs that are kept no longer leave the database for a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import psycopg2
import psycopg2.errors

from runbook_lib.changes import ChangedRow, Preview, SeenRow, StepwiseKind, register
from runbook_lib.changes.kinds import RowApplier
from runbook_lib.database import Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone, UsageError
from runbook_lib.maintenance import parquet_files
from runbook_lib.maintenance.run_exports import OldRuns, RunExports
from runbook_lib.policy import load_policy
from runbook_lib.settings import load_settings

_SQL = load("run_exports")
# The written runbook's own trends read thirty days: what is younger is never taken out.
LEAST_KEEP_DAYS = 30
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0", "")


class CleanUp(StepwiseKind):
    """Exports old runs to Parquet, compares, then drops whole partitions and deletes what else is old."""

    name = "job_runs.clean_up"
    summary = (
        "Takes runs out of job_runs that are older than keep_days, each into a Parquet file that was read "
        "again and compared first. Whole weeks are dropped, which gives their room back."
    )
    parameters: ClassVar[Mapping[str, str]] = {
        "keep_days": f"how many days are kept, {LEAST_KEEP_DAYS} at least; by default the policy's",
        "to_the_day": "yes: also delete row by row from the week in which the border lies; else it waits until the week is over",
    }
    row_limit = 100_000_000
    deadline_seconds = 300
    # After a crash the same plan may be gone on with so soon. A week that takes longer is not harmed by
    # somebody who does: each table is compared under its lock, and removed once.
    row_deadline_seconds = 300

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        days = _days(given.get("keep_days"))
        border = datetime.now(UTC) - timedelta(days=days)
        return {
            "keep_days": days,
            "to_the_day": _flag(given.get("to_the_day", False)),
            "border": border.replace(minute=0, second=0, microsecond=0).isoformat(),
        }

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        found = [
            row
            for row in transaction.rows(_SQL["runs_before"], border=parameters["border"])
            if parameters["to_the_day"] or not row.straddles
        ]
        return Preview([_seen(row) for row in found], sum(row.rows for row in found))

    @contextmanager
    def applier(
        self, database: Database, parameters: Mapping[str, Any], actor: str
    ) -> Iterator[RowApplier]:
        border = border_of(parameters)
        folder = load_settings().run_exports / "job_runs"
        with database.connect() as connection, parquet_files.open_parquet() as parquet:
            exports = RunExports(connection, parquet, folder, actor)

            def clean(row: SeenRow) -> ChangedRow:
                old = OldRuns(row.key, row.seen["relation_oid"], row.seen["action"], border)
                try:
                    removed = exports.remove(old)
                except psycopg2.Error as error:
                    raise CouldNotBeDone(_words(old, error)) from error
                except OSError as error:
                    raise CouldNotBeDone(
                        f"{old.relation} was not cleaned up: {folder} does not take its export: {error.strerror or error}. "
                        "Nothing was removed; free some room or set RUNBOOK_RUN_EXPORTS to another folder."
                    ) from error
                return ChangedRow(row.key, before=row.seen, after=vars(removed))

            yield clean


def border_of(parameters: Mapping[str, Any]) -> datetime:
    """Runs before this moment are old, by checked parameters."""
    return datetime.fromisoformat(parameters["border"])


def _seen(row: Any) -> SeenRow:
    return SeenRow(
        row.relation,
        {
            "relation_oid": row.relation_oid,
            "action": row.action,
            "rows": row.rows,
            "oldest": _moment(row.oldest),
            "newest": _moment(row.newest),
        },
        {"size_bytes": row.size_bytes},
        row.oldest,
        row.newest,
    )


def _days(given: Any) -> int:
    """How many days are kept. Raises `UsageError` for fewer than make sense."""
    if given is None:
        return load_policy(load_settings()).retention.job_runs_keep_days
    try:
        days = int(str(given).strip())
    except ValueError:
        raise UsageError(f"keep_days is a whole number of days, not {given!r}.") from None
    if not LEAST_KEEP_DAYS <= days <= 3650:
        raise UsageError(
            f"keep_days is {days}: it must be from {LEAST_KEEP_DAYS} to 3650. The trends of thirty days read younger runs."
        )
    return days


def _flag(given: Any) -> bool:
    text = str(given).strip().lower()
    if text not in (*_YES, *_NO):
        raise UsageError(f"to_the_day is yes or no, not {given!r}.")
    return text in _YES


def _words(old: OldRuns, error: psycopg2.Error) -> str:
    told = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, psycopg2.errors.InsufficientPrivilege):
        return f"This role may not remove {old.relation}: {told}. Its owner may; the export, if there is one, stays."
    if isinstance(error, psycopg2.errors.LockNotAvailable):
        return f"Rows of {old.relation} are in use: {told}. What was removed is in its file; apply again."
    return f"{old.relation} was not cleaned up: {told}"


def _moment(value: datetime | None) -> str | None:
    return None if value is None else value.astimezone(UTC).isoformat()


register(CleanUp())
