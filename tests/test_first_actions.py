"""First actions as planned changes: what each does, what takes it back, and what it leaves alone."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import timedelta

import psycopg2
import psycopg2.extras
import pytest
from running_sandbox import RunningSandbox

from runbook_lib import changes
from runbook_lib.changes import Plan
from runbook_lib.database import Database
from runbook_lib.errors import PlanRefused, UsageError
from runbook_lib.pipeline.permits import Permits
from runbook_lib.settings import load_settings

ADD_WORKER = """
INSERT INTO workers (worker, host, pid, version, concurrency, prefetch, heartbeat_at, stopped_at)
VALUES (%(worker)s, 'here', 1, '0', 4, 0, now() - make_interval(secs => %(silent)s), CASE WHEN %(stopped)s THEN now() END)
"""
ADD_JOB = """
INSERT INTO content_jobs (topic, category, status, error_class, worker, lease_until, attempt, started_at, stage)
VALUES ('Roses', %(category)s, %(status)s, %(error_class)s, %(worker)s, now() + make_interval(secs => %(lease)s), %(attempt)s, now(), 'write')
RETURNING job_id::text
"""


def add_worker(database: Database, name: str, *, silent: float = 0, stopped: bool = False) -> None:
    with database.transaction() as transaction:
        transaction.run(ADD_WORKER, worker=name, silent=silent, stopped=stopped)


def add_job(
    database: Database,
    status: str = "pending",
    *,
    category: str | None = None,
    error_class: str | None = None,
    worker: str | None = None,
    lease: float | None = None,
    attempt: int = 0,
) -> str:
    with database.transaction() as transaction:
        found: str = transaction.value(
            ADD_JOB, category=category, status=status, error_class=error_class, worker=worker,
            lease=lease, attempt=attempt,
        )  # fmt: skip
    return found


def job(database: Database, job_id: str) -> tuple[str, str | None, str | None]:
    with database.transaction(read_only=True) as transaction:
        row = transaction.row(
            "SELECT status, error_class, category FROM content_jobs WHERE job_id = %(job_id)s::uuid",
            job_id=job_id,
        )
    assert row is not None
    return row.status, row.error_class, row.category


def plan(database: Database, kind: str, **given: object) -> Plan:
    return changes.plan(database, kind, given, actor="ana")


def do(database: Database, kind: str, **given: object) -> str:
    planned = plan(database, kind, **given)
    result = changes.apply(database, planned.change_id, actor="ana", dry_run=False, reason="test")
    assert result.status == "applied", result
    return planned.change_id


def undo(database: Database, change_id: str) -> None:
    inverse = changes.plan_undo(database, change_id, actor="ana")
    assert inverse.row_count == 1, inverse
    changes.apply(database, inverse.change_id, actor="ana", dry_run=False)


def draining(database: Database, worker: str) -> bool:
    with database.transaction(read_only=True) as transaction:
        return bool(
            transaction.value(
                "SELECT drain_requested_at IS NOT NULL FROM workers WHERE worker = %(worker)s",
                worker=worker,
            )
        )


# a worker


def test_a_worker_is_drained_while_another_goes_on_and_that_is_taken_back(
    database: Database,
) -> None:
    add_worker(database, "one")
    add_worker(database, "other")
    planned = plan(database, "workers.drain", worker="one")
    assert planned.sample[0]["others_that_go_on"] == 1
    assert not draining(database, "one")
    change = do(database, "workers.drain", worker="one")
    assert draining(database, "one")
    assert plan(database, "workers.drain", worker="one").row_count == 0
    undo(database, change)
    assert not draining(database, "one")


def test_a_provider_that_a_drained_worker_paused_for_all_is_tried_by_the_others_at_once(
    database: Database,
) -> None:
    add_worker(database, "outdated")
    add_worker(database, "other")
    paused = "INSERT INTO provider_pauses (provider, until, reason, error_class, paused_by, automatic) VALUES (%(provider)s, now() + interval '1 hour', 'key', 'openai_key_invalid', %(by)s, true)"
    with database.transaction() as transaction:
        transaction.run(paused, provider="openai", by="outdated")
        transaction.run(paused, provider="wordpress", by="other")
    do(database, "workers.drain", worker="outdated")
    with database.transaction() as transaction:
        permits = Permits(transaction, "other", trial_seconds=60)
        assert (permits.allowed("write"), permits.allowed("publish")) == (1, 0)


def test_the_only_worker_is_not_drained_unless_that_is_said(database: Database) -> None:
    add_worker(database, "one")
    add_worker(database, "silent", silent=600)
    add_worker(database, "ended", stopped=True)
    with pytest.raises(PlanRefused, match="only worker that takes jobs"):
        plan(database, "workers.drain", worker="one")
    assert plan(database, "workers.drain", worker="one", also_the_last="yes").row_count == 1


def test_a_drain_cannot_be_taken_back_once_the_worker_has_ended(database: Database) -> None:
    add_worker(database, "one")
    add_worker(database, "other")
    change = do(database, "workers.drain", worker="one")
    with database.transaction() as transaction:
        transaction.run("UPDATE workers SET stopped_at = now() WHERE worker = 'one'")
    with pytest.raises(PlanRefused, match="has ended"):
        changes.plan_undo(database, change, actor="ana")


# a job


def test_a_waiting_job_is_set_aside_and_let_go(database: Database) -> None:
    job_id = add_job(database)
    change = do(database, "jobs.quarantine", job_id=job_id, reason="kills workers")
    assert job(database, job_id)[:2] == ("error", "quarantined")
    # Whoever retries what failed leaves it out.
    assert plan(database, "jobs.retry", since="1h").row_count == 0
    undo(database, change)
    assert job(database, job_id)[:2] == ("pending", None)


def test_a_job_whose_worker_vanished_goes_straight_into_quarantine_with_its_lost_attempt(
    database: Database,
) -> None:
    add_worker(database, "gone", silent=600)
    job_id = add_job(database, "processing", worker="gone", lease=-60, attempt=3)
    change = do(database, "jobs.quarantine", job_id=job_id, reason="kills workers")
    assert job(database, job_id)[:2] == ("error", "quarantined")
    with database.transaction(read_only=True) as transaction:
        assert transaction.value("SELECT array_agg(status) FROM job_runs") == ["lost"]
    undo(database, change)
    assert job(database, job_id)[0] == "pending"


def test_a_job_in_the_hands_of_a_live_worker_is_not_set_aside(database: Database) -> None:
    add_worker(database, "works")
    job_id = add_job(database, "processing", worker="works", lease=30, attempt=1)
    with pytest.raises(PlanRefused, match="in the hands of works"):
        plan(database, "jobs.quarantine", job_id=job_id, reason="looks odd")
    assert job(database, job_id)[0] == "processing"


def test_a_job_that_ended_well_meanwhile_is_not_set_aside(database: Database) -> None:
    job_id = add_job(database)
    planned = plan(database, "jobs.quarantine", job_id=job_id, reason="looks odd")
    with database.transaction() as transaction:
        transaction.run("UPDATE content_jobs SET status = 'processing', attempt = 1, worker = 'w', lease_until = now() + interval '1 minute'")  # fmt: skip
        transaction.run("UPDATE content_jobs SET status = 'completed', completed_at = now(), worker = NULL, lease_until = NULL")  # fmt: skip
    with pytest.raises(PlanRefused, match="completed"):
        changes.apply(database, planned.change_id, actor="ana", dry_run=False)
    assert job(database, job_id)[0] == "completed"


# a category


@pytest.fixture
def site(
    running_sandbox: RunningSandbox, database: Database, monkeypatch: pytest.MonkeyPatch
) -> RunningSandbox:
    """This process's settings name the sandbox's site, as a person's would."""
    for name, value in {
        "DATABASE_URL": database.url, "OPENAI_API_KEY": running_sandbox.api_key, "OPENAI_BASE_URL": f"{running_sandbox.url}/v1",
        "WORDPRESS_URL": running_sandbox.url, "WORDPRESS_USER": running_sandbox.user,
        "WORDPRESS_APP_PASSWORD": running_sandbox.app_password,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    load_settings.cache_clear()
    running_sandbox.control.ensure_categories(["News"])
    return running_sandbox


def test_jobs_without_a_category_go_on_with_the_one_that_stands_in_and_get_their_own_back(
    database: Database, site: RunningSandbox
) -> None:
    failed = add_job(database, "error", category="Gnomes", error_class="wordpress_category_missing")
    other = add_job(database, category="Gnomes")
    unconcerned = add_job(database, "error", category="Gnomes", error_class="openai_timeout")
    change = do(database, "jobs.use_category", category="News")
    assert job(database, failed) == ("pending", "wordpress_category_missing", "News")
    # Those that wait go on with it only where the missing one is named: it may be there again.
    assert job(database, other)[2] == "Gnomes"
    undo(database, change)
    assert job(database, failed) == ("error", "wordpress_category_missing", "Gnomes")
    assert plan(database, "jobs.use_category", category="News", missing="gnomes").row_count == 2
    assert job(database, unconcerned) == ("error", "openai_timeout", "Gnomes")


def test_a_category_that_the_site_lacks_cannot_stand_in(
    database: Database, site: RunningSandbox
) -> None:
    with pytest.raises(UsageError, match="no category 'Nowhere' either"):
        plan(database, "jobs.use_category", category="Nowhere")
    with pytest.raises(UsageError, match="RUNBOOK_FALLBACK_CATEGORY"):
        plan(database, "jobs.use_category")


# an index


def valid_index(database: Database, name: str) -> bool | None:
    with database.transaction(read_only=True) as transaction:
        found: bool | None = transaction.value(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%(name)s)", name=name
        )
    return found


