"""Jobs that wait: 50 ms jobs at concurrency 100, and 2 s jobs at the defaults, in percent of the ideal."""

from __future__ import annotations

import statistics

from benchmarks.figures import report
from benchmarks.queue_throughput import drain_ours
from benchmarks.scratch import Server, server
from runbook_lib.pipeline.options import WorkerOptions

ROUNDS = 5


def main() -> None:
    """The ideal is jobs × seconds / concurrency, from the first start to the last end."""
    defaults = WorkerOptions()
    with server() as running:
        short = [percent_of_ideal(running, 8_000, 100, 100, 0.05) for _ in range(ROUNDS)]
        long = [
            percent_of_ideal(running, 60, defaults.concurrency, defaults.prefetch, 2)
            for _ in range(3)
        ]
    value = statistics.median(short)
    report(
        "50 ms jobs at --concurrency 100 --prefetch 100",
        value,
        "% of the ideal",
        bar="≥ 97 %",
        met=value >= 97,
        samples=short,
    )
    value = statistics.median(long)
    report(
        f"2 s jobs at the defaults (--concurrency {defaults.concurrency} --prefetch {defaults.prefetch})",
        value,
        "% of the ideal",
        bar="≥ 98 %",
        met=value >= 98,
        samples=long,
    )


def percent_of_ideal(
    running: Server, jobs: int, concurrency: int, prefetch: int, sleep_seconds: float
) -> float:
    answer = drain_ours(running, jobs, concurrency, prefetch, sleep_seconds)
    return 100 * (jobs * sleep_seconds / concurrency) / float(answer["seconds"])


if __name__ == "__main__":
    main()
