"""OpenAI and WordPress: reached, logged in, allowed, and what they cost."""

from __future__ import annotations

from runbook_lib.health.registry import DeclaredCheck

CHECKS: tuple[DeclaredCheck, ...] = ()
