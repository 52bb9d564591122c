"""Two faults at once: both must be named."""

from __future__ import annotations

from runbook_lib.database.statements import load
from runbook_lib.rehearsal.faults import (
    Fault,
    arranged,
    at_once,
    executed,
    failed_as,
    sandbox_fault,
    together,
)
from runbook_lib.rehearsal.provider_faults import slow_model
from runbook_lib.rehearsal.worker_faults import killed_worker, overlapping_attempts, skewed_clock

_SQL = load("rehearsal_workers")

COMPOUNDS: tuple[Fault, ...] = (
    Fault("login+killed", ("wordpress-login-revoked", "worker-killed"), together(sandbox_fault("wordpress", "login_revoked"), killed_worker),
          failed_as("wordpress_login_failed")),
    Fault("slow+eager", ("openai-slow", "sweeper-too-eager"), together(slow_model, arranged(overlapping_attempts)), at_once, own_workers=True),
    Fault("clock+scheduler", ("worker-clock-skewed", "scheduler-not-running"), together(arranged(skewed_clock), executed(_SQL["scheduler_gone"])), at_once, own_workers=True),
    Fault("quota+login", ("openai-quota-exhausted", "wordpress-login-revoked"), together(sandbox_fault("wordpress", "login_revoked", first=True), sandbox_fault("openai", "quota")),
          failed_as("openai_quota_exhausted")),
)  # fmt: skip
