"""Which code this is."""

from __future__ import annotations

import subprocess
from functools import cache

from runbook_lib.settings import PROJECT_DIRECTORY


@cache
def code_commit() -> str | None:
    """The commit of the checkout, with `-dirty` when files differ from it; None outside of one."""
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def last_commit_of(file: str) -> str | None:
    """When a file of the checkout was committed last, in ISO 8601; None outside of a checkout."""
    return _git("log", "-1", "--format=%cI", "--", file)


def _git(*words: str) -> str | None:
    command = ["git", "-C", str(PROJECT_DIRECTORY), *words]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
