"""A worker to which something happens at certain jobs: WAY, and the words that such a topic holds.

Everything else is the real worker. It is what a fault of an extension in C, a lock that is never given back,
or the kernel's out-of-memory killer do to it: nothing that an exception would tell of.

    python frail_worker.py dies "a glass garden" --concurrency 2
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import threading
import time
from typing import Any

from runbook_lib.pipeline import service
from runbook_lib.pipeline.attempt import Attempt, Completed
from runbook_lib.settings import load_settings

# By then whoever gave the job out has committed, and waits: it is not stopped inside a transaction.
_AT_REST_SECONDS = 0.4
_FOR_EVER_SECONDS = 86_400


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _wait_for_a_lock() -> None:
    """Never given back. The coordinator, in another thread, goes on: it beats and renews leases."""
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _hold_the_interpreter() -> None:
    """As an extension does that computes without letting others run: no thread of the process gets on."""
    ctypes.PyDLL(None).sleep(_FOR_EVER_SECONDS)


WAYS = {"dies": _die, "deadlocks": _wait_for_a_lock, "hangs": _hold_the_interpreter}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("words")
    parser.add_argument("--concurrency", type=int, default=3)
    given = parser.parse_args()
    make_process = service.make_process

    def make_frail_process(*arguments: Any, **options: Any) -> Any:
        process = make_process(*arguments, **options)

        def handle(attempt: Attempt) -> Completed:
            if given.words in attempt.job.topic:
                time.sleep(_AT_REST_SECONDS)
                WAYS[given.way]()
            return process(attempt)

        return handle

    service.make_process = make_frail_process
    return service.run_worker(load_settings(), concurrency=given.concurrency)


if __name__ == "__main__":
    sys.exit(main())
