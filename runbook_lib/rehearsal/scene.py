"""A disposable system: a database with a past, the sandbox as providers, workers that really work."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import SecretStr

from runbook_lib.database import Database
from runbook_lib.database.statements import Statement, load
from runbook_lib.errors import CouldNotBeDone
from runbook_lib.pipeline import service
from runbook_lib.pipeline.options import WorkerOptions
from runbook_lib.pipeline.providers import resolve_providers
from runbook_lib.pipeline.reporting import Reporter
from runbook_lib.rehearsal.server import SceneServer
from runbook_lib.sandbox import SandboxControl
from runbook_lib.settings import PROJECT_DIRECTORY, Settings, environment_without_callers

_SQL = load("rehearsal")
_WORKERS_SQL = load("rehearsal_workers")
LOOK_SECONDS = 0.05
PLANTS = (
    "roses", "apple trees", "ferns", "tomatoes", "lavender", "old hedges", "water lilies", "cabbage", "ivy",
    "strawberries", "tulips", "a dry lawn", "oak saplings",
)  # fmt: skip
WORK = (
    "prune", "water", "sow", "sell", "photograph", "harvest", "protect", "draw", "breed", "move", "cook", "describe",
)  # fmt: skip
# So that a fault and its repair are seen within moments instead of minutes.
QUICK: dict[str, Any] = {
    "runbook_site_processing_seconds": 0.5, "runbook_lease_seconds": 5, "runbook_sweep_interval_seconds": 0.1,
    "runbook_idle_poll_seconds": 0.1, "runbook_retry_base_seconds": 0.2, "runbook_retry_maximum_seconds": 0.5,
    "runbook_wordpress_deadline_seconds": 4, "runbook_openai_deadline_seconds": 4, "runbook_fallback_category": None,
}  # fmt: skip


@dataclass
class Scene:
    """One system. `settings` are those of its workers and of whoever looks at it.

    `server` is the scene's own, where its fault strikes one. `database` is the way in for whoever stages and
    for oracles: no proxy, no limit of a role.
    """

    database: Database
    settings: Settings
    control: SandboxControl
    severity: float = 1.0
    server: SceneServer | None = None
    seed: int = 0
    # With what triage looks, where that is not what the workers have.
    looking: Settings = field(init=False)
    _added: int = 0
    begun: datetime = field(init=False)
    # What the processes of its workers get beside the settings.
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.looking = self.settings
        self.begun = self.value("now")

    def chance(self, what: str) -> random.Random:
        """What varies from seed to seed, and is the same each time with one of them."""
        return random.Random(f"{what} {self.seed}")

    def move(self, **settings: Any) -> None:
        """Other settings for the workers that start from now on, and for whoever looks."""
        self.settings = self.settings.model_copy(update=settings)
        self.looking = self.looking.model_copy(update=settings)

    @property
    def workers_url(self) -> str:
        """With which its workers log in at the database."""
        given = self.settings.database_url
        return given.get_secret_value() if given else self.database.url

    # what is there

    def value(self, name: str, **parameters: Any) -> Any:
        return self.ask(_SQL[name], **parameters)

    def ask(self, statement: Statement, **parameters: Any) -> Any:
        """The first value of a statement's answer."""
        with self.database.transaction(read_only=True) as transaction:
            return transaction.value(statement, **parameters)

    def asked(self, statement: Statement, **parameters: Any) -> Any:
        """The first value of a question of a fault's own."""
        with self.database.transaction() as transaction:
            return transaction.value(statement, **parameters)

    def asked_row(self, statement: Statement, **parameters: Any) -> Any:
        """The first row of it."""
        with self.database.transaction(read_only=True) as transaction:
            return transaction.row(statement, **parameters)

    def counts(self) -> Any:
        return self.asked_row(_SQL["counts"])

    def failed_as(self, error_class: str) -> int:
        return int(self.value("failed_as", error_class=error_class, since=self.begun))

    def failures(self) -> int:
        """Attempts that failed since the scene began."""
        return int(self.value("failures_since", since=self.begun))

    def completed(self) -> int:
        """Jobs that completed since the scene began."""
        return int(self.value("completed_since", since=self.begun))

    def execute(self, statement: Statement, **parameters: Any) -> None:
        """A statement of a fault's staging; only ever on a disposable database."""
        with self.database.transaction() as transaction:
            transaction.run(statement, **parameters)

    # what happens

    def past(
        self,
        count: int = 60,
        hours: float = 6,
        *,
        newest_seconds: float = 60,
        write_seconds: float = 1.0,
        noise_percent: float = 3.0,
    ) -> None:
        """Attempts of the last hours that went well, with a few that did not and were tried again."""
        with self.database.transaction() as transaction:
            transaction.run(
                _SQL["make_past"],
                count=count,
                newest_seconds=newest_seconds,
                span_seconds=hours * 3600,
                write_seconds=write_seconds,
            )
            transaction.run(_SQL["make_noise"], percent=noise_percent)

    def past_runs(
        self, worker: str, count: int, seconds: float, *, error_class: str | None = None,
        job_status: str = "completed", newest_seconds: float = 0,
    ) -> None:  # fmt: skip
        """So many attempts of a worker, so many seconds apart: completed, or failed with a class."""
        self.execute(
            _WORKERS_SQL["past_runs"], worker=worker, count=count, seconds=seconds, error_class=error_class,
            job_status=job_status, newest_seconds=newest_seconds,
        )  # fmt: skip

    def past_worker(
        self, worker: str, *, host: str = "other", pid: int = 1, version: str = "0.1", settings_digest: str = "a",
        started_seconds_ago: float = 3600, heard_seconds_ago: float = 0, in_flight: int = 0,
        clock_offset_seconds: float = 0,
    ) -> None:  # fmt: skip
        """A worker of the past, of which only its row is there."""
        self.execute(
            _WORKERS_SQL["add_worker"], worker=worker, host=host, pid=pid, version=version, settings_digest=settings_digest,
            started_seconds_ago=started_seconds_ago, heard_seconds_ago=heard_seconds_ago, in_flight=in_flight,
            clock_offset_seconds=clock_offset_seconds,
        )  # fmt: skip

    def stop_past_worker(self, worker: str) -> None:
        """That worker stopped in order, at its last sign of life."""
        self.execute(_WORKERS_SQL["stop_worker"], worker=worker)

    def add(
        self, count: int = 6, *, topic: str | None = None, category: str = "News",
        deadline_seconds: float | None = None,
    ) -> None:  # fmt: skip
        """Jobs that can be claimed at once, each about something else: articles too alike are refused."""
        topics = []
        for _ in range(count):
            self._added += 1
            plant, work = (
                PLANTS[self._added % len(PLANTS)],
                WORK[self._added // len(PLANTS) % len(WORK)],
            )
            topics.append(f"{topic or 'How to'} {work} {plant} {self._added}")
        with self.database.transaction(deadline_seconds=deadline_seconds) as transaction:
            transaction.run(_SQL["add_jobs"], topics=topics, category=category)

    @contextmanager
    def working(self, concurrency: int = 3, **given: Any) -> Iterator[Any]:
        """A worker in a thread of this process, stopped at the end."""
        settings = self.settings.model_copy(update=given)
        options = WorkerOptions.of(
            settings, concurrency=concurrency, settings_digest=service.settings_digest(settings)
        )
        with resolve_providers(settings) as providers:
            # As a process of its own has it: sessions are told apart by name.
            database = Database(self.workers_url, application_name=service.APPLICATION_NAME)
            worker = service.make_worker(settings, database, providers, options, Reporter())
            thread = threading.Thread(target=lambda: worker.run(install_signals=False), daemon=True)
            thread.start()
            try:
                yield worker
            finally:
                worker.stop()
                worker.stop()
                thread.join(20)

    @contextmanager
    def worker_process(self, **given: str) -> Iterator[subprocess.Popen[bytes]]:
        """A worker as a process of its own, killed at the end if it still runs."""
        environment = {**environment_of(self.settings), **self.environment, **given}
        process = subprocess.Popen(
            [sys.executable, str(PROJECT_DIRECTORY / "worker.py"), "--concurrency", "3"],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def until(self, holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Waits for something to happen. Raises `CouldNotBeDone` when it does not."""
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                raise CouldNotBeDone(f"This did not happen within {seconds:g} s: {what}.")
            time.sleep(LOOK_SECONDS)


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment for a process that is to have these settings, and nothing of the caller's."""
    return {**environment_without_callers(settings.runbook_home), **as_environment(settings)}


def as_environment(settings: Settings) -> dict[str, str]:
    """What was set, as variables, secrets included."""
    given = {}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if value is not None:
            told = value.get_secret_value() if isinstance(value, SecretStr) else value
            given[name.upper()] = str(told)
    return given
