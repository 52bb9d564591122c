"""Lets runs go that policy keeps no longer: row, record and objects. What stays is that it was done.

The entries of a run stay in the chain with their digests, and its deletion is an entry of its own, with
who did it and the digests of what was removed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar

from runbook_lib.archive import chain
from runbook_lib.archive.store import open_store
from runbook_lib.changes import ChangedRow, Preview, SeenRow, StepwiseKind, register
from runbook_lib.changes.kinds import RowApplier
from runbook_lib.database import Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.policy import load_policy
from runbook_lib.settings import load_settings

_SQL = load("archive")


class Prune(StepwiseKind):
    """Removes runs past their period, one after the other; repeatable after a crash."""

    name = "archive.prune"
    summary = "Removes runs from the archive that policy keeps no longer. Cannot be undone."
    parameters: ClassVar[Mapping[str, str]] = {
        "procedure": "only runs of this procedure, chapter/name"
    }
    row_limit = 100_000

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        policy = load_policy(load_settings()).retention
        return {
            "procedure": str(given["procedure"]) if given.get("procedure") else None,
            "keep_days": policy.keep_days,
            "by_procedure": dict(policy.keep_days_by_procedure),
            "keep_signed_off": policy.keep_signed_off,
            "now": datetime.now(UTC).isoformat(),
        }

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        asked = {**parameters, "by_procedure": json.dumps(parameters["by_procedure"])}
        found = transaction.rows(_SQL["runs_to_prune"], limit=row_count, **asked)
        rows = [
            SeenRow(
                row.run_id,
                {"procedure": row.procedure, "ended_at": row.ended_at.astimezone(UTC).isoformat()},
                {"status": row.status, "verdict": row.verdict, "actor": row.actor},
                row.ended_at,
            )
            for row in found
        ]
        return Preview(rows, found[0].run_count if found else 0)

    @contextmanager
    def applier(
        self, database: Database, parameters: Mapping[str, Any], actor: str
    ) -> Iterator[RowApplier]:
        store = open_store(load_settings())
        with database.connect() as connection:

            def prune(row: SeenRow) -> ChangedRow:
                with connection.transaction() as transaction:
                    deletion = _delete(transaction, row.key, parameters, actor)
                for name in deletion["objects"]:
                    store.remove(name)
                return ChangedRow(row.key, before=row.seen, after={"deleted": True})

            try:
                yield prune
            finally:
                chain.copy_entries(database, store)


def _delete(
    transaction: Transaction, run_id: str, parameters: Mapping[str, Any], actor: str
) -> dict[str, Any]:
    """Removes row and records and appends the deletion; what that says, also when it was done before."""
    about = transaction.rows(_SQL["entries_about"], subject=run_id)
    row = transaction.row(_SQL["remove_run"], run_id=run_id)
    if row is None:
        done = [json.loads(each.record) for each in about if each.kind == chain.DELETION]
        return done[-1] if done else {"objects": {}}
    gone = {each.sequence: json.loads(each.entry) for each in about if each.kind.startswith("run")}
    named = [each for entry in gone.values() for each in [*entry["objects"], entry["record"]]]
    rule = {name: parameters[name] for name in ("keep_days", "by_procedure", "keep_signed_off")}
    record = {
        "run_id": run_id,
        "procedure": row.procedure,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "entries": sorted(gone),
        "objects": {each["name"]: each["sha256"] for each in named},
        "actor": actor,
        "rule": rule,
    }
    transaction.run(_SQL["empty_records"], sequences=sorted(gone))
    return chain.append(transaction, chain.DELETION, run_id, record).record


register(Prune())
