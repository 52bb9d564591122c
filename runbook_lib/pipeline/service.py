"""Puts a worker together from the settings: database, providers, writer, publisher."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from runbook_lib.database import Database, open_own_pipeline
from runbook_lib.pipeline.attempt import Attempt, Completed
from runbook_lib.pipeline.model import Job
from runbook_lib.pipeline.options import WorkerOptions
from runbook_lib.pipeline.process import Process
from runbook_lib.pipeline.providers import Providers, resolve_providers
from runbook_lib.pipeline.reporting import JsonReporter, Reporter, TerminalReporter
from runbook_lib.pipeline.worker import Worker
from runbook_lib.settings import Settings

APPLICATION_NAME = "runbook-worker"
RecentSketches = Callable[[Job], Iterable[tuple[int, ...]]]


def run_worker(
    settings: Settings,
    *,
    concurrency: int | None = None,
    prefetch: int | None = None,
    until_empty: bool = False,
) -> int:
    """Runs a worker until it is stopped or done; returns its exit status.

    Raises `ConfigurationError` when a provider is half configured, and `CouldNotBeDone` when the
    database or the sandbox cannot be had at the start; later it waits for them.
    """
    settings.sandboxed()
    options = WorkerOptions.of(
        settings,
        concurrency=concurrency,
        prefetch=prefetch,
        until_empty=until_empty,
        settings_digest=settings_digest(settings),
    )
    with (
        open_own_pipeline(settings, APPLICATION_NAME) as database,
        resolve_providers(settings) as providers,
    ):
        print(providers.describe(), file=sys.stderr)
        return make_worker(settings, database, providers, options, make_reporter()).run()


def make_worker(
    settings: Settings,
    database: Database,
    providers: Providers,
    options: WorkerOptions,
    reporter: Reporter,
) -> Worker:
    """A worker whose clients are made in the background: importing them takes longer than everything
    else at its start, and claiming does not wait for it."""
    maker = ThreadPoolExecutor(1, thread_name_prefix="clients")
    process: Future[Process] = maker.submit(
        lambda: make_process(
            settings,
            providers,
            lambda job: worker.recent_sketches(job),
            connections=options.concurrency,
        )
    )
    maker.shutdown(wait=False)

    def handle(attempt: Attempt) -> Completed:
        return process.result()(attempt)

    worker = Worker(database, handle, options, reporter, credentials=providers.credentials)
    return worker


def make_process(
    settings: Settings,
    providers: Providers,
    recent_sketches: RecentSketches,
    *,
    connections: int,
) -> Process:
    """The steps of a job with their clients; `connections` is how many jobs run at a time."""
    from runbook_lib.pipeline.publishing import Publisher
    from runbook_lib.pipeline.wordpress import WordPressClient
    from runbook_lib.pipeline.writer import ArticleWriter

    writer = ArticleWriter.of(providers.openai, settings, connections=connections)
    writer.warm_up()
    site = WordPressClient(
        providers.wordpress.url,
        providers.wordpress.user,
        providers.wordpress.app_password,
        deadline_seconds=settings.runbook_wordpress_deadline_seconds,
        connections=connections,
    )
    publisher = Publisher(
        site,
        post_status=settings.runbook_post_status,
        fallback_category=settings.runbook_fallback_category,
    )
    return Process(
        writer,
        publisher,
        recent_sketches,
        site_processing_seconds=settings.runbook_site_processing_seconds,
    )


def make_reporter() -> Reporter:
    """A live line on a terminal, JSON lines elsewhere."""
    return TerminalReporter() if sys.stderr.isatty() and sys.stdout.isatty() else JsonReporter()


def settings_digest(settings: Settings) -> str:
    """A short hash over the settings without their secrets, so that workers that differ are seen."""
    shown = settings.model_dump_json(exclude={"runbook_home", "runbook_actor"})
    return hashlib.sha256(shown.encode()).hexdigest()[:12]
