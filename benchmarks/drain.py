"""Drains a database with one worker process and a handler that sleeps; prints its rate, seconds and memory as JSON.

python -m benchmarks.drain URL CONCURRENCY PREFETCH SLEEP_SECONDS
"""

from __future__ import annotations

import json
import sys
import time

import psutil

from runbook_lib.database.connection import Database
from runbook_lib.pipeline.attempt import Attempt, Completed
from runbook_lib.pipeline.options import WorkerOptions
from runbook_lib.pipeline.reporting import Reporter
from runbook_lib.pipeline.worker import Worker


def drain(url: str, concurrency: int, prefetch: int, sleep_seconds: float) -> dict[str, object]:
    """Runs until nothing is left. The rate is (jobs - 1) / (last start - first start)."""
    starts: list[float] = []
    jobs: list[str] = []
    done = Completed()

    def handle(attempt: Attempt) -> Completed:
        starts.append(time.monotonic())
        jobs.append(attempt.job.job_id)
        if sleep_seconds:
            time.sleep(sleep_seconds)
        return done

    options = WorkerOptions(concurrency=concurrency, prefetch=prefetch, until_empty=True)
    status = Worker(Database(url), handle, options, Reporter()).run()
    resident = psutil.Process().memory_info().rss / 1e6
    elapsed = max(starts) - min(starts) if len(starts) > 1 else 0.0
    return {
        "status": status,
        "rate": (len(starts) - 1) / elapsed if elapsed else 0.0,
        "seconds": elapsed + sleep_seconds,
        "first_start": min(starts, default=0.0),
        "last_start": max(starts, default=0.0),
        "jobs": jobs,
        "resident_megabytes": resident,
    }


if __name__ == "__main__":
    url, concurrency, prefetch, sleep_seconds = sys.argv[1:5]
    print(json.dumps(drain(url, int(concurrency), int(prefetch), float(sleep_seconds))))
