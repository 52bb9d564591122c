"""Each dependency refused, reset, stalled, dripping, black-holed: every call ends within its deadline + 1 s."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2

from benchmarks.figures import report
from benchmarks.scratch import server
from runbook_lib import sandbox
from runbook_lib.database.connection import Database
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import RunbookError
from runbook_lib.pipeline.model import Job
from runbook_lib.pipeline.providers import OpenAIProvider
from runbook_lib.pipeline.wordpress import WordPressClient
from runbook_lib.pipeline.writer import ArticleWriter
from runbook_lib.sandbox.proxy import NetworkProxy
from runbook_lib.settings import Settings

DEADLINE_SECONDS = 2.0
FAULTS = ("refuse", "reset", "stall", "drip", "black_hole", "one_way")
JOB = Job("0" * 8 + "-0000-7000-8000-000000000000", 1, "write", "Garden tools for small balconies", None, [], None, None, None, 100, 0, 5, 0, None, None, None, datetime.now(UTC))  # fmt: skip


def main() -> None:
    """Calls on new and on kept-open connections, through a proxy that is switched while they are open."""
    with server() as running, sandbox.acquire(running.home) as site:
        measure("PostgreSQL", running.url, database_calls)
        measure("OpenAI", site.url, lambda url: openai_calls(url, site, running.home))
        measure("WordPress", site.url, lambda url: wordpress_calls(url, site))


def measure(
    name: str, url: str, calls_of: Callable[[str], dict[str, Callable[[], object]]]
) -> None:
    seconds: dict[str, float] = {}
    for fault in FAULTS:
        parts = urlsplit(url)
        with NetworkProxy(str(parts.hostname), int(parts.port or 0)) as proxy:
            through = urlunsplit(
                parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{proxy.port}"))
            )
            for call_name, call in calls_of(through).items():
                call()  # a connection is open and good
                proxy.set_fault(fault)
                begun = time.monotonic()
                with suppress(RunbookError, psycopg2.Error):
                    call()
                seconds[f"{fault}, {call_name}"] = time.monotonic() - begun
                proxy.clear_fault()
                with suppress(RunbookError, psycopg2.Error):
                    call()
    worst = max(seconds, key=seconds.__getitem__)
    over = seconds[worst] - DEADLINE_SECONDS
    report(
        f"{name}: longest call under a deadline of {DEADLINE_SECONDS:g} s ({worst})",
        seconds[worst],
        "s",
        bar=f"≤ {DEADLINE_SECONDS + 1:g} s",
        met=over <= 1,
        samples=seconds,
    )


def database_calls(url: str) -> dict[str, Callable[[], object]]:
    database = Database(url, deadline_seconds=DEADLINE_SECONDS)
    kept = [database.connect()]

    def on_kept_connection() -> object:
        if kept[0].broken:
            kept[0] = database.connect(connect_timeout_seconds=DEADLINE_SECONDS)
        with kept[0].transaction() as transaction:
            return transaction.value("SELECT 1")

    def on_new_connection() -> object:
        with (
            database.connect(connect_timeout_seconds=DEADLINE_SECONDS) as connection,
            connection.transaction() as transaction,
        ):
            return transaction.value("SELECT 1")

    return {"kept connection": on_kept_connection, "new connection": on_new_connection}


def openai_calls(url: str, site: sandbox.Sandbox, home: Path) -> dict[str, Callable[[], object]]:
    settings = Settings(runbook_home=home, runbook_openai_deadline_seconds=DEADLINE_SECONDS)
    provider = OpenAIProvider(
        f"{url}/v1", lambda: site.openai_api_key, "gpt-4o-mini", sandboxed=True
    )
    kept = ArticleWriter.of(provider, settings)
    kept.warm_up()

    def on_new_connection() -> object:
        fresh = ArticleWriter.of(provider, settings)
        fresh.warm_up()
        try:
            return fresh.write(JOB, Deadline.after(60))
        finally:
            fresh.close()

    return {
        "kept connection": lambda: kept.write(JOB, Deadline.after(60)),
        "new connection": on_new_connection,
    }


def wordpress_calls(url: str, site: sandbox.Sandbox) -> dict[str, Callable[[], object]]:
    def client() -> WordPressClient:
        return WordPressClient(
            url,
            site.wordpress_user,
            lambda: site.wordpress_app_password,
            deadline_seconds=DEADLINE_SECONDS,
        )

    kept = client()

    def on_new_connection() -> object:
        fresh = client()
        try:
            return fresh.who_am_i(Deadline.after(DEADLINE_SECONDS))
        finally:
            fresh.close()

    return {
        "kept connection": lambda: kept.who_am_i(Deadline.after(DEADLINE_SECONDS)),
        "new connection": on_new_connection,
    }


if __name__ == "__main__":
    main()
