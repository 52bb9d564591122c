"""The change `statistics.analyze`: tables whose statistics are stale are counted again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from runbook_lib.changes import ChangedRow, Preview, SeenRow, TransactionalKind, register
from runbook_lib.database import Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone

_SQL = load("database_review")
# A partitioned table is counted as a whole by nobody else.
PARTITIONED_DAYS = 7


def stale_tables(transaction: Transaction, row_count: int = 200) -> list[Any]:
    """Tables whose statistics are stale, and why."""
    return transaction.rows(_SQL["statistics"], days=PARTITIONED_DAYS, row_count=row_count)


class Analyze(TransactionalKind):
    """ANALYZE where statistics are stale, and nowhere else. It changes no row, and plans may change by it."""

    name = "statistics.analyze"
    summary = "Counts the tables again whose statistics are stale. Changes no row."
    parameters: ClassVar[Mapping[str, str]] = {}
    row_limit = 1_000
    deadline_seconds = 300
    lock_timeout_seconds = 2

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        found = stale_tables(transaction, row_count)
        # What was changed since goes on changing; that it is stale is what the plan depends on.
        rows = [
            SeenRow(
                row.relation, {"relation_oid": row.relation_oid, "may": row.may},
                {"reason": row.reason, "modified_rows": row.modified_rows, "estimated_rows": row.estimated_rows},
                row.analyzed_at,
            )
            for row in found
        ]  # fmt: skip
        return Preview(rows, len(rows))

    def lock(self, transaction: Transaction, rows: Sequence[SeenRow]) -> None:
        """ANALYZE locks each table itself, against other maintenance only."""

    def apply(
        self, transaction: Transaction, rows: Sequence[SeenRow], parameters: Mapping[str, Any], actor: str
    ) -> Sequence[ChangedRow]:  # fmt: skip
        # The server only warns of these, and leaves them out.
        if barred := [row.key for row in rows if not row.seen["may"]]:
            raise CouldNotBeDone(
                f"This role may not analyze {', '.join(barred[:5])}: only the owner may. Nothing was done."
            )
        for row in rows:
            statement = transaction.value(_SQL["analyze"], relation_oid=row.seen["relation_oid"])
            transaction.run(statement)
        return [ChangedRow(row.key, before=row.shown, after={"analyzed": True}) for row in rows]


register(Analyze())
