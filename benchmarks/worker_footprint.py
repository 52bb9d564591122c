"""A worker process: memory at concurrency 100 while it writes and publishes, and seconds from start to first claim."""

from __future__ import annotations

import statistics
import time

import psutil

from benchmarks.figures import report
from benchmarks.pipeline_scene import Scene, wait_until
from benchmarks.scratch import server
from runbook_lib import sandbox

STARTS = 7
JOBS = 1_000


def main() -> None:
    """The real worker with both clients; a start is from `exec` to the claim's row."""
    with server() as running, sandbox.acquire(running.home) as site:
        seconds = [
            start_to_claim(Scene(running.new_database(), site, running.home)) for _ in range(STARTS)
        ]
        site.control.set_fault("openai", "latency", delay_seconds=1)
        megabytes = peak_memory(Scene(running.new_database(), site, running.home))
    value = statistics.median(seconds)
    report("worker, start to first claim", value, "s", bar="≤ 2 s", met=value <= 2, samples=seconds)
    report(
        f"worker at --concurrency 100, {JOBS} jobs, peak resident memory",
        megabytes,
        "MB",
        bar="≤ 150 MB",
        met=megabytes <= 150,
    )


def start_to_claim(scene: Scene) -> float:
    scene.add(1)
    begun = time.time()
    worker = scene.start_worker("--until-empty")
    worker.wait(60)
    with scene.database.transaction() as transaction:
        claimed = transaction.value(
            "SELECT extract(epoch FROM started_at)::float8 FROM content_jobs"
        )
    return float(claimed) - begun


def peak_memory(scene: Scene) -> float:
    scene.add(JOBS)
    worker = scene.start_worker("--concurrency", "100")
    process = psutil.Process(worker.pid)
    peak = 0.0

    def done() -> bool:
        nonlocal peak
        peak = max(peak, process.memory_info().rss / 1e6)
        return scene.unfinished() == 0

    try:
        wait_until(done, 300)
    finally:
        scene.end()
    return peak


if __name__ == "__main__":
    main()
