"""`runbook lab`: JupyterLab for responders."""

from __future__ import annotations

import os
import signal
import subprocess

import click

from runbook_lib.incidents import lab as jupyter
from runbook_lib.settings import PROJECT_DIRECTORY, load_settings


@click.command()
@click.option("--port", type=int, default=jupyter.PORT, show_default=True, help="Where it listens; the next free one if taken.")  # fmt: skip
@click.option("--browser/--no-browser", default=None, help="Open a browser (default: on a desktop).")  # fmt: skip
def lab(port: int, browser: bool | None) -> int:
    """Serves JupyterLab on loopback until Ctrl-C: a token, no terminals, nothing from the internet.

    Procedures under notebooks/ open read-only. `runbook incident open` makes copies to work in, and
    every cell that is executed is told to the timeline.
    """
    from runbook_lib.database import open_reachable_or_not
    from runbook_lib.processes import dying_with_parent

    settings = load_settings()
    jupyter.prepare(settings)
    for line in jupyter.starting_words():
        click.echo(line, err=True)
    opens = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    command = jupyter.command(settings, port=port, browser=opens if browser is None else browser)
    # Held for as long as the lab is up: a cell then finds the embedded database running.
    with open_reachable_or_not(settings, "runbook lab"):
        process = subprocess.Popen(
            dying_with_parent(command), cwd=PROJECT_DIRECTORY, start_new_session=True,
            env=jupyter.environment(settings, os.environ),
        )  # fmt: skip
        return _attend(process)


def _attend(process: subprocess.Popen[bytes]) -> int:
    """Waits for the lab; Ctrl-C and SIGTERM end it with its kernels, without its question back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: process.terminate()) for number in numbers}
    try:
        process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0 if process.returncode in (0, -signal.SIGTERM) else 3
