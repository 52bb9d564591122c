"""Runs the sandbox: for whoever holds `shared_directory`, or alone until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from runbook_lib.processes import serve
from runbook_lib.sandbox.service import CREDENTIALS_FILE, SandboxService


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.shared_directory is not None:
        service = SandboxService(arguments.shared_directory)
        return serve(arguments.shared_directory, service.start, service.stop, service.alive)
    return _run_alone(arguments.directory, arguments.host, arguments.port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runbook_lib.sandbox", description="Stand-ins for OpenAI and WordPress.")  # fmt: skip
    parser.add_argument("shared_directory", nargs="?", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, default=Path(".runbook/sandbox-alone"), help="where posts and credentials are kept")  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: that of last time, or any")
    return parser


def _run_alone(directory: Path, host: str, port: int) -> int:
    os.umask(0o077)  # what it keeps is its owner's
    asked_to_stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked_to_stop.set())
    service = SandboxService(directory, host, port)
    url = service.start()["url"]
    print(
        f"OPENAI_BASE_URL={url}/v1\nWORDPRESS_URL={url}\ncredentials: {directory / CREDENTIALS_FILE}",
        flush=True,
    )
    while service.alive() and not asked_to_stop.wait(0.5):
        pass
    service.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
