"""How a worker works."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runbook_lib.pipeline.failures import RetryPolicy
from runbook_lib.settings import Settings


@dataclass(frozen=True)
class WorkerOptions:
    """The worker's knobs; the defaults are those of `Settings`."""

    concurrency: int = 4
    prefetch: int = 0
    lease_seconds: float = 30
    sweep_interval_seconds: float = 1
    idle_poll_seconds: float = 1
    attempt_deadline_seconds: float = 900
    stop_grace_seconds: float = 30
    quarantine_after_lost_attempts: int = 5
    pause_after_failures_in_a_row: int = 5
    provider_pause_seconds: float = 300
    provider_pause_maximum_seconds: float = 3600
    site_processing_seconds: float = 60
    maximum_topic_characters: int = 4_000
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    until_empty: bool = False
    listen: bool = True
    settings_digest: str | None = None

    @classmethod
    def of(cls, settings: Settings, **changes: Any) -> WorkerOptions:
        """The options that the settings name; `changes` that are None are left out."""
        own = {
            name: getattr(settings, f"runbook_{name}")
            for name in cls.__dataclass_fields__
            if hasattr(settings, f"runbook_{name}")
        }
        own["retry"] = RetryPolicy(
            settings.runbook_retry_base_seconds, settings.runbook_retry_maximum_seconds
        )
        return cls(**own | {name: value for name, value in changes.items() if value is not None})
