"""Faults that were added after the rules were made: how triage does where nobody tuned it.

Each as in the catalogue, or, for a cause that no rule knows, with the layers that it may be narrowed to.
"""

from __future__ import annotations

from runbook_lib.rehearsal.faults import Fault

# A fault, and where its `truth` is empty the layers that are right.
HELD_OUT: tuple[tuple[Fault, tuple[str, ...]], ...] = ()
