"""Faults for the score: as many of the catalogue as can be staged on one machine, pairs, scenes that only look
alarming, and causes that no rule knows.

Each is a declaration like those that can be practised (`faults.py`). What cannot be staged here stands in
`NOT_STAGED` with the reason.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from urllib.parse import urlsplit

import psycopg2
from pydantic import SecretStr

from runbook_lib.rehearsal.faults import (
    FAULTS,
    Fault,
    failed_as,
    failures,
    killed_worker,
    sandbox_fault,
)
from runbook_lib.rehearsal.scene import Scene
from runbook_lib.sandbox.proxy import NetworkProxy

Stage = Callable[[Scene], AbstractContextManager[None]]
_AT_ONCE: Callable[[Scene], bool] = lambda scene: True  # noqa: E731
UNREACHABLE_HOST = "does-not-exist.invalid"


def _sql(*statements: str, undo: tuple[str, ...] = ()) -> Stage:
    """Statements on the disposable database."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        scene.add()
        for statement in statements:
            scene.execute(statement)
        try:
            yield
        finally:
            for statement in undo:
                scene.execute(statement)

    return stage


def _locked(statement: str, seconds: float) -> Stage:
    """A session that does this in a transaction and then sits there."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        scene.add(3)
        other = psycopg2.connect(scene.database.url, application_name="a forgotten console")
        try:
            with other.cursor() as cursor:
                cursor.execute(statement)
            time.sleep(seconds)
            yield
        finally:
            other.close()

    return stage


def _elsewhere(change: Callable[[str], str]) -> Stage:
    """The database's address as whoever looks has it."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        scene.looking = scene.looking.model_copy(
            update={"database_url": SecretStr(change(scene.database.url))}
        )
        yield

    return stage


def _proxied(fault: str) -> Stage:
    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        address = urlsplit(scene.database.url)
        with NetworkProxy(address.hostname or "", address.port or 0) as proxy:
            proxy.set_fault(fault)
            url = scene.database.url.replace(f":{address.port}/", f":{proxy.port}/")
            scene.looking = scene.looking.model_copy(update={"database_url": SecretStr(url)})
            yield

    return stage


