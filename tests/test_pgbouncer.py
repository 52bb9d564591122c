"""Everything works through PgBouncer in transaction mode, where two transactions share no session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest

from runbook_lib.database import Database, schema
from runbook_lib.pipeline.attempt import Completed
from runbook_lib.pipeline.options import WorkerOptions
from runbook_lib.pipeline.reporting import Reporter
from runbook_lib.pipeline.worker import Worker
from runbook_lib.rehearsal.pooler import PGBOUNCER, pooler

pytestmark = pytest.mark.skipif(
    PGBOUNCER is None, reason="pgbouncer is not installed (apt-get install pgbouncer)"
)


@pytest.fixture
def pooled(new_database: Callable[..., Database], tmp_path: Path) -> Iterator[Database]:
    """An empty database behind a PgBouncer with two server connections."""
    with pooler(new_database(migrated=False).url, tmp_path) as url:
        yield Database(url)


def test_it_is_migrated_and_three_workers_empty_the_queue_over_two_connections(
    pooled: Database,
) -> None:
    assert schema.migrate(pooled) is None
    schema.require_current(pooled)
    with pooled.transaction() as transaction:
        transaction.run(
            "INSERT INTO content_jobs (topic) SELECT 'Topic ' || n FROM generate_series(1, 300) AS n"
        )
    options = WorkerOptions(
        concurrency=4, until_empty=True, idle_poll_seconds=0.05, sweep_interval_seconds=0.05
    )
    workers = [
        Worker(Database(pooled.url), lambda _: Completed(), options, Reporter()) for _ in range(3)
    ]
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda each=each: statuses.append(each.run(install_signals=False)))
        for each in workers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [0, 0, 0]
    with pooled.transaction() as transaction:
        assert (
            transaction.value("SELECT count(*) FROM content_jobs WHERE status = 'completed'") == 300
        )
        assert transaction.value("SELECT count(*) FROM job_runs") == 300
        assert transaction.value("SELECT make_job_runs_partitions(6)") == 2


def test_what_one_transaction_sets_is_not_seen_by_the_next(pooled: Database) -> None:
    with Database(pooled.url, schema="elsewhere").transaction() as transaction:
        assert "elsewhere" in transaction.value("SHOW search_path")
        session = transaction.value("SELECT pg_backend_pid()")
    with pooled.engine().begin() as link:
        assert "elsewhere" not in str(link.exec_driver_sql("SHOW search_path").scalar())
    raw = psycopg2.connect(pooled.url)
    raw.autocommit = True
    with raw.cursor() as cursor:
        cursor.execute(
            "SELECT pg_backend_pid(), current_setting('search_path'),"
            " current_setting('statement_timeout'), current_setting('lock_timeout')"
        )
        assert cursor.fetchone() == (session, '"$user", public', "0", "0")
    raw.close()
