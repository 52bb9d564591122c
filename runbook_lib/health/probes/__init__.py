"""Probes: each looks at one part from outside in, changes nothing and costs nothing.

A probe is a generator of checks. It ends at the first step without which the later ones mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from runbook_lib.health.checks import Check

Probe = Iterator[Check]
