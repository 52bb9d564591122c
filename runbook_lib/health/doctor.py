"""The doctor: every part examined at once, each under its own deadline, in words.

It changes nothing and costs nothing: it starts no server, makes no table, and asks OpenAI for a list
of models only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL, EXIT_WRONG_USE
from runbook_lib.health.checks import Check, Verdict, worst_verdict
from runbook_lib.health.probes.configuration import Configuration, probe_configuration
from runbook_lib.health.side_by_side import run_probes

DEADLINE_SECONDS = 30.0
PARTS = ("settings", "database", "mapping", "openai", "wordpress")


@dataclass(frozen=True)
class Examination:
    """What the doctor found, in the order of the parts."""

    checks: tuple[Check, ...]
    seconds: float
    settings_fit: bool

    @property
    def verdict(self) -> Verdict:
        return worst_verdict(self.checks)

    @property
    def exit_status(self) -> int:
        """2: the settings do not fit. 1: something is critical. 0: well, or nothing worse than a warning."""
        if not self.settings_fit:
            return EXIT_WRONG_USE
        return EXIT_NOT_WELL if self.verdict == "critical" else EXIT_DONE

    def of_part(self, part: str) -> list[Check]:
        return [check for check in self.checks if check.part == part]

    def as_dictionary(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "seconds": self.seconds,
            "checks": [check.masked() for check in self.checks],
        }


def examine(
    configuration: Configuration, *, deadline_seconds: float = DEADLINE_SECONDS
) -> Examination:
    """Examines settings, database, mapping, OpenAI and WordPress at once.

    A part that hangs is given up at its deadline, and harms no other.
    """
    from runbook_lib.health.probes.services import (
        probe_database_of,
        probe_mapping_of,
        probe_openai_of,
        probe_wordpress_of,
    )

    started = time.monotonic()
    found = run_probes(
        {
            "settings": lambda: probe_configuration(configuration),
            "database": lambda: probe_database_of(configuration),
            "mapping": lambda: probe_mapping_of(configuration),
            "openai": lambda: probe_openai_of(configuration),
            "wordpress": lambda: probe_wordpress_of(configuration),
        },
        deadline_seconds,
    )
    checks = tuple(check for part in PARTS for check in found[part])
    return Examination(checks, round(time.monotonic() - started, 2), configuration.problem is None)