def _role(options: str, grants: str, then: str) -> Stage:
    """Whoever looks is an ordinary role, to which something then happens."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        name = f"lab_{os.getpid()}_{int(time.time() * 1000) % 10**9}"
        address = urlsplit(scene.database.url)
        url = f"postgresql://{name}:ordinary@{address.hostname}:{address.port}{address.path}"
        scene.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'ordinary' {options}")
        scene.execute(grants.format(role=name))
        scene.add(3)
        scene.looking = scene.looking.model_copy(update={"database_url": SecretStr(url)})
        held = [psycopg2.connect(url, application_name="runbook-worker") for _ in range(2)]
        try:
            if then:
                scene.execute(then.format(role=name))
            yield
        finally:
            for each in held:
                each.close()
            scene.execute(f"DROP OWNED BY {name}")
            scene.execute(f"DROP ROLE {name}")

    return stage


_ALL_RIGHTS = "GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; GRANT pg_monitor TO {role}"


@contextmanager
def _slow_model(scene: Scene) -> Iterator[None]:
    number = scene.control.set_fault("openai", "latency", delay_seconds=6.0)
    scene.move(runbook_openai_deadline_seconds=30.0)
    scene.add(12)
    try:
        with scene.working(concurrency=6):
            scene.until(lambda: scene.completed() >= 6, "slow articles are published", 60)
            yield
    finally:
        scene.control.clear_faults(fault_id=number)


@contextmanager
def _frozen_worker(scene: Scene) -> Iterator[None]:
    """A worker that is stopped in the middle, as by a debugger or a paused virtual machine."""
    slow = scene.control.set_fault("openai", "latency", delay_seconds=3.0)
    with scene.worker_process() as process:
        scene.add()
        scene.until(lambda: scene.value("held_by", pid=process.pid) >= 1, "a worker took a job", 60)
        os.kill(process.pid, signal.SIGSTOP)
        scene.control.clear_faults(fault_id=slow)
        # As long ago as it takes to be sure.
        scene.execute(
            "UPDATE workers SET heartbeat_at = heartbeat_at - interval '1 minute', progress_at = progress_at - interval '1 minute'"
        )
        yield


@contextmanager
def _no_worker(scene: Scene) -> Iterator[None]:
    with scene.working():
        scene.add(2)
        scene.until(lambda: scene.completed() >= 2, "two are published", 30)
    scene.add(6)
    yield


@contextmanager
def _outdated_worker(scene: Scene) -> Iterator[None]:
    """Two workers; one still has the key from before the rotation."""
    scene.move(runbook_pause_after_failures_in_a_row=1000)
    scene.execute(_runs("healthy", 12, 1))
    scene.execute(_runs("outdated", 8, 1.4, error="openai_key_invalid", job_status="pending"))
    scene.execute(
        "INSERT INTO workers (worker, host, pid, version, concurrency, prefetch, settings_digest, in_flight) VALUES "
        "('healthy', 'other-1', 1, '0.2', 4, 0, 'new', 1), ('outdated', 'other-2', 1, '0.1', 4, 0, 'old', 1)"
    )
    yield


_RUNS = """
INSERT INTO job_runs (job_id, attempt, status, job_status, execution_time, started_at, completed_at, worker, stage, error_class, error, tokens, write_seconds, category)
SELECT job_id, 100 + row_number() OVER () , '{status}', '{job_status}', now() - make_interval(secs => {seconds} * row_number() OVER ()),
    now() - make_interval(secs => {seconds} * row_number() OVER () + 2), now() - make_interval(secs => {seconds} * row_number() OVER ()),
    '{worker}', CASE '{status}' WHEN 'completed' THEN 'publish' ELSE 'write' END, {error}, {error}, CASE '{status}' WHEN 'completed' THEN 900 END,
    CASE '{status}' WHEN 'completed' THEN 1.0 END, category
