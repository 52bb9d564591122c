"""What this worker has seen of its providers lately, and when that pauses one for all workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook_lib.database.connection import Transaction
from runbook_lib.pipeline.failures import Failure, Fault
from runbook_lib.pipeline.model import PROVIDER_OF_STAGE
from runbook_lib.pipeline.permits import (
    Event,
    Permits,
    end_automatic_pause,
    end_trial,
    pause_provider,
)

if TYPE_CHECKING:
    from runbook_lib.pipeline.options import WorkerOptions

DEFAULT_RATE_PAUSE_SECONDS = 10.0


class ProviderWatch:
    """Counts failures in a row and remembers the pauses that the last turn saw.

    A provider's own fault (quota, key, login) pauses it at once, 5xx and time-outs after some in a
    row. Each method works inside the turn's transaction and returns the events that it caused.
    """

    def __init__(self, worker: str, options: WorkerOptions) -> None:
        self._worker = worker
        self._options = options
        self._failures_in_a_row = dict.fromkeys(PROVIDER_OF_STAGE.values(), 0)
        self._pause_left_seconds: dict[str, float | None] = {}
        self._on_trial: frozenset[str] = frozenset()

    def look(self, permits: Permits) -> None:
        """Remembers what the turn's permits say."""
        providers = PROVIDER_OF_STAGE.values()
        self._pause_left_seconds = {each: permits.pause_left_seconds(each) for each in providers}
        self._on_trial = frozenset(each for each in providers if permits.on_trial(each))

    def is_open(self, provider: str) -> bool:
        return self._pause_left_seconds.get(provider, 0) == 0

    def opens_within(self, provider: str, seconds: float) -> bool:
        """False for a pause without an end, or with one that is further off."""
        left = self._pause_left_seconds.get(provider, 0)
        return left is not None and left <= seconds

    def note_success(self, transaction: Transaction, provider: str) -> list[Event]:
        self._failures_in_a_row[provider] = 0
        if provider not in self._on_trial:
            return []
        event = end_automatic_pause(transaction, provider)
        return [event] if event else []

    def note_failure(
        self, transaction: Transaction, job_id: str, failure: Failure
    ) -> tuple[bool, list[Event]]:
        """Whether the provider is paused now, so that the job is not charged; and the events."""
        provider = failure.provider
        if provider not in self._failures_in_a_row:
            return False, []
        assert provider is not None
        if failure.fault is Fault.WORKER:
            end_trial(transaction, provider, job_id)
            return False, []
        if failure.fault in (Fault.JOB, Fault.CONTENT):
            return False, self.note_success(transaction, provider)
        seconds = self._pause_seconds(provider, failure)
        if seconds is None:
            return not self.is_open(provider), []
        event = pause_provider(
            transaction,
            self._worker,
            provider=provider,
            error_class=failure.error_class,
            reason=failure.message,
            seconds=seconds,
            maximum_seconds=seconds
            if failure.fault is Fault.RATE
            else self._options.provider_pause_maximum_seconds,
        )
        return True, [event] if event else []

    def _pause_seconds(self, provider: str, failure: Failure) -> float | None:
        """How long this failure pauses the provider; None when it does not."""
        if failure.fault is Fault.RATE:
            return failure.retry_after_seconds or DEFAULT_RATE_PAUSE_SECONDS
        if failure.fault is Fault.PROVIDER:
            return self._options.provider_pause_seconds
        self._failures_in_a_row[provider] += 1
        many = self._failures_in_a_row[provider] >= self._options.pause_after_failures_in_a_row
        return self._options.retry.base_seconds if many or provider in self._on_trial else None
