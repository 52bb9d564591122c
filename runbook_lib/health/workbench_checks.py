"""The workbench itself: clocks, schedules, the archive."""

from __future__ import annotations

from runbook_lib.health.registry import DeclaredCheck

CHECKS: tuple[DeclaredCheck, ...] = ()