FROM (SELECT job_id, category FROM content_jobs WHERE status = '{of}' ORDER BY random() LIMIT {count}) AS chosen
"""


def _runs(
    worker: str,
    count: int,
    seconds: float,
    *,
    error: str | None = None,
    job_status: str | None = None,
) -> str:
    """So many attempts of a worker, so many seconds apart: completed, or failed as an error class."""
    return _RUNS.format(
        worker=worker, status="error" if error else "completed", job_status=job_status or "completed",
        error=f"'{error}'" if error else "NULL", count=count, seconds=seconds, of="completed",
    )  # fmt: skip


@contextmanager
def _too_many_at_once(scene: Scene) -> Iterator[None]:
    number = scene.control.set_fault("openai", "rate_limit", retry_after=1)
    scene.add(60)
    try:
        with scene.working(concurrency=60):
            scene.until(
                lambda: scene.failed_as("openai_rate_limited") >= 3, "requests are refused", 40
            )
            yield
    finally:
        scene.control.clear_faults(fault_id=number)


@contextmanager
def _no_names(scene: Scene) -> Iterator[None]:
    scene.move(
        openai_base_url=f"http://{UNREACHABLE_HOST}/v1",
        wordpress_url=f"http://site.{UNREACHABLE_HOST}",
    )
    scene.add(3)
    with scene.working():
        scene.until(lambda: scene.failed_as("openai_unreachable") >= 1, "attempts fail", 40)
        yield


def _both(*stages: Stage) -> Stage:
    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        with ExitStack() as stack:
            for each in stages:
                stack.enter_context(each(scene))
            yield

    return stage


_WORKER = "INSERT INTO workers (worker, host, pid, version, concurrency, prefetch, settings_digest, started_at, heartbeat_at, in_flight, clock_offset_seconds, progress_at) VALUES "


def _ordinary_worker(in_flight: int, name: str = "w1") -> str:
    """A worker that has run for an hour and was heard of just now."""
    return (
        _WORKER
        + f"('{name}', 'other', 1, '0.1', 4, 0, 'a', now() - interval '1 hour', now(), {in_flight}, 0, now())"
    )


_CRASHES = _WORKER + ", ".join(
    f"('crashing-{n}', 'other', {n}, '0.2', 4, 0, 'a', now() - interval '{40 * n + 41} seconds', now() - interval '{40 * n + 40} seconds', 0, 0, now())"
    for n in range(1, 5)
)
_SKEWED = (
    _WORKER
    + "('right', 'other-1', 1, '0.1', 4, 0, 'a', now(), now(), 1, 0.01, now()), ('ahead', 'other-2', 1, '0.1', 4, 0, 'a', now(), now(), 1, 7200.0, now())"
)
_POISON = """
WITH job AS (INSERT INTO content_jobs (topic, category, lost_count, attempt) VALUES ('poison', 'News', 3, 3) RETURNING job_id)
INSERT INTO job_runs (job_id, attempt, status, job_status, execution_time, worker, stage, error_class)
SELECT job_id, n, 'lost', 'pending', now() - make_interval(secs => 40 * (4 - n)), 'dead-' || n, 'write', 'worker_lost' FROM job, generate_series(1, 3) AS n
"""
_POISON_WORKERS = (
    _WORKER
    + ", ".join(
        f"('dead-{n}', 'other', {n}, '0.1', 4, 0, 'a', now() - interval '10 minutes', now() - interval '{40 * (4 - n) + 30} seconds', 1, 0, now())"
        for n in range(1, 4)
    )
    + ", ('living', 'other', 9, '0.1', 4, 0, 'a', now(), now(), 0, 0, now())"
)
_OVERLAP = """
WITH chosen AS (SELECT job_id, category FROM content_jobs WHERE status = 'completed' ORDER BY random() LIMIT 5)
INSERT INTO job_runs (job_id, attempt, status, job_status, execution_time, started_at, completed_at, worker, stage, error_class, tokens, write_seconds)
SELECT job_id, 50, 'lost', 'pending', now() - interval '100 seconds', now() - interval '160 seconds', now() - interval '90 seconds', 'first', 'write', 'worker_lost', NULL, NULL FROM chosen
UNION ALL
SELECT job_id, 51, 'completed', 'completed', now() - interval '60 seconds', now() - interval '120 seconds', now() - interval '60 seconds', 'second', 'publish', NULL, 900, 50 FROM chosen
"""
_OVERLAP_WORKERS = (
    _WORKER
    + "('first', 'other', 1, '0.1', 4, 0, 'a', now() - interval '1 hour', now(), 1, 0, now()), ('second', 'other', 2, '0.1', 4, 0, 'a', now() - interval '1 hour', now(), 1, 0, now())"
)
_SCHEDULER_GONE = "INSERT INTO schedulers (scheduler, host, pid, boot_id, version, directory, started_at, heartbeat_at) VALUES ('gone', 'other', 1, 'boot', '0.1', '/schedules', now() - interval '1 day', now() - interval '1 hour')"

CATALOGUE: tuple[Fault, ...] = (
    *FAULTS,
    # the database
    Fault("db-down", ("database-down",), _elsewhere(lambda url: "postgresql://nobody:none@127.0.0.1:1/none"), _AT_ONCE),
    Fault("db-hung", ("database-hung",), _proxied("stall"), _AT_ONCE),
    Fault("db-black-hole", ("database-hung",), _proxied("black_hole"), _AT_ONCE),
    Fault("db-password", ("database-password-wrong",), _role("", _ALL_RIGHTS, "ALTER ROLE {role} PASSWORD 'changed'"), _AT_ONCE, own_workers=True),
    Fault("db-role-limit", ("database-role-or-pooler-limit",), _role("", _ALL_RIGHTS, "ALTER ROLE {role} CONNECTION LIMIT 2"), _AT_ONCE, own_workers=True),
    Fault("db-table-locked", ("database-table-locked",), _locked("LOCK TABLE content_jobs IN ACCESS EXCLUSIVE MODE", 2), _AT_ONCE),
    Fault("db-idle-transaction", ("database-rows-locked-by-idle-transaction",), _locked("SELECT FROM content_jobs WHERE status = 'pending' FOR UPDATE", 6), _AT_ONCE, own_workers=True),
    Fault("db-grant", ("database-grant-revoked",), _role("", _ALL_RIGHTS, "REVOKE UPDATE ON content_jobs FROM {role}"), _AT_ONCE, own_workers=True),
    Fault("db-read-only", ("database-read-only",), _sql("DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET default_transaction_read_only = on', current_database()); END $$"), _AT_ONCE, own_workers=True),
    Fault("db-column-renamed", ("database-schema-drift",), _sql("ALTER TABLE content_jobs RENAME COLUMN priority TO importance"), _AT_ONCE, own_workers=True),
    Fault("db-status-rule", ("database-schema-drift",), _sql("ALTER TABLE content_jobs DROP CONSTRAINT content_jobs_status_check", "ALTER TABLE content_jobs ADD CONSTRAINT content_jobs_status_check CHECK (status IN ('pending', 'completed', 'error', 'working')) NOT VALID"), _AT_ONCE, own_workers=True),
    Fault("db-index", ("database-index-missing",), _sql("INSERT INTO content_jobs (topic) SELECT 'many ' || n FROM generate_series(1, 20000) AS n", "DROP INDEX content_jobs_due", "ANALYZE content_jobs"), _AT_ONCE),
    # OpenAI
    Fault("rate-limit", ("openai-rate-limited",), sandbox_fault("openai", "rate_limit", retry_after=1), failed_as("openai_rate_limited", 3)),
    Fault("key", ("openai-key-invalid",), sandbox_fault("openai", "invalid_key"), failed_as("openai_key_invalid")),
    Fault("overloaded", ("openai-overloaded",), sandbox_fault("openai", "overloaded"), failed_as("openai_overloaded", 4)),
    Fault("overloaded-half", ("openai-overloaded",), sandbox_fault("openai", "overloaded", probability=0.5, jobs=16), failed_as("openai_overloaded", 4)),
    Fault("slow-model", ("openai-slow",), _slow_model, _AT_ONCE, own_workers=True),
    Fault("black-hole-model", ("openai-stalled",), sandbox_fault("openai", "black_hole"), failed_as("openai_timeout")),
    Fault("cut-articles", ("openai-silent-bad-answers",), sandbox_fault("openai", "truncated"), failed_as("content_truncated", 3)),
    Fault("empty-answers", ("openai-silent-bad-answers",), sandbox_fault("openai", "null_content"), failed_as("content_empty", 3)),
    Fault("captive-portal", ("openai-wrong-base-url",), sandbox_fault("openai", "html"), failed_as("openai_wrong_address")),
    Fault("filtered-topic", ("openai-content-filtered",), sandbox_fault("openai", "content_filter", topic="forbidden", other_topic="forbidden garden"), failed_as("openai_content_filtered", 2)),
    Fault("long-topic", ("openai-context-too-long",), sandbox_fault("openai", "context_length", topic="endless", other_topic="endless garden"), failed_as("openai_context_too_long", 2)),
    # WordPress
    Fault("role-lowered", ("wordpress-permission-lost",), sandbox_fault("wordpress", "permission_lost"), failed_as("wordpress_permission_lost")),
    Fault("maintenance", ("wordpress-down",), sandbox_fault("wordpress", "maintenance"), failed_as("wordpress_rate_limited")),
    Fault("site-database", ("wordpress-down",), sandbox_fault("wordpress", "database_error"), failed_as("wordpress_unavailable", 3)),
    Fault("redirect", ("wordpress-url-redirects",), sandbox_fault("wordpress", "redirect"), failed_as("wordpress_redirected")),
    Fault("category", ("wordpress-category-missing",), sandbox_fault("wordpress", "category_deleted", category="News", jobs=4), failed_as("wordpress_category_missing", 3)),
    Fault("no-rest", ("wordpress-rest-off",), sandbox_fault("wordpress", "no_rest_api"), failed_as("wordpress_rest_off")),
    Fault("rest-forbidden", ("wordpress-rest-off",), sandbox_fault("wordpress", "rest_forbidden"), failed_as("wordpress_rest_off")),
    Fault("slow-publish", ("wordpress-slow-publish",), sandbox_fault("wordpress", "answer_lost", how="silence", silence_seconds=6.0, method="POST", path="posts"), failed_as("wordpress_outcome_unknown", 3)),
    # those who carry the jobs
    Fault("frozen-worker", ("worker-stuck",), _frozen_worker, _AT_ONCE, own_workers=True),
    Fault("no-worker", ("workers-stopped",), _no_worker, _AT_ONCE, own_workers=True),
    Fault("crash-loop", ("worker-crash-loop",), _sql(_CRASHES), _AT_ONCE, own_workers=True),
    Fault("poison", ("job-poisonous",), _sql(_POISON, _POISON_WORKERS), _AT_ONCE, own_workers=True),
    Fault("eager-sweeper", ("sweeper-too-eager",), _sql(_OVERLAP, _OVERLAP_WORKERS), _AT_ONCE, own_workers=True),
    Fault("clock", ("worker-clock-skewed",), _sql(_SKEWED), _AT_ONCE, own_workers=True),
    Fault("scheduler", ("scheduler-not-running",), _sql(_SCHEDULER_GONE), _AT_ONCE),
    Fault("outdated-worker", ("one-worker-outdated",), _outdated_worker, _AT_ONCE, own_workers=True),
    Fault("sixty-at-once", ("concurrency-too-high",), _too_many_at_once, _AT_ONCE, own_workers=True),
    Fault("no-names", ("dns-failure",), _no_names, _AT_ONCE, own_workers=True),
)  # fmt: skip

COMPOUNDS: tuple[Fault, ...] = (
    Fault("login+killed", ("wordpress-login-revoked", "worker-killed"), _both(sandbox_fault("wordpress", "login_revoked"), killed_worker),
          failed_as("wordpress_login_failed")),
    Fault("slow+eager", ("openai-slow", "sweeper-too-eager"), _both(_slow_model, _sql(_OVERLAP, _OVERLAP_WORKERS)), _AT_ONCE, own_workers=True),
    Fault("clock+scheduler", ("worker-clock-skewed", "scheduler-not-running"), _both(_sql(_SKEWED), _sql(_SCHEDULER_GONE)), _AT_ONCE, own_workers=True),
    Fault("quota+login", ("openai-quota-exhausted", "wordpress-login-revoked"), _both(sandbox_fault("wordpress", "login_revoked", first=True), sandbox_fault("openai", "quota")),
          failed_as("openai_quota_exhausted")),
)  # fmt: skip

# Causes that the rules do not know, with the layer that they should be narrowed down to.
UNKNOWN: Mapping[str, tuple[Fault, tuple[str, ...]]] = {
    fault.name: (fault, layers)
    for fault, layers in (
        (Fault("model-gone", (), sandbox_fault("openai", "model_not_found"), failed_as("openai_model_not_found")), ("generate",)),
        (Fault("country-refused", (), sandbox_fault("openai", "permission_denied"), failed_as("openai_permission_denied")), ("generate", "log in")),
        (Fault("teapot-model", (), sandbox_fault("openai", "status", status=418, body="json", path="chat"), failures(3)), ("generate", "configuration")),
        (Fault("garbled-answers", (), sandbox_fault("openai", "garbled_json", path="chat"), failures(3)), ("generate", "data")),
        (Fault("resets", (), sandbox_fault("openai", "reset", path="chat"), failed_as("openai_unreachable", 3)), ("generate", "connect")),
        (Fault("garbled-site", (), sandbox_fault("wordpress", "garbled_json", method="POST"), failures(3)), ("publish", "draft")),
        (Fault("no-app-passwords", (), sandbox_fault("wordpress", "no_application_passwords"), failures(1)), ("log in", "publish")),
        (Fault("site-changes-posts", (), sandbox_fault("wordpress", "answer_differs", fields={"title": "another"}), failures(3)), ("publish", "draft")),
        (Fault("site-refuses-posts", (), sandbox_fault("wordpress", "status", status=400, body="json", method="POST"), failures(3)), ("publish", "draft")),
        (Fault("unexpected", (), _sql(_runs("any", 8, 3, error="unexpected_error", job_status="pending"),
               "UPDATE content_jobs SET error_class = 'unexpected_error' WHERE status = 'pending'", _ordinary_worker(4, name="any")),
               _AT_ONCE, own_workers=True), ("generate", "publish", "record")),
    )
}  # fmt: skip

NOT_STAGED: Mapping[str, str] = {
    "database-connections-exhausted": "needs a server of its own: the test server's limit is shared",
    "database-statistics-stale-or-bloated": "grows over days",
    "database-disk-full": "needs a file system of its own (a small tmpfs, as root)",
    "database-deadlocks": "workers do not deadlock, and leave no row of it",
    "database-crash-recovery-loop": "killing a backend drops every session of the shared server",
    "openai-key-malformed": "the settings refuse such a key before anything starts",
    "wordpress-certificate-expired": "the sandbox speaks http only",
    "network-half-open": "needs packet filters, as root",
    "network-flapping": "needs minutes of bursts",
    "producer-stopped": "needs weeks of history: its rule is simulated by `make bench NAME=detection`",
}


def _quiet(scene: Scene) -> None:
    del scene


def _one_failed(scene: Scene) -> None:
    scene.execute(_runs("w", 1, 30, error="openai_timeout", job_status="error"))


def _absorbed(scene: Scene) -> None:
    """A burst some minutes ago; each of its jobs was tried again and went well."""
    burst = _runs("earlier-worker", 10, 2, error="openai_rate_limited", job_status="pending")
    scene.execute(burst.replace("now()", "(now() - interval '6 minutes')"))
    scene.execute(_runs("earlier-worker", 14, 20))


def _one_long(scene: Scene) -> None:
    scene.execute(
        "INSERT INTO content_jobs (topic, status, stage, worker, attempt, lease_until, started_at) VALUES ('long', 'processing', 'write', 'w1', 1, now() + interval '20 seconds', now() - interval '40 seconds')"
    )
    scene.execute(_ordinary_worker(1))


def _backlog(scene: Scene) -> None:
    scene.add(40)
    scene.execute(_ordinary_worker(4))


def _paused_by_hand(scene: Scene) -> None:
    scene.add(4)
    scene.execute(
        "INSERT INTO provider_pauses (provider, reason, paused_by, automatic) VALUES ('openai', 'planned work', 'ana', false)"
    )
    scene.execute(_ordinary_worker(0))


def _deployed(scene: Scene) -> None:
    """Workers that were replaced in order: a harmless change."""
    scene.execute(
        _WORKER
        + "('old', 'other', 1, '0.1', 4, 0, 'a', now() - interval '1 hour', now() - interval '2 minutes', 0, 0, now()), ('new', 'other', 2, '0.2', 4, 0, 'b', now() - interval '2 minutes', now(), 0, 0, now())"
    )
    scene.execute("UPDATE workers SET stopped_at = heartbeat_at WHERE worker = 'old'")


def _our_own_rate(scene: Scene) -> None:
    """A rate that the team set: jobs wait for it, and hands are free meanwhile."""
    scene.add(6)
    scene.execute(
        "UPDATE content_jobs SET created_at = now() - interval '2 minutes', updated_at = now() - interval '2 minutes' WHERE status = 'pending'"
    )
    scene.execute("UPDATE provider_limits SET requests_per_minute = 1 WHERE provider = 'openai'")
    scene.execute(_ordinary_worker(0))


HEALTHY: Mapping[str, Callable[[Scene], None]] = {
    "quiet": _quiet, "one-of-a-few-failed": _one_failed, "rate-limits-absorbed": _absorbed, "one-long-article": _one_long,
    "backlog": _backlog, "paused-by-hand": _paused_by_hand, "deployed": _deployed, "our-own-rate": _our_own_rate,
}  # fmt: skip
