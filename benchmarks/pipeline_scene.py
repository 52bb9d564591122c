"""A whole pipeline to be harmed: a database, the sandbox, and real worker processes that get killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.database.connection import Database
from runbook_lib.sandbox import Sandbox
from runbook_lib.settings import PROJECT_DIRECTORY, environment_without_callers

_MARKER = re.compile(r"runbook-job:([0-9a-f-]{36})")


@dataclass(frozen=True)
class Verdict:
    """What became of all jobs, checked against the site and the history, not against the end state alone."""

    jobs: int
    lost: int  # jobs without a published post
    doubled: int  # jobs with more than one
    unfinished: int  # jobs that are not completed
    wrong_history: int  # jobs whose attempts do not have one run row each
    charged: int  # failures charged to jobs
    stray_drafts: int

    @property
    def holds(self) -> bool:
        return not (self.lost or self.doubled or self.unfinished or self.wrong_history)


class Scene:
    """One database and one sandbox with workers of short leases."""

    def __init__(
        self, database: Database, sandbox: Sandbox, home: Path, **settings: float | str
    ) -> None:
        self.database = database
        self.sandbox = sandbox
        self.home = home
        self._settings = {
            "RUNBOOK_LEASE_SECONDS": 2,
            "RUNBOOK_SITE_PROCESSING_SECONDS": 2,
            "RUNBOOK_SWEEP_INTERVAL_SECONDS": 0.2,
            "RUNBOOK_RETRY_BASE_SECONDS": 0.2,
            "RUNBOOK_RETRY_MAXIMUM_SECONDS": 1,
            "RUNBOOK_QUARANTINE_AFTER_LOST_ATTEMPTS": 1000,
            "RUNBOOK_WORDPRESS_DEADLINE_SECONDS": 5,
            **settings,
        }
        self._processes: list[subprocess.Popen[bytes]] = []

    def add(self, count: int, label: str = "Topic") -> None:
        with self.database.transaction() as transaction:
            transaction.run(
                "INSERT INTO content_jobs (topic, max_retries) "
                "SELECT %(label)s || ' ' || number || ' about gardens', 1000 FROM generate_series(1, %(count)s) AS number",
                label=label,
                count=count,
            )

    def start_worker(
        self, *arguments: str, program: str = "worker.py", **environment: str
    ) -> subprocess.Popen[bytes]:
        """A worker process in a group of its own; its log goes to `home/worker.log`."""
        given = {name: str(value) for name, value in self._settings.items()} | environment
        with (self.home / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(PROJECT_DIRECTORY / program), *arguments],
                env={
                    **environment_without_callers(self.home),
                    "DATABASE_URL": self.database.url,
                    **given,
                },
                cwd=PROJECT_DIRECTORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def run_until_empty(self, timeout_seconds: float = 120) -> None:
        """Runs workers until every job is completed, whatever their retries wait for."""
        until = time.monotonic() + timeout_seconds
        while self.unfinished():
            assert time.monotonic() < until, (
                f"{self.unfinished()} jobs were not completed within {timeout_seconds:g} s"
            )
            worker = self.start_worker("--until-empty")
            worker.wait(timeout=timeout_seconds)
            time.sleep(0.2)

    def unfinished(self) -> int:
        with self.database.transaction() as transaction:
            return int(
                transaction.value("SELECT count(*) FROM content_jobs WHERE status <> 'completed'")
            )

    def completed(self) -> int:
        with self.database.transaction() as transaction:
            return int(
                transaction.value("SELECT count(*) FROM content_jobs WHERE status = 'completed'")
            )

    def end(self) -> None:
        """Ends what it started."""
        for process in self._processes:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            process.wait()

    def verdict(self) -> Verdict:
        """Compares every job with the site's posts and with its attempts' rows."""
        with self.database.transaction() as transaction:
            jobs = {row.job_id: row for row in transaction.rows("SELECT * FROM content_jobs")}
            runs = Counter(
                (row.job_id, row.attempt)
                for row in transaction.rows("SELECT job_id, attempt FROM job_runs")
            )
        published, drafts = self._posts()
        wrong = [
            job_id
            for job_id, job in jobs.items()
            if any(runs[job_id, number] != 1 for number in range(1, job.attempt + 1))
        ]
        return Verdict(
            jobs=len(jobs),
            lost=sum(published[str(job_id)] == 0 for job_id in jobs),
            doubled=sum(published[str(job_id)] > 1 for job_id in jobs),
            unfinished=sum(job.status != "completed" for job in jobs.values()),
            wrong_history=len(wrong),
            charged=sum(job.retry_count for job in jobs.values()),
            stray_drafts=drafts,
        )

    def _posts(self) -> tuple[Counter[str], int]:
        published: Counter[str] = Counter()
        drafts = after = 0
        while page := self.sandbox.control.posts(after_id=after):
            for post in page:
                marker = _MARKER.search(post["content"])
                if marker and post["status"] == "publish":
                    published[marker[1]] += 1
                drafts += post["status"] == "draft"
            after = max(post["post_id"] for post in page)
        return published, drafts


def wait_until(condition: Callable[[], Any], timeout_seconds: float = 60) -> None:
    """Waits for something that another process does."""
    until = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < until, f"it did not happen within {timeout_seconds:g} s"
        time.sleep(0.02)
