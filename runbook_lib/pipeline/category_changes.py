"""A category that stands in, as a planned change: jobs whose own one the site lacks go on with it.

With RUNBOOK_FALLBACK_CATEGORY set, workers do so by themselves from their next start on; this is for jobs
that ended before. That the site has the one that stands in is asked when it is planned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from runbook_lib import changes
from runbook_lib.changes import ChangedRow, Preview, SeenRow, TransactionalKind
from runbook_lib.database.connection import Transaction
from runbook_lib.database.statements import load
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import CouldNotBeDone, UsageError
from runbook_lib.pipeline import jobs
from runbook_lib.pipeline.failures import JobFailed
from runbook_lib.pipeline.posts import OpenSite, site_of_settings
from runbook_lib.pipeline.retries import Retry, jobs_per_minute, put_back, put_pending
from runbook_lib.settings import load_settings

_SQL = load("category_changes")
_LOCK_JOBS = load("retries")["lock_jobs"]
SITE_SECONDS = 20.0
_KEPT = ("status", "category", "error_class", "stage", "attempt", "retry_count", "lost_count")


class _OfJobs(TransactionalKind):
    row_limit = Retry.row_limit

    def lock(self, transaction: Transaction, rows: Sequence[SeenRow]) -> None:
        transaction.rows(_LOCK_JOBS, job_ids=[row.key for row in rows])


class UseCategory(_OfJobs):
    """Jobs that ended, or wait, for a category that the site lacks get another one and go on."""

    name = "jobs.use_category"
    summary = "Gives jobs whose category the site lacks the fall-back one, and lets them go on."
    parameters: ClassVar[Mapping[str, str]] = {
        "category": "the one that stands in (default: RUNBOOK_FALLBACK_CATEGORY)",
        "missing": "only jobs of this category, those that wait with it too",
    }
    inverse = "jobs.own_category"

    def __init__(self, open_site: OpenSite = site_of_settings) -> None:
        self._open_site = open_site

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        category = given.get("category") or load_settings().runbook_fallback_category
        if not category or not str(category).strip():
            raise UsageError(
                "No category stands in: set RUNBOOK_FALLBACK_CATEGORY, or say category=…."
            )
        category = str(category).strip()
        self._require_present(category)
        return {"category": category, "missing": given.get("missing") or None}

    def _require_present(self, category: str) -> None:
        try:
            with self._open_site() as site:
                found = site.category_id(category, Deadline.after(SITE_SECONDS))
        except JobFailed as failed:
            raise CouldNotBeDone(f"Whether the site has the category {category!r} could not be asked: {failed}") from None  # fmt: skip
        if found is None:
            raise UsageError(f"The site has no category {category!r} either: jobs would fail again. Make it there, or name another.")  # fmt: skip

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        rows = transaction.rows(
            _SQL["jobs_without_category"], category=parameters["category"],
            missing=parameters["missing"], row_count=row_count,
        )  # fmt: skip
        seen = [
            SeenRow(row.job_id, {name: getattr(row, name) for name in _KEPT}, {"topic": row.topic}, row.updated_at)
            for row in rows
        ]  # fmt: skip
        return Preview(seen, rows[0].total if rows else 0)

    def apply(
        self, transaction: Transaction, rows: Sequence[SeenRow], parameters: Mapping[str, Any], actor: str
    ) -> list[ChangedRow]:  # fmt: skip
        category = parameters["category"]
        transaction.run(_SQL["use_category"], job_ids=[row.key for row in rows], category=category)
        failed = [row.key for row in rows if row.seen["status"] == "error"]
        put_pending(transaction, failed, jobs_per_minute(transaction))
        jobs.notify_workers(transaction)
        after = {"status": "pending", "category": category}
        return [ChangedRow(row.key, row.seen, after) for row in rows]


class OwnCategory(_OfJobs):
    """Jobs that no worker has taken yet get their own category back, and stand as they did before."""

    name = "jobs.own_category"
    summary = "Gives jobs that no worker has taken yet their own category back."
    parameters: ClassVar[Mapping[str, str]] = {"change": "the change that gave them another one"}

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return changes.undo_parameters(given)

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        rows = transaction.rows(
            _SQL["jobs_given_category"], change_id=parameters["change"], row_count=row_count
        )
        seen = [SeenRow(row.job_id, row.before, {"topic": row.topic}, row.created_at) for row in rows]  # fmt: skip
        return Preview(seen, rows[0].total if rows else 0)

    def apply(
        self, transaction: Transaction, rows: Sequence[SeenRow], parameters: Mapping[str, Any], actor: str
    ) -> list[ChangedRow]:  # fmt: skip
        transaction.run(
            _SQL["own_category"], job_ids=[row.key for row in rows],
            categories=[row.seen["category"] for row in rows],
        )  # fmt: skip
        put_back(transaction, [row for row in rows if row.seen["status"] == "error"])
        return [ChangedRow(row.key, {"status": "pending"}, row.seen) for row in rows]


changes.register(UseCategory())
changes.register(OwnCategory())
