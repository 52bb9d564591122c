"""The environment of the other queues, made when a benchmark first asks for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parent


def python() -> Path:
    """The interpreter that has the other queues installed; `make venv`'s own stays free of them."""
    bootstrap = DIRECTORY.parent / ".ci" / "bootstrap.py"
    # Progress goes to standard error: standard output holds the figures.
    subprocess.run([sys.executable, bootstrap, "peers"], stdout=sys.stderr, check=True)
    return DIRECTORY / ".venv" / "bin" / "python"
