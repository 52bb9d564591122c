"""The doctor: every part examined at once, each under its own deadline, in words.

It changes nothing and costs nothing: it starts no server, makes no table, and asks OpenAI for a list
of models only.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL, EXIT_WRONG_USE
from runbook_lib.health.checks import Check, Verdict, worst_verdict
from runbook_lib.health.probes import Probe
from runbook_lib.health.probes.configuration import Configuration, probe_configuration

DEADLINE_SECONDS = 30.0
PARTS = ("settings", "database", "openai", "wordpress")


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
    """Examines settings, database, OpenAI and WordPress at once.

    A part that hangs is given up at its deadline, and harms no other.
    """
    from runbook_lib.health.probes.services import (
        probe_database_of,
        probe_openai_of,
        probe_wordpress_of,
    )

    started = time.monotonic()
    found = run_probes(
        {
            "settings": lambda: probe_configuration(configuration),
            "database": lambda: probe_database_of(configuration),
            "openai": lambda: probe_openai_of(configuration),
            "wordpress": lambda: probe_wordpress_of(configuration),
        },
        deadline_seconds,
    )
    checks = tuple(check for part in PARTS for check in found[part])
    return Examination(checks, round(time.monotonic() - started, 2), configuration.problem is None)


def run_probes(
    probes: Mapping[str, Callable[[], Probe]], deadline_seconds: float
) -> dict[str, list[Check]]:
    """Runs probes side by side, each in a thread that is left behind when its time is over."""
    answers: queue.SimpleQueue[tuple[str, Check | None]] = queue.SimpleQueue()
    for part, probe in probes.items():
        threading.Thread(
            target=_run_probe, args=(part, probe, answers), name=f"probe-{part}", daemon=True
        ).start()
    found: dict[str, list[Check]] = {part: [] for part in probes}
    running = set(probes)
    deadline = time.monotonic() + deadline_seconds
    while running:
        try:
            part, check = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if check is None:
            running.discard(part)
        else:
            found[part].append(check)
    for part in running:
        found[part].append(_given_up(part, found[part], deadline_seconds))
    return found


def _run_probe(
    part: str, probe: Callable[[], Probe], answers: queue.SimpleQueue[tuple[str, Check | None]]
) -> None:
    try:
        for check in probe():
            answers.put((part, check))
    except Exception as error:  # whatever one part does, the others are told about
        answers.put((part, _unexpected(part, error)))
    finally:
        answers.put((part, None))


def _given_up(part: str, answered: list[Check], deadline_seconds: float) -> Check:
    after = f"after {answered[-1].name}" if answered else "at its first step"
    return Check(
        f"{part}.deadline",
        "critical",
        f"This part hung {after} and was given up after {deadline_seconds:g} s.",
        deadline_seconds,
        "s",
        next="What comes after the last answered step takes connections and then stalls: look there.",
    )


def _unexpected(part: str, error: Exception) -> Check:
    return Check(
        f"{part}.unexpected",
        "not_enough_data",
        f"The examination itself failed here: {type(error).__name__}: {error}",
        next="Please report this; the other parts were examined.",
    )
