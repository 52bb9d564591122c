"""The queue: how much waits and for how long, what is stuck, who works."""

from __future__ import annotations

from runbook_lib.health.registry import DeclaredCheck

CHECKS: tuple[DeclaredCheck, ...] = ()
