"""How much history job_runs keeps, what of it is older than it has to be, and where older runs went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg2

from runbook_lib.credentials.masking import one_line
from runbook_lib.database.statements import load
from runbook_lib.errors import RunbookError
from runbook_lib.health.answers import Answer, size_words, table
from runbook_lib.health.checks import Check
from runbook_lib.health.context import Context
from runbook_lib.health.metrics import History
from runbook_lib.health.tables import Table
from runbook_lib.maintenance.clean_up import CleanUp, border_of
from runbook_lib.policy import load_policy
from runbook_lib.settings import load_settings

if TYPE_CHECKING:
    from runbook_lib.health.charts import Chart
    from runbook_lib.health.sources import Sources

_SQL = load("run_exports")
EXPORTS_SHOWN = 20
# A clean-up each week leaves at the most so many days beyond those that are kept.
TOLERATED_DAYS = 14
_SOURCE = _SQL["runs_before"].source
_PARTITIONS = ["partition", "week_from", "rows", "size", "then"]
_EXPORTS = ["removed_at", "from", "rows", "rows_removed", "returned", "file", "file_size", "exported_by"]  # fmt: skip


@dataclass(frozen=True, repr=False)
class JobRunsReview(Answer):
    """What job_runs holds. `due_runs` are what a clean-up would take out now, `waiting_runs` what is old but
    stands in a week that is not wholly old yet."""

    check: Check
    runs: int | None
    old_runs: int | None
    due_runs: int | None
    waiting_runs: int | None
    oldest: datetime | None
    size_bytes: int | None
    due_bytes: int | None
    border: datetime | None
    weeks: Sequence[tuple[datetime, int, bool]]
    partitions: Table
    exports: Table
    old_days: int
    problem: str | None = None

    def sentences(self) -> list[str]:
        if self.runs is None:
            return []
        told = [
            f"{self.runs:,} runs in all, {self.old_runs:,} of them older than {self.old_days} days."
        ]
        if self.size_bytes is not None:
            told.append(f"They take {size_words(self.size_bytes)}; dropping what is due returns {size_words(self.due_bytes or 0)}.")  # fmt: skip
        return told

    def weeks_chart(self) -> Chart:
        """What each week of history takes, and which weeks may go."""
        from runbook_lib.maintenance.charts import nothing_to_draw, weeks_by_size

        if self.border is None:
            return nothing_to_draw(self.problem or "There are no partitions of ours.")
        return weeks_by_size(self.weeks, self.border)

    def results(self) -> dict[str, Any]:
        """The figures, for the record."""
        return {
            "runs": self.runs, "old_runs": self.old_runs, "due_runs": self.due_runs,
            "waiting_runs": self.waiting_runs, "oldest": self.oldest, "size_bytes": self.size_bytes,
            "due_bytes": self.due_bytes, "exports": len(self.exports.frame), "problem": self.problem,
        }  # fmt: skip


def job_runs_review(
    sources: Sources, *, keep_days: int | None = None, old_days: int | None = None
) -> JobRunsReview:
    """Looks at what job_runs holds; changes nothing in it.

    Days that are not given are those of the policy. Never raises for what it finds: what cannot be told is
    `not_enough_data`, and says why. Of a pipeline that is not ours only the counts are told.
    """
    try:
        settings = load_settings()
        context = Context(settings, load_policy(settings), sources)
        retention = context.policy.retention
        return _review(context, keep_days or retention.job_runs_keep_days, old_days or retention.job_runs_old_days)  # fmt: skip
    except (RunbookError, psycopg2.Error) as error:
        problem = one_line(str(error).strip().split("\n")[0], 500)
        check = Check("job_runs.retention", "not_enough_data", f"Not known: {problem}")
        return _without_tables(check, old_days or 30, problem=problem)


def _review(context: Context, keep_days: int, old_days: int) -> JobRunsReview:
    checked = CleanUp().check({"keep_days": keep_days})
    with History(context) as history:
        counted = history.stored_runs(old_days).iloc[0]
    runs, old = int(counted["runs"]), int(counted["old_runs"])
    if context.sources.attached:
        words = f"{runs:,} runs, {old:,} older than {old_days} days. This pipeline is not ours: its history is only read, and its owner cleans it up."
        check = Check("job_runs.retention", "ok", words, old, "runs", source=_SOURCE)
        return _without_tables(check, old_days, runs=runs, old_runs=old)
    with context.sources.pipeline.transaction(
        read_only=True, deadline_seconds=CleanUp.deadline_seconds
    ) as transaction:
        tables = transaction.rows(_SQL["runs_before"], border=checked["border"])
        partitions = transaction.rows(_SQL["partitions"])
        exports = transaction.rows(_SQL["exports"], row_count=EXPORTS_SHOWN)
    return _judged(border_of(checked), keep_days, old_days, runs, old, tables, partitions, exports)


def _judged(
    border: datetime, keep_days: int, old_days: int, runs: int, old: int, tables: list[Any],
    partitions: list[Any], exports: list[Any],
) -> JobRunsReview:  # fmt: skip
    due = [each for each in tables if not each.straddles]
    going = {each.relation for each in due if each.action == "drop"}
    oldest = min((each.oldest for each in tables if each.oldest), default=None)
    due_runs = sum(each.rows for each in due)
    return JobRunsReview(
        check=_check(due_runs, oldest, border, keep_days, len(going)), runs=runs, old_runs=old,
        due_runs=due_runs, waiting_runs=sum(each.rows for each in tables if each.straddles),
        oldest=oldest, size_bytes=sum(each.size_bytes for each in partitions),
        due_bytes=sum(each.size_bytes for each in due if each.action == "drop"), border=border,
        weeks=[(each.since, each.size_bytes, each.partition in going) for each in partitions if each.since],
        partitions=table([_partition(each, tables) for each in partitions], _PARTITIONS, "job_runs has no partition."),
        exports=table([_export(each) for each in exports], _EXPORTS, "Nothing was cleaned up yet.", absent="not yet"),
        old_days=old_days,
    )  # fmt: skip


def _check(
    due_runs: int, oldest: datetime | None, border: datetime, keep_days: int, weeks: int
) -> Check:
    beyond = 0.0 if oldest is None else max(0.0, (border - oldest) / timedelta(days=1))
    verdict = "warning" if beyond > TOLERATED_DAYS else "ok"
    words = f"No run is older than the {keep_days} days that are kept."
    if oldest is not None:
        words = f"{due_runs:,} runs in {weeks} whole weeks may go; the oldest is of {oldest.astimezone(UTC):%Y-%m-%d}, {keep_days} days are kept."
    return Check(
        "job_runs.retention", "warning" if verdict == "warning" else "ok", words, round(beyond, 1),
        "days", TOLERATED_DAYS, _SOURCE, "that nobody needs them: ask before the first clean-up",
        "Run weekly/cleanup with dry_run false, after its preview." if verdict == "warning" else None,
        procedure="weekly/cleanup" if verdict == "warning" else None,
    )  # fmt: skip


def _partition(each: Any, tables: list[Any]) -> dict[str, Any]:
    found = next((old for old in tables if old.relation == each.partition), None)
    then = "kept"
    if found is not None:
        then = "waits until its week is old" if found.straddles else {"drop": "is dropped whole", "delete": "its old rows are deleted"}[found.action]  # fmt: skip
    whole = found is not None and found.action == "drop"
    return {
        "partition": each.partition, "week_from": each.since and each.since.astimezone(UTC).date(),
        "rows": _row_words(found.rows if found is not None and whole else None, each.estimated_rows),
        "size": size_words(each.size_bytes), "then": then,
    }  # fmt: skip


def _row_words(counted: int | None, estimated: int | None) -> str:
    if counted is not None:
        return f"{counted:,}"
    return "not counted" if estimated is None else f"about {estimated:,}"


def _export(each: Any) -> dict[str, Any]:
    return {
        "removed_at": each.removed_at, "from": each.relation, "rows": each.rows,
        "rows_removed": each.rows_removed, "returned": size_words(each.bytes_returned),
        "file": each.file, "file_size": size_words(each.size_bytes), "exported_by": each.exported_by,
    }  # fmt: skip


def _without_tables(
    check: Check, old_days: int, *, runs: int | None = None, old_runs: int | None = None,
    problem: str | None = None,
) -> JobRunsReview:  # fmt: skip
    return JobRunsReview(
        check=check, runs=runs, old_runs=old_runs, due_runs=None, waiting_runs=None, oldest=None,
        size_bytes=None, due_bytes=None, border=None, weeks=(),
        partitions=table([], _PARTITIONS, check.message), exports=table([], _EXPORTS, check.message),
        old_days=old_days, problem=problem,
    )  # fmt: skip
