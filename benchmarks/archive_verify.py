"""Verifying and searching an archive of ten thousand runs, each with a notebook and a page of usual size."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.archived_runs import add_run
from benchmarks.figures import percentile, report
from benchmarks.scratch import server
from runbook_lib.archive import chain
from runbook_lib.archive.search import Query, condition, search
from runbook_lib.archive.store import FolderStore
from runbook_lib.archive.verification import verify_archive
from runbook_lib.database import Database
from runbook_lib.settings import Settings

RUNS = int(os.environ.get("RUNS", "10000"))
NOTEBOOK_BYTES, PAGE_BYTES = 40_000, 60_000
PROCEDURES = (
    "daily/health_check",
    "daily/failure_rate",
    "weekly/performance_review",
    "weekly/cleanup",
)
READINGS = 30
QUERIES = {
    "by procedure and verdict": Query(procedure="weekly/performance_review", verdict="critical"),
    "by actor and time": Query(actor="ana", since=datetime.now(UTC) - timedelta(hours=1)),
    "by a figure": Query(conditions=(condition("failure_rate_percent>20"),)),
    "the newest fifty": Query(),
}


def main() -> None:
    """Files the runs as the runner does, without executing anything; then verifies and searches."""
    with server() as running:
        database = running.new_database()
        store = FolderStore(running.home / "archive")
        fill(database, store)
        settings = Settings(database_url=database.url, runbook_home=running.home)  # type: ignore[arg-type]
        began = time.perf_counter()
        found = verify_archive(database, store, settings)
        seconds = time.perf_counter() - began
        report(f"verify {found.entries:,} entries", seconds, "s", bar="≤ 15 s", met=seconds <= 15)
        report(f"findings in {found.entries:,} unaltered entries", len(found.findings), "findings", bar="0", met=not found.findings)  # fmt: skip
        for name, query in QUERIES.items():
            samples = [_milliseconds(lambda query=query: search(database, query)) for _ in range(READINGS)]  # fmt: skip
            report(f"search {name}, {found.entries:,} runs", percentile(samples, 95), "ms (p95)", samples=samples)  # fmt: skip


def fill(database: Database, store: FolderStore) -> None:
    with database.connect() as connection:
        for number in range(RUNS):
            unlike = f"{number:>12}".encode()
            add_run(
                connection, store, procedure=PROCEDURES[number % len(PROCEDURES)],
                verdict=("ok", "ok", "ok", "warning", "critical")[number % 5],
                actor=("scheduler", "ana", "ben")[number % 3],
                results={"failure_rate_percent": number % 40, "attempts": number},
                notebook=unlike * (NOTEBOOK_BYTES // 12), page=unlike * (PAGE_BYTES // 12),
            )  # fmt: skip
    chain.copy_entries(database, store)


def _milliseconds(measured: Callable[[], Any]) -> float:
    began = time.perf_counter()
    measured()
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
