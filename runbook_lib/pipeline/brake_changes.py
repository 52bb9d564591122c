"""Brakes as planned changes, for notebooks and triage: pause a provider, lower a limit, and take it back.

`runbook pause` and `runbook limits set` act at once; these are looked at first, and only brake: a pause that
stands is left alone, and a limit is never raised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from runbook_lib import changes
from runbook_lib.changes import ChangedRow, Preview, SeenRow, TransactionalKind
from runbook_lib.credentials.masking import mask
from runbook_lib.database.connection import Transaction
from runbook_lib.database.statements import load
from runbook_lib.errors import UsageError
from runbook_lib.pipeline.brakes import end_pause, put_limits, put_pause, require_provider

_SQL = load("brake_changes")


class _OfProviders(TransactionalKind):
    """One row a provider."""

    def lock(self, transaction: Transaction, rows: Sequence[SeenRow]) -> None:
        transaction.rows(_SQL["lock_limits"], providers=[row.key for row in rows])


class Pause(_OfProviders):
    """Pauses a provider for all workers; what is written and what waits is kept."""

    name = "provider.pause"
    summary = "Pauses a provider for all workers, unless it is paused already."
    parameters: ClassVar[Mapping[str, str]] = {
        "provider": "openai or wordpress",
        "reason": "why; whoever meets it will want to know",
        "minutes": "after so long one job tries, and the others follow when it succeeds (default: until somebody resumes)",
    }
    inverse = "provider.unpause"

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        reason = str(given.get("reason") or "").strip()
        if not reason:
            raise UsageError("Say why: reason=….")
        return {
            "provider": require_provider(str(given.get("provider") or "")),
            "reason": mask(reason),
            "minutes": _minutes(given.get("minutes")),
        }

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        rows = transaction.rows(_SQL["pause_to_make"], provider=parameters["provider"])
        return Preview(
            [
                SeenRow(
                    row.provider,
                    {},
                    {"provider": row.provider, "reason": parameters["reason"]},
                    None,
                )
                for row in rows
            ],
            len(rows),
        )

    def apply(
        self,
        transaction: Transaction,
        rows: Sequence[SeenRow],
        parameters: Mapping[str, Any],
        actor: str,
    ) -> list[ChangedRow]:
        for row in rows:
            put_pause(
                transaction, row.key, actor=actor, reason=parameters["reason"],
                trial_minutes=parameters.get("minutes"),
            )  # fmt: skip
        return [ChangedRow(row.key, {}, {"reason": parameters["reason"]}) for row in rows]


class Unpause(_OfProviders):
    """Ends the pause that a change made, if it still is that one."""

    name = "provider.unpause"
    summary = "Ends the pause that a change made."
    parameters: ClassVar[Mapping[str, str]] = {"change": "the change that paused"}

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return changes.undo_parameters(given)

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        rows = transaction.rows(_SQL["pauses_made"], change_id=parameters["change"])
        return Preview(
            [
                SeenRow(
                    row.provider,
                    {"reason": row.reason},
                    {"provider": row.provider, "reason": row.reason},
                    row.paused_at,
                )
                for row in rows
            ],
            len(rows),
        )

    def apply(
        self,
        transaction: Transaction,
        rows: Sequence[SeenRow],
        parameters: Mapping[str, Any],
        actor: str,
    ) -> list[ChangedRow]:
        for row in rows:
            end_pause(transaction, row.key, actor=actor, reason=row.seen["reason"])
        return [ChangedRow(row.key, row.seen, {}) for row in rows]


class Lower(_OfProviders):
    """Lowers how many jobs, or requests a minute, a provider is given at once. It never raises a limit."""

    name = "limits.lower"
    summary = "Lowers a provider's concurrency or rate for all workers; never raises one."
    parameters: ClassVar[Mapping[str, str]] = {
        "provider": "openai or wordpress",
        "concurrency": "jobs at once, at most",
        "requests_per_minute": "requests a minute, at most",
    }
    inverse = "limits.restore"

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        wanted = {
            name: _positive(name, given.get(name))
            for name in ("concurrency", "requests_per_minute")
        }
        if not any(wanted.values()):
            raise UsageError("Say what to lower: concurrency=… or requests_per_minute=….")
        return {"provider": require_provider(str(given.get("provider") or "")), **wanted}

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        rows = []
        for row in transaction.rows(_SQL["limits_of"], provider=parameters["provider"]):
            seen = {"concurrency": row.concurrency, "requests_per_minute": row.requests_per_minute}
            if _lowered(seen, parameters) != seen:
                rows.append(
                    SeenRow(
                        row.provider,
                        seen,
                        {"provider": row.provider, **_lowered(seen, parameters)},
                        None,
                    )
                )
        return Preview(rows, len(rows))

    def apply(
        self,
        transaction: Transaction,
        rows: Sequence[SeenRow],
        parameters: Mapping[str, Any],
        actor: str,
    ) -> list[ChangedRow]:
        found = []
        for row in rows:
            after = _lowered(row.seen, parameters)
            put_limits(transaction, row.key, after, actor=actor)
            found.append(ChangedRow(row.key, row.seen, after))
        return found


class Restore(_OfProviders):
    """Sets limits back to what they were before a change lowered them, where nobody set them since."""

    name = "limits.restore"
    summary = "Sets lowered limits back to what they were."
    parameters: ClassVar[Mapping[str, str]] = {"change": "the change that lowered them"}

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return changes.undo_parameters(given)

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        rows = transaction.rows(_SQL["limits_lowered"], change_id=parameters["change"])
        seen = [
            SeenRow(row.provider, {"now": {"concurrency": row.concurrency, "requests_per_minute": row.requests_per_minute}, "before": row.before},
                    {"provider": row.provider, **row.before}, None)
            for row in rows
        ]  # fmt: skip
        return Preview(seen, len(seen))

    def apply(
        self,
        transaction: Transaction,
        rows: Sequence[SeenRow],
        parameters: Mapping[str, Any],
        actor: str,
    ) -> list[ChangedRow]:
        for row in rows:
            put_limits(transaction, row.key, row.seen["before"], actor=actor)
        return [ChangedRow(row.key, row.seen["now"], row.seen["before"]) for row in rows]


def _lowered(seen: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Each limit as it would be: the lower of what it is and what is wanted. None is no limit."""
    return {
        name: min((each for each in (seen[name], wanted[name]) if each is not None), default=None)
        for name in ("concurrency", "requests_per_minute")
    }


def _minutes(value: Any) -> float | None:
    if value in (None, ""):
        return None
    try:
        minutes = float(value)
    except (TypeError, ValueError):
        minutes = 0.0
    if not 0 < minutes <= 1440:
        raise UsageError(f"minutes is a number above 0, up to a day (1440), not {value!r}.")
    return minutes


def _positive(name: str, value: Any) -> int | None:
    if value in (None, ""):
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise UsageError(f"{name} is a whole number from 1, not {value!r}.")
    return number


for _kind in (Pause(), Unpause(), Lower(), Restore()):
    changes.register(_kind)
