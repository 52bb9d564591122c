"""The worker's promises about jobs: none lost, none charged for somebody else's fault, none overwritten."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from runbook_lib.database.connection import Database
from runbook_lib.pipeline.attempt import Attempt, AttemptOver, Completed, StoreArticle
from runbook_lib.pipeline.failures import Failure, JobFailed, RetryPolicy
from runbook_lib.pipeline.model import Article, Usage
from runbook_lib.pipeline.options import WorkerOptions
from runbook_lib.pipeline.reporting import Reporter
from runbook_lib.pipeline.worker import Worker

Handler = Callable[[Attempt], Completed]
SOON = RetryPolicy(base_seconds=0.02, maximum_seconds=0.05)
QUICK = WorkerOptions(
    concurrency=2, sweep_interval_seconds=0.05, idle_poll_seconds=0.05, retry=SOON, until_empty=True
)


def options(**changes: Any) -> WorkerOptions:
    return WorkerOptions(**{**QUICK.__dict__, **changes})


def add(database: Database, count: int, **columns: Any) -> list[str]:
    names = ", ".join(["topic", *columns])
    values = ", ".join(["'Topic ' || number", *(f"%({name})s" for name in columns)])
    with database.transaction() as transaction:
        rows = transaction.rows(
            f"INSERT INTO content_jobs ({names}) SELECT {values} "
            "FROM generate_series(1, %(count)s) AS number RETURNING job_id::text",
            count=count,
            **columns,
        )
    return [row.job_id for row in rows]


def rows(database: Database, statement: str, **parameters: Any) -> list[Any]:
    with database.transaction() as transaction:
        return transaction.rows(statement, **parameters)


def jobs(database: Database) -> list[Any]:
    return rows(database, "SELECT * FROM content_jobs ORDER BY job_id")


def runs(database: Database) -> list[Any]:
    return rows(database, "SELECT * FROM job_runs ORDER BY job_id, attempt")


def done(_: Attempt) -> Completed:
    return Completed()


def failing(error_class: str, **details: Any) -> Handler:
    def handle(_: Attempt) -> Completed:
        raise JobFailed(Failure(error_class, "as the test asks", **details))

    return handle


def work(database: Database, handler: Handler, given: WorkerOptions = QUICK) -> int:
    return Worker(database, handler, given, Reporter()).run(install_signals=False)


class Running:
    """A worker in a thread of its own."""

    def __init__(self, database: Database, handler: Handler, given: WorkerOptions) -> None:
        self.worker = Worker(database, handler, given, Reporter())
        self.status: int | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.status = self.worker.run(install_signals=False)

    def join(self) -> int | None:
        self._thread.join(20)
        assert not self._thread.is_alive(), "the worker did not end"
        return self.status


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "it did not happen within 20 s"
        time.sleep(0.01)


def article(tokens: int = 100, cost: str | None = "0.01") -> Article:
    usage = Usage("gpt-4o-mini", tokens, tokens, None if cost is None else Decimal(cost), "req_1")
    return Article("A title", "An excerpt.", "A body.", ("tag",), "stop", usage, 2, (1, -2))


def test_every_attempt_leaves_exactly_one_run_row(database: Database) -> None:
    add(database, 500)
    assert work(database, done, options(concurrency=4, prefetch=50)) == 0
    assert {job.status for job in jobs(database)} == {"completed"}
    assert [(run.status, run.attempt) for run in runs(database)] == [("completed", 1)] * 500


def test_a_bare_insert_makes_a_complete_job(database: Database) -> None:
    rows(database, "INSERT INTO content_jobs (topic) VALUES ('A topic') RETURNING job_id")
    assert work(database, done) == 0
    assert jobs(database)[0].status == "completed"


def test_paid_articles_go_first_then_priority_then_age(database: Database) -> None:
    late = add(database, 1, priority=50)[0]
    first, second = add(database, 2)
    paid = add(database, 1, stage="publish", priority=900)[0]
    order: list[str] = []

    def handle(attempt: Attempt) -> Completed:
        order.append(attempt.job.job_id)
        return Completed()

    assert work(database, handle, options(concurrency=1)) == 0
    assert order == [paid, late, first, second]


def test_a_jobs_own_fault_ends_it_at_once(database: Database) -> None:
    add(database, 1)
    assert work(database, failing("openai_content_filtered", stage="write", provider="openai")) == 1
    job, run = jobs(database)[0], runs(database)[0]
    assert (job.status, job.error_class, job.retry_count) == ("error", "openai_content_filtered", 1)
    assert (run.status, run.error_class, run.charged) == ("error", "openai_content_filtered", True)
    (event,) = rows(database, "SELECT level, job_id FROM events WHERE kind = 'job_given_up'")
    assert (event.level, event.job_id) == ("info", job.job_id)


def test_a_passing_fault_is_tried_again_until_the_retries_are_used_up(database: Database) -> None:
    add(database, 1, max_retries=2)
    given = options(pause_after_failures_in_a_row=99)
    while work(database, failing("openai_overloaded", provider="openai"), given) == 1:
        if jobs(database)[0].status == "error":
            break
        time.sleep(0.05)
    assert [run.charged for run in runs(database)] == [True, True, True]
    assert jobs(database)[0].retry_count == 3


def test_a_providers_fault_pauses_it_for_all_and_charges_nobody(database: Database) -> None:
    add(database, 20)
    status = work(database, failing("openai_quota_exhausted", stage="write", provider="openai"))
    assert status == 1
    assert {(job.status, job.retry_count) for job in jobs(database)} == {("pending", 0)}
    assert len(runs(database)) <= 2, "the pause came after one turn"
    pause = rows(database, "SELECT * FROM provider_pauses")[0]
    assert (pause.provider, pause.error_class, pause.automatic) == (
        "openai",
        "openai_quota_exhausted",
        True,
    )
    events = rows(database, "SELECT * FROM events WHERE kind = 'provider_paused'")
    assert [event.level for event in events] == ["critical"]


def test_after_a_pause_one_job_tries_first_and_its_success_lets_all_go_on(
    database: Database,
) -> None:
    add(database, 10)
    work(database, failing("openai_key_invalid", stage="write", provider="openai"))
    rows(database, "UPDATE provider_pauses SET until = now() RETURNING 1")
    together: list[int] = []
    inside: list[int] = []

    def handle(attempt: Attempt) -> Completed:
        inside.append(1)
        together.append(len(inside))
        time.sleep(0.05)
        attempt.usage = article().usage
        inside.pop()
        attempt.checkpoint(StoreArticle(article()))
        return Completed(7, "https://site/7", "publish")

    assert work(database, handle) == 0
    assert together[:2] == [1, 1], "others began before the trial had ended"
    assert not rows(database, "SELECT * FROM provider_pauses")
    assert {job.status for job in jobs(database)} == {"completed"}


def test_a_failed_trial_pauses_again_for_longer(database: Database) -> None:
    add(database, 4)
    handler = failing("openai_key_invalid", stage="write", provider="openai")
    work(database, handler)
    rows(database, "UPDATE provider_pauses SET until = now() RETURNING 1")
    before = len(runs(database))
    work(database, handler)
    assert len(runs(database)) == before + 1, "more than the one trial was made"
    pause = rows(
        database,
        "SELECT times, until - now() > interval '400 seconds' AS longer FROM provider_pauses",
    )
    assert (pause[0].times, pause[0].longer) == (2, True)


def test_retry_after_holds_for_all_workers(database: Database) -> None:
    add(database, 6)
    handler = failing("openai_rate_limited", provider="openai", retry_after_seconds=100.0)
    assert work(database, handler) == 1
    left = rows(
        database, "SELECT extract(epoch FROM until - now()) AS seconds FROM provider_pauses"
    )
    assert 90 < left[0].seconds <= 100
    before = len(runs(database))
    assert work(database, done) == 1, "another worker did not wait"
    assert len(runs(database)) == before


def test_an_outage_ends_no_job(database: Database) -> None:
    """5xx in a row pause the provider; what fails while it is paused is not charged."""
    add(database, 8, max_retries=1)
    handler = failing("openai_overloaded", stage="write", provider="openai")
    given = options(pause_after_failures_in_a_row=3, retry=RetryPolicy(100, 200))
    for _ in range(12):
        work(database, handler, given)
        rows(database, "UPDATE provider_pauses SET until = now() RETURNING 1")
        rows(database, "UPDATE content_jobs SET run_at = NULL RETURNING 1")
    assert {job.status for job in jobs(database)} == {"pending"}
    assert sum(run.charged for run in runs(database)) <= 4


def test_a_vanished_workers_job_is_taken_back_and_its_attempt_is_lost(database: Database) -> None:
    add(database, 1)
    rows(
        database,
        "UPDATE content_jobs SET status = 'processing', attempt = 1, worker = 'gone', started_at = now(), "
        "lease_until = now() - interval '1 second' RETURNING 1",
    )
    assert work(database, done) == 0
    assert [(run.attempt, run.status) for run in runs(database)] == [(1, "lost"), (2, "completed")]
    assert jobs(database)[0].retry_count == 0


def test_a_job_that_kills_its_workers_goes_into_quarantine(database: Database) -> None:
    add(database, 1, lost_count=4)
    rows(
        database,
        "UPDATE content_jobs SET status = 'processing', attempt = 5, worker = 'gone', started_at = now(), "
        "lease_until = now() - interval '1 second' RETURNING 1",
    )
    assert work(database, done) == 1
    job = jobs(database)[0]
    assert (job.status, job.error_class, job.lost_count) == ("error", "quarantined", 5)
    assert (
        rows(database, "SELECT level FROM events WHERE kind = 'job_quarantined'")[0].level
        == "critical"
    )


def test_a_late_writer_changes_nothing(database: Database) -> None:
    """An attempt whose lease was swept cannot finish the job that somebody else took over."""
    add(database, 1)
    begun, go_on = threading.Event(), threading.Event()

    def slow(attempt: Attempt) -> Completed:
        begun.set()
        go_on.wait(20)
        return Completed(666, "https://site/late", "publish")

    late = Running(database, slow, options(concurrency=1))
    assert begun.wait(20)
    rows(
        database,
        "UPDATE content_jobs SET status = 'pending', worker = NULL, lease_until = NULL RETURNING 1",
    )
    rows(
        database,
        "UPDATE content_jobs SET status = 'processing', attempt = attempt + 1, worker = 'other', "
        "lease_until = now() + interval '1 hour' RETURNING 1",
    )
    go_on.set()
    wait_until(lambda: len(runs(database)) == 1)
    rows(
        database,
        "UPDATE content_jobs SET status = 'completed', completed_at = now(), worker = NULL, lease_until = NULL, "
        "post_id = 1 RETURNING 1",
    )
    late.join()
    assert [(run.attempt, run.status) for run in runs(database)] == [(1, "lost")]
    assert jobs(database)[0].post_id == 1


def test_a_checkpoint_of_a_lost_attempt_is_refused(database: Database) -> None:
    add(database, 1)
    refused = threading.Event()

    def handle(attempt: Attempt) -> Completed:
        rows(
            database,
            "UPDATE content_jobs SET status = 'pending', worker = NULL, lease_until = NULL, "
            "run_at = now() + interval '1 hour' RETURNING 1",
        )
        try:
            attempt.checkpoint(StoreArticle(article()))
        except AttemptOver:
            refused.set()
            raise
        return Completed()

    assert work(database, handle) == 1
    assert refused.is_set()
    assert not rows(database, "SELECT * FROM articles")


def test_stop_lets_jobs_finish_and_hands_unstarted_ones_back_uncharged(database: Database) -> None:
    add(database, 10)
    begun, go_on = threading.Event(), threading.Event()

    def handle(_: Attempt) -> Completed:
        begun.set()
        go_on.wait(20)
        return Completed()

    running = Running(database, handle, options(concurrency=1, prefetch=5, until_empty=False))
    assert begun.wait(20)
    running.worker.stop()
    wait_until(lambda: len(runs(database)) == 5)
    go_on.set()
    assert running.join() == 0
    assert sorted(run.status for run in runs(database)) == ["completed"] + ["released"] * 5
    assert {(job.status, job.retry_count) for job in jobs(database)} == {
        ("completed", 0),
        ("pending", 0),
    }


def test_a_second_stop_releases_everything_and_goes(database: Database) -> None:
    add(database, 2)
    begun, never = threading.Semaphore(0), threading.Event()

    def handle(_: Attempt) -> Completed:
        begun.release()
        never.wait(20)
        return Completed()

    running = Running(database, handle, options(until_empty=False))
    begun.acquire()
    begun.acquire()
    running.worker.stop()
    running.worker.stop()
    assert running.join() == 0
    never.set()
    assert {job.status for job in jobs(database)} == {"pending"}
    assert [run.status for run in runs(database)] == ["released"] * 2


def test_a_stopping_worker_keeps_the_paid_article(database: Database) -> None:
    add(database, 1)
    begun, go_on = threading.Event(), threading.Event()

    def handle(attempt: Attempt) -> Completed:
        begun.set()
        go_on.wait(20)
        attempt.usage = article().usage
        attempt.checkpoint(StoreArticle(article()))
        return Completed()

    running = Running(database, handle, options(until_empty=False))
    assert begun.wait(20)
    running.worker.stop()
    go_on.set()
    running.join()
    job, run = jobs(database)[0], runs(database)[0]
    assert (job.status, job.stage) == ("pending", "publish")
    assert (run.status, run.charged, run.tokens, run.cost_usd) == (
        "released",
        False,
        200,
        Decimal("0.01"),
    )


def test_a_drain_request_ends_the_worker_and_no_other(database: Database) -> None:
    running = Running(database, done, options(until_empty=False))
    other = Running(database, done, options(until_empty=False))
    wait_until(lambda: len(rows(database, "SELECT * FROM workers")) == 2)
    rows(
        database,
        "UPDATE workers SET drain_requested_at = now() WHERE worker = %(worker)s RETURNING 1",
        worker=running.worker.name,
    )
    assert running.join() == 0
    add(database, 3)
    wait_until(lambda: {job.status for job in jobs(database)} == {"completed"})
    assert {run.worker for run in runs(database)} == {other.worker.name}
    other.worker.stop()
    other.join()
    assert all(row.stopped_at for row in rows(database, "SELECT stopped_at FROM workers"))


def test_a_pause_reaches_prefetched_jobs_too(database: Database) -> None:
    add(database, 20)
    begun, go_on = threading.Event(), threading.Event()

    def handle(_: Attempt) -> Completed:
        begun.set()
        go_on.wait(20)
        return Completed()

    running = Running(database, handle, options(concurrency=1, prefetch=10))
    assert begun.wait(20)
    rows(
        database,
        "INSERT INTO provider_pauses (provider, reason, paused_by, automatic) "
        "VALUES ('openai', 'a person said so', 'somebody', false) RETURNING 1",
    )
    time.sleep(0.3)
    go_on.set()
    assert running.join() == 1
    assert sorted(run.status for run in runs(database)) == ["completed"] + ["released"] * 10
    assert {job.retry_count for job in jobs(database)} == {0}


def test_wordpress_paused_keeps_writing_and_hands_over_before_publishing(
    database: Database,
) -> None:
    add(database, 3)
    rows(
        database,
        "INSERT INTO provider_pauses (provider, reason, paused_by, automatic) "
        "VALUES ('wordpress', 'maintenance', 'somebody', false) RETURNING 1",
    )

    def handle(attempt: Attempt) -> Completed:
        attempt.usage = article().usage
        attempt.checkpoint(StoreArticle(article()))
        raise AssertionError("went on to publishing")

    assert work(database, handle) == 1
    assert {(job.status, job.stage, job.retry_count) for job in jobs(database)} == {
        ("pending", "publish", 0)
    }
    assert len(rows(database, "SELECT * FROM articles")) == 3


def test_requests_per_minute_is_kept_by_all_workers_together(database: Database) -> None:
    add(database, 30)
    rows(
        database,
        "UPDATE provider_limits SET requests_per_minute = 60, burst_requests = 5 WHERE provider = 'openai' RETURNING 1",
    )
    first = Running(database, done, options(until_empty=False))
    second = Running(database, done, options(until_empty=False))
    started = time.monotonic()
    wait_until(lambda: len(runs(database)) >= 7)
    elapsed = time.monotonic() - started
    first.worker.stop(), second.worker.stop()
    first.join(), second.join()
    assert len(runs(database)) <= 5 + elapsed + 2


def test_concurrency_is_capped_over_all_workers(database: Database) -> None:
    add(database, 40)
    rows(
        database, "UPDATE provider_limits SET concurrency = 3 WHERE provider = 'openai' RETURNING 1"
    )
    lock, inside, most = threading.Lock(), [0], [0]

    def handle(_: Attempt) -> Completed:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        with lock:
            inside[0] -= 1
        return Completed()

    workers = [Running(database, handle, options(concurrency=8)) for _ in range(2)]
    assert [each.join() for each in workers] == [0, 0]
    assert most[0] == 3


@pytest.mark.parametrize("prefetch", [0, 6])
def test_the_daily_cost_cap_pauses_before_the_call(database: Database, prefetch: int) -> None:
    """Spent is at most the cap and one call a slot; what is left is pending, uncharged; one event."""
    add(database, 60)
    rows(
        database,
        "UPDATE provider_limits SET daily_cost_usd = 1 WHERE provider = 'openai' RETURNING 1",
    )

    def handle(attempt: Attempt) -> Completed:
        attempt.usage = article(cost="0.07").usage
        attempt.checkpoint(StoreArticle(article(cost="0.07")))
        return Completed()

    assert work(database, handle, options(concurrency=4, prefetch=prefetch)) == 1
    spent = rows(database, "SELECT cost_usd FROM provider_usage WHERE provider = 'openai'")[
        0
    ].cost_usd
    assert 1 <= spent <= 1 + 4 * Decimal("0.07")
    assert {
        (job.status, job.retry_count) for job in jobs(database) if job.status != "completed"
    } == {("pending", 0)}
    assert len(rows(database, "SELECT * FROM events WHERE kind = 'daily_cap_reached'")) == 1


def test_a_hung_attempt_is_given_up_at_its_deadline_and_its_thread_replaced(
    database: Database,
) -> None:
    hung = add(database, 1, priority=1, max_retries=0)[0]
    add(database, 3)
    forever = threading.Event()

    def handle(attempt: Attempt) -> Completed:
        if attempt.job.job_id == hung:
            forever.wait(30)
        return Completed()

    assert work(database, handle, options(concurrency=1, attempt_deadline_seconds=0.2)) == 1
    forever.set()
    states = {str(job.job_id): (job.status, job.error_class) for job in jobs(database)}
    assert states.pop(hung) == ("error", "attempt_deadline_exceeded")
    assert set(states.values()) == {("completed", None)}


def test_a_result_that_cannot_be_stored_stops_no_other(database: Database) -> None:
    poison = add(database, 1, priority=1, max_retries=0)[0]
    add(database, 5)

    def handle(attempt: Attempt) -> Completed:
        if attempt.job.job_id == poison:
            return Completed(2**70, "https://site/x", "publish")
        return Completed()

    assert work(database, handle, options(concurrency=6)) == 1
    states = {str(job.job_id): (job.status, job.error_class) for job in jobs(database)}
    assert states.pop(poison) == ("error", "unexpected_error")
    assert set(states.values()) == {("completed", None)}


def test_an_unknown_error_is_recorded_by_its_class_only(database: Database) -> None:
    add(database, 1, max_retries=0)

    def handle(_: Attempt) -> Completed:
        raise KeyError("sk-secret")

    assert work(database, handle) == 1
    run = runs(database)[0]
    assert (run.error_class, run.exception_class) == ("unexpected_error", "KeyError")
    assert "secret" not in run.error


def test_until_empty_does_not_wait_for_what_is_not_due(database: Database) -> None:
    add(database, 1, run_at="2100-01-01")
    assert work(database, done) == 1
    assert jobs(database)[0].status == "pending"


def test_a_deferred_job_becomes_due_by_itself(database: Database) -> None:
    add(database, 1)
    rows(database, "UPDATE content_jobs SET run_at = now() + interval '0.3 seconds' RETURNING 1")
    running = Running(database, done, options(until_empty=False))
    wait_until(lambda: jobs(database)[0].status == "completed")
    running.worker.stop()
    running.join()


def test_a_topic_of_ten_megabytes_is_not_loaded(database: Database) -> None:
    rows(database, "INSERT INTO content_jobs (topic) VALUES (repeat('x', 10000000)) RETURNING 1")
    seen: list[int] = []

    def handle(attempt: Attempt) -> Completed:
        seen.append(len(attempt.job.topic))
        return Completed()

    assert work(database, handle) == 0
    assert seen == [4001]


def test_two_workers_never_run_one_job_together(database: Database) -> None:
    add(database, 2000)
    lock = threading.Lock()
    claims: list[tuple[str, int]] = []

    def handle(attempt: Attempt) -> Completed:
        with lock:
            claims.append(attempt.key)
        return Completed()

    workers = [Running(database, handle, options(concurrency=4, prefetch=20)) for _ in range(3)]
    assert [each.join() for each in workers] == [0, 0, 0]
    assert len(claims) == len(set(claims)) == 2000


def test_partitions_are_made_ahead_also_on_a_connection_that_lasts(database: Database) -> None:
    ahead = "SELECT relname FROM pg_class WHERE relname LIKE 'job_runs_2%%' AND relkind = 'r' ORDER BY 1"
    running = Running(database, done, options(until_empty=False))
    wait_until(lambda: bool(rows(database, "SELECT worker FROM workers")))
    last = rows(database, ahead)[-1].relname
    rows(database, f"DROP TABLE {last}")
    # An hour later.
    running.worker._state.duties.set("partitions", 0.0)
    wait_until(lambda: rows(database, ahead)[-1].relname == last)
    # A turn that is under way ends; a transaction that was left open would stay.
    left_open = (
        "SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND state LIKE 'idle in transaction%%'"
    )
    wait_until(lambda: not rows(database, left_open))
    running.worker.stop()
    assert running.join() == 0


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT COUNT(*) FROM content_jobs WHERE status = 'error'",
        "SELECT job_id, last_error, retry_count, created_at FROM content_jobs WHERE status = 'error' "
        "ORDER BY created_at DESC LIMIT 10",
        "SELECT DATE(execution_time) as date, status, COUNT(*) as count FROM job_runs "
        "WHERE execution_time >= NOW() - INTERVAL '7 days' GROUP BY DATE(execution_time), status ORDER BY date DESC",
        "SELECT last_error, COUNT(*) as frequency FROM content_jobs WHERE status = 'error' "
        "AND created_at >= NOW() - INTERVAL '24 hours' GROUP BY last_error ORDER BY frequency DESC",
        "SELECT COUNT(*) as total_runs, COUNT(*) FILTER (WHERE execution_time < NOW() - INTERVAL '30 days') as old_runs "
        "FROM job_runs",
        "SELECT AVG(EXTRACT(EPOCH FROM (completed_at - started_at))) as avg_seconds, "
        "MAX(EXTRACT(EPOCH FROM (completed_at - started_at))) as max_seconds FROM job_runs "
        "WHERE status = 'completed' AND execution_time >= NOW() - INTERVAL '7 days'",
        "SELECT DATE(execution_time) as date, COUNT(*) FILTER (WHERE status = 'completed') * 100.0 / COUNT(*) as success_rate "
        "FROM job_runs WHERE execution_time >= NOW() - INTERVAL '7 days' GROUP BY DATE(execution_time) ORDER BY date DESC",
        "SELECT DATE(execution_time) as date, AVG(EXTRACT(EPOCH FROM (completed_at - started_at))) as avg_processing_time "
        "FROM job_runs WHERE status = 'completed' AND execution_time >= NOW() - INTERVAL '30 days' "
        "GROUP BY DATE(execution_time) ORDER BY date DESC",
    ],
)
def test_the_written_runbooks_statements_run_as_written(database: Database, statement: str) -> None:
    add(database, 1)
    work(database, failing("openai_content_filtered", provider="openai"))
    add(database, 1)
    work(database, done)
    assert rows(database, statement)
