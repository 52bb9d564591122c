"""What may begin at each provider in this turn: pauses, limits, caps and trials.

All of it is rows in PostgreSQL, so that it holds for all workers together and takes effect within one
turn. Limits on requests (a token bucket) and on concurrency are counted under a lock on the limits'
row: counting first and claiming with SKIP LOCKED afterwards slides past a cap.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from runbook_lib.database.connection import Transaction
from runbook_lib.database.statements import load
from runbook_lib.pipeline.model import PROVIDER_OF_STAGE

UNLIMITED = 1_000_000_000
STAGE_OF_PROVIDER = {provider: stage for stage, provider in PROVIDER_OF_STAGE.items()}
_SQL = load("permits")


@dataclass(frozen=True)
class Event:
    """Something worth a row in `events` and a line in the log."""

    kind: str
    message: str
    level: str = "info"
    provider: str | None = None
    job_id: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


def add_event(transaction: Transaction, worker: str, event: Event) -> None:
    transaction.run(
        _SQL["add_event"],
        kind=event.kind,
        level=event.level,
        message=event.message,
        worker=worker,
        job_id=event.job_id,
        provider=event.provider,
        details=json.dumps(event.details),
    )


class Permits:
    """The permits of one turn; made inside its transaction and thrown away with it."""

    def __init__(
        self,
        transaction: Transaction,
        worker: str,
        trial_seconds: float,
        asking_to_publish: int = 0,
    ) -> None:
        # `asking_to_publish` jobs stand at the stage already, but have not begun it.
        self._asking = {"publish": asking_to_publish}
        self._transaction = transaction
        self._worker = worker
        self._trial_seconds = trial_seconds
        self._rows = {
            row.provider: row for row in transaction.rows(_SQL["read_brakes"], worker=worker)
        }
        self._allowed: dict[str, int] = {}
        self._buckets: dict[str, float] = {}
        self._trials: set[str] = set()
        self.events: list[Event] = []
        self._capped = {row.provider for row in self._rows.values() if self._pause_at_cap(row)}

    @property
    def drain(self) -> bool:
        return any(row.drain for row in self._rows.values())

    def pause_left_seconds(self, provider: str) -> float | None:
        """0 when the provider is open, None when the pause has no end, else seconds."""
        if provider in self._capped:
            return None
        row = self._rows[provider]
        if not row.pause_stands or row.pause_time_is_over:
            return 0
        left: float | None = row.pause_left_seconds
        return left

    def on_trial(self, provider: str) -> bool:
        """Whether an automatic pause has come to its trial: one job tries, the others wait."""
        row = self._rows[provider]
        return bool(row.pause_stands and row.automatic and row.pause_time_is_over)

    def allowed(self, stage: str) -> int:
        """How many jobs may begin this stage now."""
        provider = PROVIDER_OF_STAGE[stage]
        if provider not in self._allowed:
            self._allowed[provider] = self._count_allowed(provider)
        return self._allowed[provider]

    def take(self, stage: str, job_ids: list[str]) -> None:
        """Notes which jobs begin the stage in this turn."""
        provider = PROVIDER_OF_STAGE[stage]
        if not job_ids:
            return
        self._allowed[provider] = max(0, self.allowed(stage) - len(job_ids))
        if provider in self._trials:
            self._trials.discard(provider)
            self._transaction.run(
                _SQL["start_trial"],
                provider=provider,
                job_id=job_ids[0],
                trial_seconds=self._trial_seconds,
            )
        if provider in self._buckets:
            self._buckets[provider] -= len(job_ids)
            self._transaction.run(
                _SQL["save_bucket"], provider=provider, bucket_requests=self._buckets[provider]
            )

    def _count_allowed(self, provider: str) -> int:
        row = self._rows[provider]
        if row.pause_stands:
            return self._count_trial(provider)
        if provider in self._capped:
            return 0
        if row.requests_per_minute is None and row.concurrency is None:
            return UNLIMITED
        return self._count_limited(row)

    def _count_trial(self, provider: str) -> int:
        row = self._rows[provider]
        if not (row.automatic and row.pause_time_is_over) or row.trial_runs:
            return 0
        if self._transaction.row(_SQL["lock_trial"], provider=provider) is None:
            return 0
        self._trials.add(provider)
        return 1

    def _pause_at_cap(self, row: Any) -> bool:
        """Pauses a provider whose daily cap is met until midnight UTC; True when it is met."""
        reason = _cap_met(row)
        if reason is None or row.pause_stands:
            return False
        paused = self._transaction.row(
            _SQL["pause_until_tomorrow"], provider=row.provider, reason=reason, worker=self._worker
        )
        if paused is not None:
            message = f"{reason} {row.provider} is paused until midnight UTC."
            self.events.append(Event("daily_cap_reached", message, "critical", row.provider))
        return True

    def _count_limited(self, row: Any) -> int:
        locked = self._transaction.row(_SQL["lock_limits"], providers=[row.provider])
        allowed = UNLIMITED
        if row.requests_per_minute is not None:
            self._buckets[row.provider] = locked.bucket_requests  # type: ignore[union-attr]
            allowed = int(self._buckets[row.provider])
        if row.concurrency is not None:
            jobs = {
                each.stage: each.jobs for each in self._transaction.rows(_SQL["count_in_flight"])
            }
            stage = STAGE_OF_PROVIDER[row.provider]
            begun = jobs.get(stage, 0) - self._asking.get(stage, 0)
            allowed = min(allowed, row.concurrency - begun)
        return max(0, allowed)


def _cap_met(row: Any) -> str | None:
    if row.daily_cost_usd is not None and row.cost_usd_today >= row.daily_cost_usd:
        return (
            f"Today's cost of ${row.cost_usd_today:.4f} met the daily cap of ${row.daily_cost_usd}."
        )
    if row.daily_tokens is not None and row.tokens_today >= row.daily_tokens:
        return f"Today's {row.tokens_today} tokens met the daily cap of {row.daily_tokens}."
    return None


def pause_provider(
    transaction: Transaction,
    worker: str,
    *,
    provider: str,
    error_class: str,
    reason: str,
    seconds: float,
    maximum_seconds: float,
) -> Event | None:
    """Pauses a provider for all workers; the event, unless it was paused already."""
    paused = transaction.row(
        _SQL["pause_provider"],
        provider=provider,
        seconds=seconds,
        maximum_seconds=maximum_seconds,
        reason=reason,
        error_class=error_class,
        worker=worker,
    )
    if paused is None:
        return None
    return Event(
        "provider_paused",
        f"{provider} is paused for all workers until {paused.until:%H:%M:%S} UTC: {reason}",
        "warning" if maximum_seconds <= seconds else "critical",
        provider,
        details={"error_class": error_class, "times": paused.times},
    )


def end_automatic_pause(transaction: Transaction, provider: str) -> Event | None:
    """Ends an automatic pause whose time is over, after a success."""
    if transaction.row(_SQL["end_automatic_pause"], provider=provider) is None:
        return None
    return Event(
        "provider_resumed", f"{provider} answers again: its pause is over.", "info", provider
    )


def end_trial(transaction: Transaction, provider: str, job_id: str) -> None:
    transaction.run(_SQL["end_trial"], provider=provider, job_id=job_id)


def end_expired_pauses(transaction: Transaction) -> list[Event]:
    """Ends the pauses that named their end, and says so."""
    return [
        Event(
            "provider_resumed",
            f"The pause of {row.provider} is over ({row.reason}).",
            "info",
            row.provider,
        )
        for row in transaction.rows(_SQL["end_expired_pauses"])
    ]


def add_usage(
    transaction: Transaction,
    provider: str,
    *,
    requests: int,
    prompt_tokens: int,
    completion_tokens: int,
    cost_usd: Any,
) -> None:
    transaction.run(
        _SQL["add_usage"],
        provider=provider,
        requests=requests,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_usd=cost_usd,
    )
