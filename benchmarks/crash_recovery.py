"""kill -9 of workers at random moments, the site committing 0, 5 and 15 s late and answers lost: none lost, none twice."""

from __future__ import annotations

import os
import random
import signal
import sys
import time

from benchmarks.figures import report
from benchmarks.pipeline_scene import Scene, Verdict
from benchmarks.scratch import server
from runbook_lib import sandbox

ROUNDS = int(os.environ.get("ROUNDS", "105"))
SEED = int(os.environ.get("SEED", "7"))
LATE_SECONDS = (0, 5, 15)
WORKERS = 2
JOBS_PER_ROUND = 2


def main() -> None:
    """For each lateness: workers are killed at random moments while jobs come in; then the rest is worked off."""
    verdicts: dict[int, Verdict] = {}
    kills = 0
    recoveries: list[float] = []
    with server() as running, sandbox.acquire(running.home) as site:
        for late_seconds in LATE_SECONDS:
            site.control.clear_faults()
            site.control.clear_posts()
            scene = Scene(
                running.new_database(),
                site,
                running.home,
                RUNBOOK_SITE_PROCESSING_SECONDS=late_seconds + 2,
            )
            harm(scene, late_seconds)
            kills += kill_at_random(
                scene, ROUNDS // len(LATE_SECONDS), random.Random(SEED + late_seconds)
            )
            recoveries.append(recover(scene, late_seconds))
            verdicts[late_seconds] = scene.verdict()
            scene.end()
            print(f"{late_seconds} s late: {verdicts[late_seconds]}", file=sys.stderr)
    lost = sum(each.lost + each.unfinished for each in verdicts.values())
    doubled = sum(each.doubled for each in verdicts.values())
    wrong = sum(each.wrong_history for each in verdicts.values())
    samples = {str(late): vars(each) for late, each in verdicts.items()}
    report(
        "kill -9 of workers at random moments",
        kills,
        "kills",
        bar="≥ 200",
        met=kills >= 200,
        samples=samples,
    )
    report("jobs lost", lost, "jobs", bar="0", met=lost == 0, samples=samples)
    report("jobs published twice", doubled, "jobs", bar="0", met=doubled == 0, samples=samples)
    report("jobs with a wrong history", wrong, "jobs", bar="0", met=wrong == 0, samples=samples)
    report("time to work off what the last kill left", max(recoveries), "s", samples=recoveries)


def harm(scene: Scene, late_seconds: int) -> None:
    """A third of the drafts is committed late, a tenth of the answers is lost."""
    posts = {"method": "POST", "path": "/posts"}
    control = scene.sandbox.control
    if late_seconds:
        control.set_fault(
            "wordpress", "commit_delay", delay_seconds=late_seconds, probability=0.3, **posts
        )
    for how in ("status", "cut", "reset"):
        control.set_fault("wordpress", "answer_lost", how=how, probability=0.03, **posts)


def kill_at_random(scene: Scene, rounds: int, randomness: random.Random) -> int:
    for number in range(rounds):
        scene.add(JOBS_PER_ROUND, label=f"Round {number}")
        workers = [scene.start_worker() for _ in range(WORKERS)]
        # From the first moments of a start to well into the work.
        time.sleep(randomness.uniform(0.3, 3.0))
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
    return rounds * WORKERS


def recover(scene: Scene, late_seconds: int) -> float:
    begun = time.monotonic()
    scene.run_until_empty(timeout_seconds=600 + late_seconds)
    time.sleep(late_seconds + 1)  # whatever the site still holds back comes to light
    return time.monotonic() - begun


if __name__ == "__main__":
    main()
