"""Sends messages to one address, each within a total time, whatever the other side does."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.credentials.masking import one_line
from runbook_lib.deadlines import Deadline
from runbook_lib.health.alerts.targets import Target
from runbook_lib.settings import CALLER_PREFIXES

SENDER = "runbook_lib.health.alerts.sender"
# On a busy machine; it takes a second elsewhere.
START_SECONDS = 60.0
_LONGEST_REASON = 300


@dataclass(frozen=True)
class Message:
    """What is sent; `severity` is info, success, warning or critical, `chart` a PNG."""

    title: str
    body: str
    severity: str = "info"
    chart: bytes | None = None


@dataclass(frozen=True)
class Sent:
    """What became of a message: `reason` says why it did not arrive."""

    arrived: bool
    seconds: float
    reason: str | None = None


class Sending:
    """One address and the process that sends to it, which takes a second to start.

    A message that takes too long ends the process; the next message starts another.
    """

    def __init__(self, target: Target, deadline_seconds: float) -> None:
        self._target = target
        self._deadline_seconds = deadline_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with us
        # Where the process keeps a chart while a service reads it: one that is killed clears nothing away.
        self._folder = tempfile.TemporaryDirectory(prefix="runbook-sending-")

    def send(self, message: Message) -> Sent:
        """Sends one message within the deadline. Never raises."""
        began = time.monotonic()
        try:
            self.start()
            began = time.monotonic()
            reason = self._ask(message)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"The sending process failed: {self._last_words() or error}"
            self._end()
        seconds = round(time.monotonic() - began, 3)
        return Sent(reason is None, seconds, one_line(reason, _LONGEST_REASON) if reason else None)

    def start(self) -> None:
        """Starts the process, if it does not run, so that no message's time is spent on it."""
        if self._process is not None:
            return
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", SENDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**_environment(), "TMPDIR": self._folder.name},
            # In a group of its own: what a service starts is ended with it.
            start_new_session=True,
        )
        if self._line(Deadline.after(START_SECONDS)) is None:
            raise OSError(f"it was not ready after {START_SECONDS:g} s")

    def _ask(self, message: Message) -> str | None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        deadline = Deadline.after(self._deadline_seconds)
        line = {
            "url": self._target.url, "title": message.title, "body": message.body,
            "severity": message.severity,
            "chart": base64.b64encode(message.chart).decode("ascii") if message.chart else None,
        }  # fmt: skip
        # The process reads the whole line before anything else, so this never waits for the other side.
        process.stdin.write(json.dumps(line).encode("ascii") + b"\n")
        process.stdin.flush()
        answer = self._line(deadline)
        if answer is None:
            self._end()
            return f"It had not taken the message after {self._deadline_seconds:g} s."
        found = json.loads(answer)
        return None if found["arrived"] else str(found["reason"])

    def _line(self, deadline: Deadline) -> bytes | None:
        """The process's next line; None when it does not come in time."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            stream = self._process.stdout
            ready, _, _ = select.select([stream], [], [], deadline.remaining_seconds())
            if not ready:
                return None
            data = os.read(stream.fileno(), 65_536)
            if not data:
                raise OSError("it ended without an answer")
            line += data
        return line

    def _last_words(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 2000))
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        process.wait()
        for left in Path(self._folder.name).iterdir():
            shutil.rmtree(left, ignore_errors=True)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    pass  # what was not written yet has no reader any more

    def __enter__(self) -> Sending:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        self._end()
        self._errors.close()
        self._folder.cleanup()


def _environment() -> dict[str, str]:
    """Proxies and certificates, but none of the pipeline's keys."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(CALLER_PREFIXES)
    }
