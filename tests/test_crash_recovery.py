"""Whatever is killed, and whenever: no job is lost and no post is published twice."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.pipeline_scene import Scene, wait_until
from runbook_lib import sandbox
from runbook_lib.database import Database

STEPS = [
    "after claim",
    "before write",
    "after write",
    "before StoreArticle",
    "after StoreArticle",
    "before RequestDraft",
    "after RequestDraft",
    "before create_draft",
    "after create_draft",
    "before StoreDraft",
    "after StoreDraft",
    "before publish",
    "after publish",
    "before finish",
]


@pytest.fixture
def scene(database: Database, home: Path) -> Iterator[Scene]:
    home.mkdir()
    with sandbox.acquire(home) as running:
        scene = Scene(database, running, home)
        yield scene
        scene.end()


def test_kill_9_at_every_step_loses_and_doubles_nothing(scene: Scene, home: Path) -> None:
    for step in STEPS:
        scene.add(1, label=step)
        died = home / f"died {step}"
        worker = scene.start_worker(program="tests/crashing_worker.py", DIE_AT=step, DIED=str(died))
        assert worker.wait(60) == -signal.SIGKILL, f"the worker did not come to {step}"
    scene.run_until_empty()
    verdict = scene.verdict()
    assert verdict.holds, verdict
    assert verdict.charged == 0, "a crash was charged to a job"


def test_lost_answers_and_late_commits_double_nothing(scene: Scene) -> None:
    control = scene.sandbox.control
    posts = {"method": "POST", "path": "/posts"}
    for how in ("status", "cut", "reset"):
        control.set_fault("wordpress", "answer_lost", how=how, count=2, **posts)
    control.set_fault(
        "wordpress", "commit_delay", delay_seconds=1.5, answer="reset", count=2, **posts
    )
    scene.add(12)
    scene.run_until_empty()
    verdict = scene.verdict()
    assert verdict.holds, verdict
    assert all(fault["struck"] for fault in control.faults()), "a fault struck nobody"


@pytest.mark.long
def test_random_kills_while_the_site_commits_late(scene: Scene) -> None:
    randomness = random.Random(7)
    scene.sandbox.control.set_fault(
        "wordpress", "commit_delay", delay_seconds=1, probability=0.3, method="POST", path="/posts"
    )
    scene.add(30)
    for _ in range(6):
        worker = scene.start_worker()
        time.sleep(randomness.uniform(0.8, 2.0))
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    scene.run_until_empty()
    assert scene.verdict().holds, scene.verdict()


def test_a_frozen_worker_overwrites_nothing_when_it_wakes(scene: Scene) -> None:
    """SIGSTOP past the lease, another worker takes the jobs, SIGCONT."""
    scene.sandbox.control.set_fault("openai", "latency", delay_seconds=0.5)
    scene.add(4)
    frozen = scene.start_worker()
    wait_until(
        lambda: (
            scene.database.connect
            and _value(scene, "SELECT count(*) FROM content_jobs WHERE status = 'processing'") == 4
        )
    )
    os.kill(frozen.pid, signal.SIGSTOP)
    scene.run_until_empty()
    before = _value(
        scene, "SELECT md5(string_agg(job::text, '' ORDER BY job_id)) FROM content_jobs AS job"
    )
    os.kill(frozen.pid, signal.SIGCONT)
    time.sleep(2)
    os.kill(frozen.pid, signal.SIGTERM)
    frozen.wait(30)
    after = _value(
        scene, "SELECT md5(string_agg(job::text, '' ORDER BY job_id)) FROM content_jobs AS job"
    )
    assert before == after, "the late writer overwrote a row"
    assert scene.verdict().holds, scene.verdict()


def _value(scene: Scene, statement: str) -> object:
    with scene.database.transaction() as transaction:
        return transaction.value(statement)
