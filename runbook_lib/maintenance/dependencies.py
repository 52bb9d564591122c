"""What the code depends on: how old the lock is, and what is behind the newest releases.

Only a person asks the package index; without one, or without a network, that is said and not taken for
"nothing is behind".
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from runbook_lib.code_version import last_commit_of
from runbook_lib.credentials.masking import one_line
from runbook_lib.health.checks import Check
from runbook_lib.settings import PROJECT_DIRECTORY

LOCK = "requirements.txt"
INDEX_DEADLINE_SECONDS = 90.0
_DAY_SECONDS = 86_400
_UPDATE = "python3 .ci/bootstrap.py lock --upgrade, then make test"


@dataclass(frozen=True)
class Behind:
    """Packages that are behind their newest release; `problem` says why it could not be told."""

    packages: tuple[dict[str, Any], ...] = ()
    problem: str | None = None


def lock_age(*, days: float, now: datetime | None = None) -> Check:
    """How long ago the lock was made anew, by its last commit."""
    name, file = "dependencies.lock", PROJECT_DIRECTORY / LOCK
    committed = last_commit_of(LOCK) if file.is_file() else None
    if committed is None:
        words = f"There is no {LOCK} with a commit here, so its age is not known."
        return Check(name, "not_enough_data", words, source="git log", next=_UPDATE)
    age = ((now or datetime.now(UTC)) - datetime.fromisoformat(committed)).total_seconds() / _DAY_SECONDS  # fmt: skip
    old = age > days
    return Check(
        name, "warning" if old else "ok",
        f"The lock of {_locked(file.read_text('utf-8'))} packages was committed {max(0.0, age):.0f} days ago.",
        round(max(0.0, age), 1), "days", days, "git log", "that nothing in it has a known hole",
        _UPDATE if old else None,
    )  # fmt: skip


def behind_releases() -> Behind:
    """Asks the package index that pip is configured with about what is installed for its own sake."""
    # pip calls a package without any answer up to date, so it is asked first whether there is an index.
    reached = _pip("index", "versions", "pip")
    if reached is None or reached.returncode != 0:
        said = one_line(reached.stderr, 200) if reached else "it did not answer in time"
        return Behind(problem=f"The package index could not be asked: {said or 'no reason was given'}")  # fmt: skip
    listed = _pip("list", "--outdated", "--not-required", "--format=json")
    if listed is None or listed.returncode != 0:
        said = one_line(listed.stderr, 200) if listed else "pip did not answer in time"
        return Behind(problem=f"What is behind could not be told: {said}")
    try:
        found = json.loads(listed.stdout or "[]")
    except ValueError:
        return Behind(problem="pip's answer could not be read.")
    return Behind(tuple(
        {"package": each["name"], "installed": each["version"], "newest": each["latest_version"]}
        for each in found
    ))  # fmt: skip


def _pip(*words: str) -> subprocess.CompletedProcess[str] | None:
    command = [sys.executable, "-m", "pip", *words, "--disable-pip-version-check", "--retries=0", "--timeout=10"]  # fmt: skip
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=INDEX_DEADLINE_SECONDS)  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None


def _locked(text: str) -> int:
    return sum("==" in line and not line.startswith((" ", "#")) for line in text.splitlines())
