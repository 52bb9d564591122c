"""The database killed and restarted under load: none lost, none twice, working within 10 s, nothing charged."""

from __future__ import annotations

import os
import signal
import time

import psutil
import psycopg2

from benchmarks.figures import report
from benchmarks.pipeline_scene import Scene, wait_until
from benchmarks.scratch import Server, server
from runbook_lib import sandbox

TIMES = int(os.environ.get("TIMES", "20"))


def main() -> None:
    """kill -9 of the postmaster while two workers run; the supervisor starts it again."""
    seconds: list[float] = []
    with server() as running, sandbox.acquire(running.home) as site:
        site.control.set_fault("openai", "latency", delay_seconds=0.2)
        scene = Scene(running.new_database(), site, running.home)
        workers = [scene.start_worker() for _ in range(2)]
        for number in range(TIMES):
            scene.add(40, label=f"Round {number}")
            done = scene.completed()
            wait_until(lambda done=done: scene.completed() > done)
            seconds.append(kill_and_wait(running, scene))
        scene_is_done(scene)
        assert all(worker.poll() is None for worker in workers), "a worker ended"
        verdict = scene.verdict()
        scene.end()
    report("database killed under load", TIMES, "times", bar="20", met=TIMES >= 20)
    worst = max(seconds)
    report(
        "working again after the database was back, worst",
        worst,
        "s",
        bar="≤ 10 s",
        met=worst <= 10,
        samples=seconds,
    )
    report(
        "jobs lost",
        verdict.lost + verdict.unfinished,
        "jobs",
        bar="0",
        met=verdict.lost + verdict.unfinished == 0,
    )
    report("jobs published twice", verdict.doubled, "jobs", bar="0", met=verdict.doubled == 0)
    report(
        "failures charged to jobs",
        verdict.charged,
        "failures",
        bar="0",
        met=verdict.charged == 0,
        samples=vars(verdict),
    )


def kill_and_wait(running: Server, scene: Scene) -> float:
    """Seconds from the first successful connection to the next completed job."""
    before = scene.completed()
    os.kill(postmaster(running).pid, signal.SIGKILL)
    wait_until(lambda: not answers(running), 10)
    wait_until(lambda: answers(running), 300)  # recovery flushes every file first
    back = time.monotonic()
    wait_until(lambda: scene.completed() > before, 120)
    return time.monotonic() - back


def postmaster(running: Server) -> psutil.Process:
    """The server's first process: the one of its data folder that has no postgres above it."""
    found = [
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] == "postgres"
        and str(running.home) in " ".join(process.info["cmdline"] or [])
    ]
    assert len(found) == 1, f"{len(found)} postmasters of {running.home}"
    return found[0]


def answers(running: Server) -> bool:
    try:
        psycopg2.connect(running.url, connect_timeout=2).close()
    except psycopg2.OperationalError:
        return False
    return True


def scene_is_done(scene: Scene) -> None:
    wait_until(lambda: scene.unfinished() == 0, 300)


if __name__ == "__main__":
    main()
