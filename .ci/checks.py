"""`make check`: what can be said about the code without running it. Every check runs, whatever the others say."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = Path(sys.executable).parent


def main() -> int:
    notebooks = tracked("*.ipynb")
    checks = {
        "lint": [tool("ruff"), "check", "."],
        "formatting": [tool("ruff"), "format", "--check", "."],
        "types": [sys.executable, "-m", "mypy"],
        "layers": [tool("lint-imports")],
        "notebooks without outputs": [
            sys.executable,
            "-m",
            "nbstripout",
            "--keep-id",
            "--verify",
            *notebooks,
        ]
        if notebooks
        else None,
    }
    begun = time.monotonic()
    failed = [name for name, command in checks.items() if command and not passes(name, command)]
    if not passes_text("nothing of this machine in tracked files", names_of_this_machine()):
        failed.append("names of this machine")
    verdict = f"failed: {', '.join(failed)}" if failed else "all well"
    print(f"{verdict}, {time.monotonic() - begun:.1f} s")
    return 1 if failed else 0


def tool(name: str) -> str:
    return str(TOOLS / name)


def tracked(pattern: str = "") -> list[str]:
    """Tracked and new files, relative to the root; none outside a git checkout."""
    command = [
        "git",
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "--",
        *([pattern] if pattern else []),
    ]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return [line for line in answer.stdout.splitlines() if (ROOT / line).is_file()]


def passes(name: str, command: list[str]) -> bool:
    begun = time.monotonic()
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    report(name, begun, answer.returncode == 0, answer.stdout + answer.stderr)
    return answer.returncode == 0


def passes_text(name: str, findings: str) -> bool:
    report(name, time.monotonic(), not findings, findings)
    return not findings


def report(name: str, begun: float, well: bool, output: str) -> None:
    print(f"{'ok    ' if well else 'FAILED'}  {name}, {time.monotonic() - begun:.1f} s", flush=True)
    if not well:
        print(output.rstrip(), flush=True)


def names_of_this_machine() -> str:
    """Lines of tracked files that hold the place of this checkout: they would be wrong elsewhere."""
    command = ["git", "grep", "-nIF", "-e", f"{ROOT}/"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout


if __name__ == "__main__":
    sys.exit(main())
