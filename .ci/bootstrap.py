"""Sets the project up and runs its commands. Needs nothing but Python 3.11 or newer.

    python3 .ci/bootstrap.py demo        publish the example topics into a sandbox, write the weekly report
    python3 .ci/bootstrap.py run         the same, then everything stays up until Ctrl-C
    python3 .ci/bootstrap.py test        the tests (further arguments go to pytest)
    python3 .ci/bootstrap.py test-all    the tests, the long ones as well
    python3 .ci/bootstrap.py check       formatting, lint, types, layers, notebooks without outputs
    python3 .ci/bootstrap.py bench NAME  one benchmark; without NAME the list of them
    python3 .ci/bootstrap.py rehearsals  the score of triage on staged faults, with its page
    python3 .ci/bootstrap.py lab         JupyterLab over the notebooks
    python3 .ci/bootstrap.py venv        set-up alone
    python3 .ci/bootstrap.py peers       the benchmarks' environment of the other queues
    python3 .ci/bootstrap.py lock        requirements.in → requirements.txt (--upgrade for newer versions)

`make demo`, `make test` and so on call exactly this. Set-up comes first and is skipped when nothing
changed. Package indexes, certificates and proxies are those that pip or uv are configured with.
"""
# This file must be readable by old Pythons, up to the check of the version: no newer syntax.

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

OLDEST_PYTHON = (3, 11)
NEWER_PYTHONS = ("python3.13", "python3.12", "python3.11", "python3.14")
ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    """Runs one verb; returns its exit status, or becomes the command that it starts."""
    use_a_python_that_is_new_enough()
    from environments import PEERS, PROJECT, SetUpFailed, set_up
    from locks import lock

    verb, rest = (arguments[0], arguments[1:]) if arguments else ("help", [])
    try:
        if verb not in ("venv", "peers", "lock", *COMMANDS):
            print(__doc__)
            return 0 if verb in ("help", "-h", "--help") else 2
        set_up(PROJECT)
        if verb == "peers":
            set_up(PEERS)
        if verb == "lock":
            lock(rest)
        if verb not in COMMANDS:
            return 0
    except SetUpFailed as error:
        print(f"\n{error}", file=sys.stderr)
        return 3
    return become(COMMANDS[verb], rest)


def use_a_python_that_is_new_enough() -> None:
    """Goes on under a newer Python when this one is too old, or says what to install."""
    if sys.version_info >= OLDEST_PYTHON:
        return
    for name in NEWER_PYTHONS:
        found = shutil.which(name)
        if found:
            os.execv(found, [found, *sys.argv])
    sys.exit(
        "Python {}.{} or newer is needed, and this is {}.{} ({}). Install a newer one and name it:\n"
        "    python3.12 .ci/bootstrap.py {}      or      make PYTHON=python3.12 {}".format(
            *OLDEST_PYTHON,
            *sys.version_info[:2],
            sys.executable,
            *(2 * [(sys.argv[1:] or ["demo"])[0]]),
        )
    )


# Half of a test's time is waiting: three processes for two cores. More would fight with the servers that the
# tests start. Who is done takes from the others what they have not begun.
PROCESSES = min(6, (os.cpu_count() or 1) * 3 // 2)
PYTEST = ["-m", "pytest", "-q", "-n", str(PROCESSES), "--dist", "worksteal"]
COMMANDS = {
    "demo": [".venv/bin/runbook", "demo"],
    "run": [".venv/bin/runbook", "demo", "--stay-up"],
    "test": [*PYTEST, "-m", "not long"],
    "test-all": PYTEST,
    "check": [".ci/checks.py"],
    "bench": ["-m", "benchmarks"],
    "rehearsals": ["-m", "benchmarks", "rehearsals"],
    "lab": [".venv/bin/runbook", "lab"],
}


def become(command: list[str], arguments: list[str]) -> int:
    """Replaces this process, so that Ctrl-C and the exit status are the command's own."""
    python = str(ROOT / ".venv" / "bin" / "python")
    os.chdir(str(ROOT))
    # Where this is set, each of the many processes would compile the same libraries again: seconds each.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.stdout.flush()
    os.execv(python, [python, *command, *arguments])
    return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
