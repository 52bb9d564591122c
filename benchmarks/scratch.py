"""A scratch PostgreSQL for a benchmark: the embedded server under a home of its own, databases made from the schema."""

from __future__ import annotations

from runbook_lib.database.connection import Database
from runbook_lib.database.disposable import DisposableServer as Server
from runbook_lib.database.disposable import disposable_server as server

__all__ = ["Server", "add_topics", "server"]


def add_topics(database: Database, count: int) -> None:
    """`count` pending jobs."""
    with database.transaction(deadline_seconds=600) as transaction:
        transaction.run(
            "INSERT INTO content_jobs (topic) SELECT 'Topic ' || number FROM generate_series(1, %(count)s) AS number",
            count=count,
        )
