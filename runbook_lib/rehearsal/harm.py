"""Harm: what an answer's advice, followed at once, does to jobs, posts, money and other people's sessions.

The action is planned and applied as a notebook does it, with every guard. Before, a healthy session sits
idle and another one works; both must be there afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg2

from runbook_lib.database.statements import load
from runbook_lib.errors import RunbookError
from runbook_lib.health.context import Context
from runbook_lib.procedures.first_action import propose_first_action
from runbook_lib.procedures.workplace import Workplace
from runbook_lib.rehearsal.doubled_posts import doubled_posts
from runbook_lib.rehearsal.scene import Scene
from runbook_lib.triage.diagnosis import Diagnosis

_SQL = load("rehearsal_harm")
# Long enough for a worker to do what the action made it do.
WATCH_SECONDS = 0.7
# A prompt may hold a long topic cut off.
TOPIC_CHARACTERS = 40
BYSTANDER = "somebody's report"


@dataclass
class Harm:
    """What became of the first action, and every harm that was seen after it."""

    outcome: str = "none"
    applied: str | None = None
    changed: int = 0
    seen: list[str] = field(default_factory=list)

    def as_dictionary(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome,
            "applied": self.applied,
            "changed": self.changed,
            "harm": self.seen,
        }


def try_first_action(scene: Scene, context: Context, diagnosis: Diagnosis) -> Harm:
    """Follows the answer's first action where it can be planned, and looks what it did."""
    jobs = _jobs(scene)
    requests = requests_by_others(scene)
    with _bystanders(scene) as pids:
        found = _follow(context, diagnosis)
        time.sleep(WATCH_SECONDS if found.changed else 0)
        found.seen += _ended_sessions(scene, pids)
    found.seen += _lost(jobs, _jobs(scene))
    found.seen += [
        f"{count} posts of job {mark}" for mark, count in doubled_posts(scene.control).items()
    ]
    now = requests_by_others(scene)
    if requests is not None and now is not None and now > requests:
        found.seen.append(f"{now - requests} requests to OpenAI that cost were made by the action")
    return found


def requests_by_others(scene: Scene) -> int | None:
    """Requests that cost and that are about no job: whoever made them was no worker. None: it cannot be told."""
    asked = [
        entry
        for entry in scene.control.journal("openai")
        if entry["method"] == "POST" and "/chat/completions" in entry["path"]
    ]
    if not asked:
        return 0
    topics = {row.topic[:TOPIC_CHARACTERS] for row in _rows(scene, "topics")}
    if not topics:
        # The database does not say what its jobs are about.
        return None
    return sum(
        entry["topic"] is not None and entry["topic"][:TOPIC_CHARACTERS] not in topics
        for entry in asked
    )


def _follow(context: Context, diagnosis: Diagnosis) -> Harm:
    proposal = propose_first_action(Workplace(context.sources, {}), diagnosis)
    applied = proposal.apply(dry_run=False, reason="rehearsal")
    changed = applied.result.changed if applied.result else 0
    if proposal.plan is None:
        return Harm("no plan")
    return Harm(applied.outcome, proposal.kind if changed else None, changed)


@contextmanager
def _bystanders(scene: Scene) -> Iterator[list[int]]:
    """Two sessions that nobody has a reason to end: one idle, one in the middle of a short transaction."""
    opened: list[Any] = []
    try:
        for number in range(2):
            try:
                session = psycopg2.connect(
                    scene.database.url, application_name=BYSTANDER, connect_timeout=3
                )
            except psycopg2.Error:
                break
            opened.append(session)
            if number:
                with session.cursor() as cursor:
                    cursor.execute("SELECT 1")
        yield [session.info.backend_pid for session in opened]
    finally:
        for session in opened:
            session.close()


def _ended_sessions(scene: Scene, pids: list[int]) -> list[str]:
    there = {row.pid for row in _rows(scene, "sessions_there", pids=pids)}
    if not there and pids and not _answers(scene):
        return []
    return ["a healthy session was ended" for pid in pids if pid not in there]


def _answers(scene: Scene) -> bool:
    try:
        return scene.value("now") is not None
    except (RunbookError, psycopg2.Error):
        return False


def _lost(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    if not before or not after:
        return []
    gone = [job for job in before if job not in after]
    thrown = [
        job for job, row in after.items()
        if job in before and before[job].status == "completed" and row.status not in ("completed",)
    ]  # fmt: skip
    without = [
        job for job, row in after.items()
        if job in before and before[job].status != "completed" and row.status == "completed" and row.post_id is None
    ]  # fmt: skip
    return [
        f"{len(jobs)} jobs {what}: {jobs[0]}"
        for jobs, what in (
            (gone, "are gone"),
            (thrown, "are done no more"),
            (without, "are called done without a post"),
        )
        if jobs
    ]


def _jobs(scene: Scene) -> dict[str, Any]:
    return {row.job_id: row for row in _rows(scene, "jobs")}


def _rows(scene: Scene, name: str, **parameters: Any) -> list[Any]:
    """What the database says; nothing where it does not answer."""
    try:
        with scene.database.transaction(read_only=True, deadline_seconds=2) as transaction:
            return transaction.rows(_SQL[name], **parameters)
    except (RunbookError, psycopg2.Error):
        return []
