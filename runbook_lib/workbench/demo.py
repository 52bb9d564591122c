"""The demo: example topics become posts in a sandbox, and a procedure reports on them.

Everything happens in a home of its own, with an embedded database and the sandbox. Nothing of the
caller's is read: neither their database, keys and site, nor their `.env`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runbook_lib.database import Database, open_database
from runbook_lib.database.statements import load
from runbook_lib.errors import EXIT_DONE, EXIT_NOT_WELL
from runbook_lib.pipeline.providers import Providers, resolve_providers
from runbook_lib.sandbox import SandboxControl
from runbook_lib.settings import (
    PROJECT_DIRECTORY,
    Settings,
    environment_without_callers,
    load_settings,
)
from runbook_lib.workbench.programs import ask, attend, worker_command

DEMO_HOME = PROJECT_DIRECTORY / ".runbook" / "demo"
TOPICS = PROJECT_DIRECTORY / "examples" / "topics.csv"
REPORT = "weekly/performance_review"
HEALTH = "daily/health_check"
FALLBACK_CATEGORY = "Uncategorized"
CONCURRENCY = 8
POSTS_SHOWN = 3

_SQL = load("workbench")


@dataclass
class Outcome:
    """What the demo did: jobs added now and before, what became of all of them, and the report.

    Of the `completed`, `published` can be seen by everybody; the others are drafts or in review, as
    their topics ask for.
    """

    added: int = 0
    duplicates: int = 0
    completed: int = 0
    published: int = 0
    error: int = 0
    waiting: int = 0
    posts: list[dict[str, Any]] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    health: dict[str, Any] = field(default_factory=dict)
    home: str = ""
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        ran = {self.report.get("status"), self.health.get("status")} == {"succeeded"}
        return EXIT_DONE if ran and not self.error and not self.waiting else EXIT_NOT_WELL


def enter_demo(home: Path) -> Settings:
    """Makes this process, and what it starts, know nothing of the caller's; returns its settings."""
    environment = environment_without_callers(home)
    # Whatever category somebody's own topics name, trying them out succeeds.
    environment["RUNBOOK_FALLBACK_CATEGORY"] = FALLBACK_CATEGORY
    os.environ.clear()
    os.environ.update(environment)
    load_settings.cache_clear()
    return load_settings()


class Demo:
    """Holds the demo's database and sandbox while its steps run; a step shows its name and seconds."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._begun = time.monotonic()

    @contextmanager
    def place(self) -> Iterator[tuple[Database, Providers]]:
        """The database, up and migrated, and the sandbox."""
        with self._step("database"):
            database = open_database(self._settings, "runbook demo")
        with database:
            with self._step("sandbox in the place of OpenAI and WordPress"):
                providers = resolve_providers(self._settings)
            with providers:
                yield database, providers

    def publish_and_report(self, database: Database, providers: Providers) -> Outcome:
        """Adds the example topics, lets a worker publish them, runs the weekly report and a health check."""
        outcome = Outcome(home=str(self._settings.runbook_home))
        self._add_topics(outcome)
        _prepare_site(database, providers)
        self._publish()
        self._count(database, outcome)
        self._report(outcome)
        outcome.seconds = round(time.monotonic() - self._begun, 1)
        return outcome

    def _add_topics(self, outcome: Outcome) -> None:
        with self._step("runbook jobs add examples/topics.csv"):
            answer = ask("jobs", "add", str(TOPICS))
        outcome.added, outcome.duplicates = answer["added"], answer["duplicates"]
        if outcome.duplicates:
            say(f"     {outcome.duplicates} topics were here already and are not published again.")

    def _publish(self) -> None:
        arguments = ("--until-empty", "--concurrency", str(CONCURRENCY))
        with self._step(f"python worker.py {' '.join(arguments)}"):
            attend(worker_command(*arguments), output=sys.stderr)

    def _count(self, database: Database, outcome: Outcome) -> None:
        with database.transaction(read_only=True) as transaction:
            counts = transaction.row(_SQL["count_jobs"])
            posts = transaction.rows(_SQL["newest_posts"], count=POSTS_SHOWN)
        assert counts is not None
        for name, count in counts._asdict().items():
            setattr(outcome, name, count)
        outcome.posts = [post._asdict() for post in posts]

    def _report(self, outcome: Outcome) -> None:
        with self._step(f"runbook run {REPORT}"):
            outcome.report = ask("run", REPORT)
        with self._step(f"runbook run {HEALTH}"):
            outcome.health = ask("run", HEALTH)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        say(f"  {name} …")
        begun = time.monotonic()
        yield
        say(f"     {time.monotonic() - begun:.1f} s")


def _prepare_site(database: Database, providers: Providers) -> None:
    """Makes the categories of the topics at the sandbox's site, as an editor does at a real one."""
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows(_SQL["wanted_categories"])
    SandboxControl(providers.wordpress.url).ensure_categories(row.category for row in rows)


def say(text: str) -> None:
    """Progress goes to standard error, so that `--json` answers on standard output alone."""
    print(text, file=sys.stderr, flush=True)