def test_an_index_of_the_schema_that_is_gone_is_made_again_as_it_was(database: Database) -> None:
    text = "SELECT pg_get_indexdef('content_jobs_due'::regclass)"
    with database.transaction() as transaction:
        before = transaction.value(text)
        transaction.run("DROP INDEX content_jobs_due")
    change = do(database, "indexes.create")
    with database.transaction(read_only=True) as transaction:
        assert transaction.value(text) == before
    assert plan(database, "indexes.create").row_count == 0
    undo(database, change)
    assert valid_index(database, "content_jobs_due") is None


def test_a_broken_index_is_dropped_and_made_again_and_nobody_waits(database: Database) -> None:
    """Made unique over rows that are equal, its build fails and leaves it unusable."""
    for key in ("a", "b"):
        with database.transaction() as transaction:
            transaction.run("INSERT INTO content_jobs (topic, idempotency_key) VALUES ('Roses', %(key)s)", key=key)  # fmt: skip
    name = "content_jobs_idempotency_key"
    with database.transaction() as transaction:
        transaction.run(f"DROP INDEX {name}")
        transaction.run("UPDATE content_jobs SET idempotency_key = 'a'")
    failed = changes.apply(
        database, plan(database, "indexes.create", names=name).change_id, actor="ana", dry_run=False
    )
    assert failed.status == "failed"
    assert "could not create unique index" in failed.failures[0]["error"]
    assert valid_index(database, name) is False
    with database.transaction() as transaction:
        transaction.run("UPDATE content_jobs SET idempotency_key = job_id::text")
    # Somebody reads and writes in the table all the while; only whoever began before is waited for.
    do(database, "indexes.create", names=name)
    assert valid_index(database, name) is True
    with pytest.raises(UsageError, match="has no index nonsense"):
        plan(database, "indexes.create", names="nonsense")


