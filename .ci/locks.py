"""Turns each requirements.in into a lock with hashes for every platform."""

from __future__ import annotations

import os
from pathlib import Path

from environments import PROJECT, ROOT, UV, UV_REQUIREMENTS, SetUpFailed, uv_variables_from_pip
from progress import step

LOCKS = ("requirements", "benchmarks/requirements")
COMMAND = "python3 .ci/bootstrap.py lock"


def lock(arguments: list[str]) -> None:
    """Writes the locks; `arguments` go to uv, such as --upgrade or --upgrade-package NAME."""
    variables = {
        **os.environ,
        **uv_variables_from_pip(PROJECT),
        "UV_CUSTOM_COMPILE_COMMAND": COMMAND,
    }
    os.chdir(ROOT)
    for name in LOCKS:
        with step(f"{name}.txt") as run:
            compile_ = [UV, "pip", "compile", "--universal", "--generate-hashes", "--no-annotate"]
            # An index's or a folder's name would tie the lock to this machine.
            compile_ += ["--no-emit-index-url", "--no-emit-find-links", "--python-version", "3.11"]
            if run(
                [*compile_, *arguments, f"{name}.in", "-o", f"{name}.txt"], environment=variables
            ):
                raise SetUpFailed(f"{name}.txt could not be made; the lines above say why.")
    UV_REQUIREMENTS.write_text(uv_alone(ROOT / "requirements.txt"))


def uv_alone(requirements: Path) -> str:
    """The lock's lines about uv: what the set-up installs first, with pip."""
    lines = requirements.read_text().splitlines()
    begin = next(index for index, line in enumerate(lines) if line.startswith("uv=="))
    end = next(index for index in range(begin, len(lines)) if not lines[index].endswith("\\"))
    heading = [f"# uv, as requirements.txt has it. Written by `{COMMAND}`."]
    return "\n".join([*heading, *lines[begin : end + 1], ""])
