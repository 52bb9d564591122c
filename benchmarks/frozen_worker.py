"""SIGSTOP past the lease, another worker takes the jobs, SIGCONT: nothing published twice, no row overwritten."""

from __future__ import annotations

import os
import random
import signal
import time

from benchmarks.figures import report
from benchmarks.pipeline_scene import Scene, wait_until
from benchmarks.scratch import server
from runbook_lib import sandbox

TIMES = int(os.environ.get("TIMES", "50"))
JOBS = 4
ROWS = "SELECT md5(string_agg(job::text, '' ORDER BY job_id)) FROM content_jobs AS job"


def main() -> None:
    """The worker is frozen at a random moment of its jobs, with a lease of 1 s."""
    overwritten = 0
    randomness = random.Random(11)
    with server() as running, sandbox.acquire(running.home) as site:
        site.control.set_fault("openai", "latency", delay_seconds=0.3)
        site.control.set_fault("wordpress", "latency", delay_seconds=0.05)
        scene = Scene(
            running.new_database(),
            site,
            running.home,
            RUNBOOK_LEASE_SECONDS=1,
            RUNBOOK_SITE_PROCESSING_SECONDS=1,
        )
        for number in range(TIMES):
            overwritten += freeze(scene, number, randomness)
        verdict = scene.verdict()
        scene.end()
    report("SIGSTOP past the lease, then SIGCONT", TIMES, "times", bar="50", met=TIMES >= 50)
    report(
        "jobs published twice",
        verdict.doubled,
        "jobs",
        bar="0",
        met=verdict.doubled == 0,
        samples=vars(verdict),
    )
    report(
        "rounds in which a row was overwritten",
        overwritten,
        "rounds",
        bar="0",
        met=overwritten == 0,
    )
    report("jobs lost", verdict.lost, "jobs", bar="0", met=verdict.lost == 0)


def freeze(scene: Scene, number: int, randomness: random.Random) -> bool:
    """One round; True when the woken worker changed a row."""
    scene.add(JOBS, label=f"Round {number}")
    frozen = scene.start_worker()
    wait_until(
        lambda: _value(scene, "SELECT count(*) FROM content_jobs WHERE status = 'processing'")
    )
    time.sleep(randomness.uniform(0, 0.8))
    os.kill(frozen.pid, signal.SIGSTOP)
    scene.run_until_empty()
    before = _value(scene, ROWS)
    os.kill(frozen.pid, signal.SIGCONT)
    time.sleep(1)
    os.kill(frozen.pid, signal.SIGKILL)
    frozen.wait()
    return _value(scene, ROWS) != before


def _value(scene: Scene, statement: str) -> object:
    with scene.database.transaction() as transaction:
        return transaction.value(statement)


if __name__ == "__main__":
    main()