# a session


def test_a_session_is_ended_only_if_it_is_still_the_one_that_was_seen(database: Database) -> None:
    with closing(psycopg2.connect(database.url)) as other, other.cursor() as cursor:
        pid = other.info.backend_pid
        cursor.execute("SELECT now()")
        seen = cursor.fetchone()[0]  # type: ignore[index]
        named = {"pid": pid, "how": "terminate"}
        earlier = (seen - timedelta(seconds=30)).isoformat()
        with pytest.raises(PlanRefused, match="another transaction"):
            plan(database, "sessions.end", **named, since=earlier)
        planned = plan(database, "sessions.end", **named, since=seen.isoformat())
        assert planned.row_count == 1
        other.rollback()
        with pytest.raises(PlanRefused, match="in no transaction"):
            changes.apply(database, planned.change_id, actor="ana", dry_run=False)
        cursor.execute("SELECT 1")
        with pytest.raises(PlanRefused, match=r"changed since|another transaction"):
            changes.apply(database, planned.change_id, actor="ana", dry_run=False)
        cursor.execute("SELECT 2")


def test_a_session_at_work_for_whom_nobody_waits_is_left_alone(database: Database) -> None:
    with closing(psycopg2.connect(database.url, async_=True)) as other:
        psycopg2.extras.wait_select(other)
        cursor = other.cursor()
        cursor.execute("SELECT pg_sleep(60)")
        with pytest.raises(PlanRefused, match="is at work"):
            _planned_once_active(database, other.info.backend_pid)
        other.cancel()


def _planned_once_active(database: Database, pid: int) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with database.transaction(read_only=True) as transaction:
            state = transaction.value("SELECT state FROM pg_stat_activity WHERE pid = %(pid)s", pid=pid)  # fmt: skip
        if state == "active":
            plan(database, "sessions.end", pid=pid, how="terminate")
            return
        time.sleep(0.02)
