"""A step of the set-up: its name, how long it takes, and the output of its commands if they fail."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

SHOWN_LINES = 20


class Step:
    """Runs the commands of one step, and keeps what they print until it is needed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.remarks: list[str] = []
        self.failed_output: list[str] = []

    def __call__(self, command: list[object], environment: Mapping[str, str] | None = None) -> int:
        """Runs a command; returns its exit status, and keeps its last lines if it fails."""
        try:
            answer = subprocess.run(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=environment,
                check=False,
            )
        except OSError as error:
            self.failed_output = [str(error)]
            return 127
        if answer.returncode:
            self.failed_output = answer.stdout.strip().splitlines()[-SHOWN_LINES:]
        return answer.returncode

    def remark(self, text: str) -> None:
        self.remarks.append(text)


@contextmanager
def step(name: str) -> Iterator[Step]:
    """Prints the step's name and its seconds; on a terminal the seconds count while it runs."""
    begun = time.monotonic()
    running = Step(name)
    ended = threading.Event()
    ticker = threading.Thread(target=_count, args=(name, begun, ended), daemon=True)
    if sys.stdout.isatty():
        ticker.start()
    else:
        print(f"  {name} …", flush=True)
    try:
        yield running
    finally:
        ended.set()
        if ticker.ident is not None:
            ticker.join()
        clear = "\r\033[K" if ticker.ident is not None else ""
        print(f"{clear}  {name}: {time.monotonic() - begun:.1f} s", flush=True)
        for line in [*running.failed_output, *running.remarks]:
            print(f"    {line}", flush=True)


def _count(name: str, begun: float, ended: threading.Event) -> None:
    while not ended.wait(0.2):
        print(f"\r  {name} … {time.monotonic() - begun:.0f} s", end="", flush=True)
