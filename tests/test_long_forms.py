"""The long forms of what the short tests prove: two hundred kills, fifty frozen workers, twenty dead databases."""

from __future__ import annotations

import subprocess
import sys

import pytest

from runbook_lib.settings import PROJECT_DIRECTORY

LONG_FORMS = [
    "crash_recovery",
    "frozen_worker",
    "database_restarts",
    "dependency_deadlines",
    "cost_cap",
    "incident_outage",
]


@pytest.mark.long
@pytest.mark.parametrize("name", LONG_FORMS)
def test_every_figure_meets_its_bar(name: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks", name],
        cwd=PROJECT_DIRECTORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr[-2000:]
