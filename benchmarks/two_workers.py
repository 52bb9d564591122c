"""Two worker processes against one on no-op jobs, and whether any job of 100,000 was claimed twice."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections import Counter

from benchmarks.figures import report
from benchmarks.queue_throughput import CONCURRENCY, PREFETCH, drain_ours
from benchmarks.scratch import Server, add_topics, server

ROUNDS = 3
JOBS = 100_000


def main() -> None:
    """Interleaved; the history checker compares what handlers saw with what job_runs says."""
    one: list[float] = []
    two: list[float] = []
    doubled = 0
    with server() as running:
        for _ in range(ROUNDS):
            one.append(float(drain_ours(running, JOBS, CONCURRENCY, PREFETCH, 0)["rate"]))
            rate, twice = drain_by_two(running)
            two.append(rate)
            doubled += twice
    ratio = statistics.median(b / a for a, b in zip(one, two, strict=True))
    report(
        "no-op jobs, two processes",
        statistics.median(two),
        "jobs/s",
        ratio=ratio,
        against="one process",
        bar="≥ 0.9 ×",
        met=ratio >= 0.9,
        samples={"one": one, "two": two},
    )
    report(
        f"double claims in {ROUNDS} × {JOBS:,} jobs",
        doubled,
        "jobs",
        bar="0",
        met=doubled == 0,
    )


def drain_by_two(running: Server) -> tuple[float, int]:
    """Jobs a second of both together, and how many jobs were seen or recorded more than once."""
    database = running.new_database()
    add_topics(database, JOBS)
    arguments = [str(value) for value in (CONCURRENCY, PREFETCH, 0)]
    command = [sys.executable, "-m", "benchmarks.drain", database.url, *arguments]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    seen = Counter(job for answer in answers for job in answer["jobs"])
    begun = min(answer["first_start"] for answer in answers if answer["jobs"])
    ended = max(answer["last_start"] for answer in answers if answer["jobs"])
    with database.transaction(deadline_seconds=120) as transaction:
        recorded = transaction.value(
            "SELECT count(*) FROM (SELECT job_id FROM job_runs GROUP BY job_id HAVING count(*) <> 1) AS wrong"
        )
    assert len(seen) == JOBS, f"{JOBS - len(seen)} jobs were not run"
    twice = sum(count > 1 for count in seen.values())
    return (JOBS - 1) / (ended - begun), twice + recorded


if __name__ == "__main__":
    main()
