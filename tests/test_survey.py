"""The survey: silent on a healthy system, each defect found, and never a false "none found"."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg2
import psycopg2.extensions
import pytest
from fault_server import FaultServer, refused_port, stall
from running_sandbox import RunningSandbox

from runbook_lib.database import Database
from runbook_lib.errors import NotFoundError
from runbook_lib.health.blockers import Session, trees
from runbook_lib.health.checks import Check
from runbook_lib.health.context import Context, open_context
from runbook_lib.health.survey import DECLARED, Survey, survey
from runbook_lib.policy import Policy, Thresholds
from runbook_lib.settings import Settings

PATIENT_SECONDS = 60.0
# The disk of the machine that runs the tests is its own affair.
OF_THE_MACHINE = {"database.disk", "archive.disk"}


def ask(context: Context, *only: str, seconds: float = PATIENT_SECONDS) -> Survey:
    return survey(context, only=only or None, deadline_seconds=seconds)


def answer(context: Context, name: str) -> Check:
    found = ask(context, name).named(name)
    assert found is not None
    return found


def with_thresholds(context: Context, **thresholds: Any) -> Context:
    return replace(context, policy=Policy(thresholds=Thresholds(**thresholds)))


def unhurried(context: Context) -> Context:
    """Judged as on an idle machine: how long things take here depends on what else runs."""
    return with_thresholds(
        context,
        database_latency_warning_milliseconds=60_000,
        database_latency_critical_milliseconds=60_000,
        provider_response_warning_seconds=60,
        lock_wait_warning_seconds=60,
    )


def run_sql(database: Database, *statements: str) -> None:
    with database.transaction() as transaction:
        for statement in statements:
            transaction.run(statement)


@pytest.fixture
def context(settings: Settings) -> Iterator[Context]:
    with open_context(settings) as opened:
        yield opened


@pytest.fixture
def role(database: Database) -> Iterator[Callable[..., Database]]:
    """Logs in as a new ordinary role, with the grants that are given."""
    made = []

    def make(options: str = "LOGIN", *grants: str) -> Database:
        name = f"survey_{uuid.uuid4().hex[:8]}"
        run_sql(database, f"CREATE ROLE {name} PASSWORD 'ordinary' {options}")
        made.append(name)
        run_sql(database, *(grant.format(role=name) for grant in grants))
        url = urlsplit(database.url)
        return Database(f"postgresql://{name}:ordinary@{url.hostname}:{url.port}{url.path}")

    yield make
    for name in made:
        run_sql(database, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def as_role(context: Context, database: Database) -> Context:
    return replace(
        context, sources=replace(context.sources, pipeline=database, bookkeeping=database)
    )


# a healthy system


def test_a_healthy_system_is_silent(context: Context, database: Database) -> None:
    run_sql(
        database,
        "INSERT INTO workers (worker, host, pid, version, concurrency, prefetch, in_flight, progress_at, clock_offset_seconds)"
        " VALUES ('w1', 'h', 1, '1', 4, 0, 1, now(), 0.01)",
        "INSERT INTO content_jobs (topic) VALUES ('a'), ('b')",
        "INSERT INTO content_jobs (topic, status, worker, attempt, lease_until) VALUES ('c', 'processing', 'w1', 1, now() + interval '1 hour')",
    )
    found = ask(unhurried(context))
    told = [each for each in found.checks if each.verdict in ("warning", "critical", "not_allowed")]
    assert not [each for each in told if each.name not in OF_THE_MACHINE]
    names = [each.name for each in found.checks]
    assert len(names) == len(set(names))
    declared = {name for check in DECLARED for name in check.names}
    assert set(names) <= declared


def test_every_answer_says_where_it_is_from_and_what_it_is_measured_in(context: Context) -> None:
    for check in ask(context).checks:
        if check.verdict in ("ok", "warning", "critical") and check.value is not None:
            assert check.source, check.name
            assert check.unit or not isinstance(check.value, float), check.name


# what holds others up


@contextmanager
def staged_chain(database: Database) -> Iterator[list[int]]:
    """A session idle in a transaction, an ALTER TABLE that waits for it, and a SELECT behind that."""
    with ExitStack() as stack:
        links = []
        for name in ("forgotten", "deploy", "reader"):
            raw = psycopg2.connect(database.url, application_name=name)
            stack.callback(raw.close)
            links.append(raw)
        first, second, third = links
        second.autocommit = third.autocommit = True
        with first.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM content_jobs")
        for raw, statement in (
            (second, "ALTER TABLE content_jobs ADD COLUMN later integer"),
            (third, "SELECT count(*) FROM content_jobs"),
        ):
            stack.callback(_send(database, raw, statement).join)
        stack.callback(first.rollback)
        yield [raw.info.backend_pid for raw in links]


def _send(
    database: Database, raw: psycopg2.extensions.connection, statement: str
) -> threading.Thread:
    """Starts a statement that will wait, and returns when the server says that it does."""

    def run() -> None:
        with raw.cursor() as cursor:
            cursor.execute(statement)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    waits = f"SELECT count(*) FROM pg_locks WHERE pid = {raw.info.backend_pid} AND NOT granted"
    with database.connect() as connection:
        while True:
            with connection.transaction() as transaction:
                if transaction.value(waits):
                    return thread


def test_a_staged_chain_is_told_as_a_tree_with_its_root_first(
    context: Context, database: Database
) -> None:
    with staged_chain(database) as (forgotten, deploy, reader):
        found = answer(with_thresholds(context, lock_wait_warning_seconds=0), "database.blockers")
        # The queue cannot be read behind the ALTER; that is said, and is no false "none".
        depth = answer(context, "queue.depth")
    assert found.verdict == "warning"
    assert found.value == 2
    assert found.parameters == {"blocker_pid": forgotten}
    tree = found.details["tree"]
    assert [line.split("(")[0].strip() for line in tree] == [
        f"process {forgotten}", f"process {deploy}", f"process {reader}",
    ]  # fmt: skip
    assert "idle in transaction" in tree[0]
    assert "2 waiting" in tree[0]
    assert [len(line) - len(line.lstrip()) for line in tree] == [0, 2, 4]
    assert depth.verdict == "not_enough_data"
    assert "locked" in depth.message


def test_a_role_without_rights_sees_the_tree_without_what_is_hidden(
    context: Context, database: Database, role: Callable[..., Database]
) -> None:
    with staged_chain(database) as (forgotten, *_):
        plain = with_thresholds(as_role(context, role()), lock_wait_warning_seconds=0)
        found = answer(plain, "database.blockers")
    # A role without rights sees every database's waiters, those of other tests as well.
    assert found.value >= 2
    root = next(each for each in found.details["roots"] if each["pid"] == forgotten)
    assert root["waiting_behind"] == 2
    assert root["query"] is None
    assert "may not see" in str(found.does_not_prove)


def test_a_waiter_of_many_stands_once_and_a_circle_has_a_first(context: Context) -> None:
    crowd = [Session(pid, tuple(range(1, pid)), float(pid)) for pid in range(2, 60)]
    (tree,) = trees([Session(1), *crowd])
    assert tree.count() == 58
    circle = trees([Session(1, (2,), 5.0), Session(2, (1,), 9.0)])
    assert [(each.session.pid, each.count()) for each in circle] == [(2, 1)]
    (prepared,) = trees([Session(3, (0,), 1.0)])
    assert "prepared transaction" in prepared.lines()[0]


def test_a_forgotten_transaction_is_found_and_hidden_ones_are_not_called_none(
    context: Context, database: Database, role: Callable[..., Database]
) -> None:
    strict = with_thresholds(context, idle_in_transaction_warning_seconds=0)
    with database.connect() as connection, connection.transaction() as transaction:
        transaction.value("SELECT 1")
        found = answer(strict, "database.oldest_transaction")
        plain = answer(as_role(context, role()), "database.oldest_transaction")
        monitor = answer(
            as_role(strict, role("LOGIN", "GRANT pg_monitor TO {role}")),
            "database.oldest_transaction",
        )
    assert found.verdict == "warning"
    assert any("idle in transaction" in each["state"] for each in found.details["sessions"])
    assert plain.verdict == "not_allowed"
    assert "pg_monitor" in str(plain.next)
    assert monitor.verdict == "warning"


# connections


def test_a_limit_of_connections_that_is_reached_is_named(
    context: Context, role: Callable[..., Database]
) -> None:
    with_room = role("LOGIN CONNECTION LIMIT 2")
    with with_room.connect(), with_room.connect():
        shut_out = answer(as_role(context, with_room), "database.reachable")
    assert shut_out.verdict == "critical"
    assert "This role has as many connections as it may have" in shut_out.message
    with with_room.connect():
        last = ask(as_role(context, with_room), "database")
    reached = last.named("database.connections_of_role")
    assert reached is not None
    assert (reached.verdict, reached.value, reached.details["limit"]) == ("critical", 2, 2)
    # The survey makes do with the one connection that it got.
    assert last.named("database.wraparound").verdict == "ok"  # type: ignore[union-attr]


def test_connections_are_told_by_application(context: Context, database: Database) -> None:
    loud = Database(database.url, application_name="loud service")
    with loud.connect(), loud.connect():
        found = answer(
            with_thresholds(context, connections_warning_percent=0.1), "database.connections"
        )
    assert found.verdict == "warning"
    held = {each["application"]: each["connections"] for each in found.details["by_application"]}
    assert held["loud service"] == 2


# rights


def test_a_monitor_only_role_is_told_not_allowed_and_never_none(
    context: Context, database: Database, role: Callable[..., Database]
) -> None:
    run_sql(database, "INSERT INTO content_jobs (topic) VALUES ('waits')")
    monitor = ask(as_role(context, role("LOGIN", "GRANT pg_monitor TO {role}")))
    verdicts = {each.name: each.verdict for each in monitor.checks}
    for name in ("queue.depth", "queue.stuck", "queue.oldest_pending", "workers.alive", "openai.quota_seen", "cost.daily_cap"):  # fmt: skip
        assert verdicts[name] == "not_allowed", name
    for name in (
        "database.connections",
        "database.blockers",
        "database.wal",
        "database.wraparound",
    ):
        assert verdicts[name] == "ok", name
    assert verdicts["database.oldest_transaction"] != "not_allowed"


def test_a_role_without_monitoring_rights_is_told_which_it_lacks(
    context: Context, role: Callable[..., Database]
) -> None:
    plain = as_role(context, role())
    wal = answer(plain, "database.wal")
    assert wal.verdict == "not_allowed"
    assert "pg_monitor" in str(wal.next)


def test_rows_hidden_by_row_level_security_are_not_called_an_empty_queue(
    context: Context, database: Database, role: Callable[..., Database]
) -> None:
    run_sql(
        database,
        "INSERT INTO content_jobs (topic) VALUES ('hidden')",
        "ALTER TABLE content_jobs ENABLE ROW LEVEL SECURITY",
    )
    found = answer(
        as_role(context, role("LOGIN", "GRANT SELECT ON content_jobs TO {role}")), "queue.depth"
    )
    assert found.verdict == "not_allowed"
    assert "row-level security" in found.message
    assert answer(context, "queue.depth").value == 1


# the queue and its workers


def test_a_stuck_lease_and_a_dead_worker_are_found(context: Context, database: Database) -> None:
    run_sql(
        database,
        "INSERT INTO workers (worker, host, pid, version, concurrency, prefetch, heartbeat_at)"
        " VALUES ('dead', 'h', 1, '1', 4, 0, now() - interval '10 minutes')",
        "INSERT INTO content_jobs (topic, status, worker, attempt, lease_until)"
        " VALUES ('a', 'processing', 'dead', 1, now() - interval '9 minutes')",
        "INSERT INTO content_jobs (topic, updated_at) VALUES ('b', now() - interval '2 hours')",
    )
    found = ask(context, "queue", "workers")
    stuck, alive = found.named("queue.stuck"), found.named("workers.alive")
    assert stuck is not None
    assert (stuck.verdict, stuck.value, stuck.procedure) == ("critical", 1, "emergency/stuck_jobs")
    assert alive is not None
    assert alive.verdict == "critical"
    assert "dead fell silent 10 min ago" in alive.message
    pending = found.named("queue.oldest_pending")
    assert pending is not None
    assert (pending.verdict, round(pending.value / 3600)) == ("critical", 2)


def test_a_worker_that_stands_still_or_differs_or_has_the_wrong_time_is_named(
    context: Context, database: Database
) -> None:
    worker = "INSERT INTO workers (worker, host, pid, version, concurrency, prefetch, in_flight, settings_digest, started_at, progress_at, clock_offset_seconds) VALUES "
    run_sql(
        database,
        worker
        + "('frozen', 'h', 1, '1', 4, 0, 3, 'x', now() - interval '2 hours', now() - interval '1 hour', 0)",
        worker + "('early', 'h', 1, '1', 4, 0, 0, 'y', now(), now(), 7200)",
    )
    found = {each.name: each for each in ask(context, "workers").checks}
    assert found["workers.progressing"].verdict == "critical"
    assert "frozen" in found["workers.progressing"].message
    assert found["workers.clock"].verdict == "warning"
    assert "early" in found["workers.clock"].message
    assert found["workers.alike"].verdict == "warning"
    assert found["workers.alive"].verdict == "ok"


def test_a_worker_with_another_key_than_the_rest_is_named_once_a_rotation_is_over(
    context: Context, database: Database
) -> None:
    """The one that was left out of a rotation fails alone, and looks like a flapping provider."""
    worker = "INSERT INTO workers (worker, host, pid, version, concurrency, prefetch, credentials) SELECT name, 'h', 1, '1', 4, 0, "
    used = "jsonb_build_object('OPENAI_API_KEY', jsonb_build_object('handle', handle, 'origin', '.env')) FROM (VALUES "
    run_sql(
        database,
        f"{worker}{used} ('a', 'h-new'), ('b', 'h-new'), ('late', 'h-old')) AS given (name, handle)",
    )
    run_sql(database, "INSERT INTO credential_handles (name, handle) VALUES ('OPENAI_API_KEY', 'h-new')")  # fmt: skip
    assert answer(context, "workers.credentials").verdict == "ok"
    run_sql(database, "UPDATE credential_handles SET first_seen_at = now() - interval '2 minutes'")
    found = answer(context, "workers.credentials")
    assert found.verdict == "warning"
    assert "late has h-old" in found.message
    assert found.procedure == "monthly/secret_rotation"


def test_a_pause_after_a_refused_key_is_critical_and_one_that_passes_is_not(
    context: Context, database: Database
) -> None:
    pause = "INSERT INTO provider_pauses (provider, reason, error_class, paused_by, automatic, until) VALUES "
    run_sql(database, pause + "('openai', 'asked to wait', 'openai_rate_limited', 'w', true, now() + interval '9 s')")  # fmt: skip
    assert answer(context, "queue.pauses").verdict == "ok"
    run_sql(database, pause + "('wordpress', 'refused', 'wordpress_login_failed', 'w', true, NULL)")
    found = answer(context, "queue.pauses")
    assert found.verdict == "critical"
    assert "wordpress is paused" in found.message


def test_more_jobs_at_once_than_a_limit_allows_are_told(
    context: Context, database: Database
) -> None:
    run_sql(
        database,
        "UPDATE provider_limits SET concurrency = 1 WHERE provider = 'openai'",
        "INSERT INTO content_jobs (topic, status, worker, attempt, lease_until)"
        " SELECT 'a' || n, 'processing', 'w', 1, now() + interval '1 hour' FROM generate_series(1, 2) AS n",
    )
    found = answer(context, "queue.concurrency")
    assert found.verdict == "warning"
    assert "its limit is 1" in found.message


# what came out

RUN = (
    "INSERT INTO job_runs (job_id, attempt, status, error_class, started_at, completed_at, write_seconds, publish_seconds, model, execution_time)"
    " SELECT gen_random_uuid(), 1, {status}, {error}, {at} - interval '20 seconds', {at}, 15, 1, 'gpt-4o-mini', {at}"
    " FROM generate_series(1, {count}) AS n"
)


def test_a_day_without_attempts_has_no_rate_and_is_not_well(
    context: Context, database: Database
) -> None:
    run_sql(
        database,
        RUN.format(status="'completed'", error="NULL", at="now() - interval '2 days'", count=40),
    )
    found = {each.name: each for each in ask(context, "failures", "durations").checks}
    for name in ("failures.now", "failures.attempts_of_day", "failures.jobs_of_day", "durations.own"):  # fmt: skip
        assert (found[name].verdict, found[name].value) == ("not_enough_data", None), name


def test_an_outage_is_critical_per_attempt_per_job_and_in_a_row(
    context: Context, database: Database
) -> None:
    at = "now() - n * interval '1 minute'"
    run_sql(database, RUN.format(status="'error'", error="'openai_overloaded'", at=at, count=30))
    found = {each.name: each for each in ask(context, "failures").checks}
    for name in ("failures.now", "failures.in_a_row", "failures.attempts_of_day"):
        assert found[name].verdict == "critical", name
        assert found[name].procedure


def test_times_are_told_by_stage_and_model_each_against_a_limit_of_its_own(
    context: Context, database: Database
) -> None:
    run_sql(database, RUN.format(status="'completed'", error="NULL", at="now()", count=30))
    found = {each.name: each for each in ask(context, "durations").checks}
    own, openai = found["durations.own"], found["durations.openai"]
    assert (own.verdict, round(own.value)) == ("warning", 4)
    assert own.details["attempts"] == 30
    assert openai.verdict == "ok"
    assert openai.value == pytest.approx(15, rel=0.1)
    assert openai.details["models"]["gpt-4o-mini"]["p95_seconds"] == pytest.approx(
        openai.value, rel=0.01
    )
    assert openai.details["p99_seconds"] is None
    assert found["durations.wordpress"].value == pytest.approx(1, rel=0.1)


# money


def test_quota_and_the_daily_cap_are_told(context: Context, database: Database) -> None:
    assert answer(context, "openai.quota_seen").verdict == "not_enough_data"
    run = "INSERT INTO job_runs (job_id, attempt, status, error_class, tokens, execution_time) VALUES (gen_random_uuid(), 1, "
    run_sql(
        database,
        run + "'completed', NULL, 100, now() - interval '2 hours')",
        run + "'error', 'openai_quota_exhausted', NULL, now() - interval '1 hour')",
        "UPDATE provider_limits SET daily_cost_usd = 10 WHERE provider = 'openai'",
        "INSERT INTO provider_usage (provider, usage_date, cost_usd) VALUES ('openai', (now() AT TIME ZONE 'UTC')::date, 9)",
    )
    assert answer(context, "openai.quota_seen").verdict == "critical"
    cap = answer(context, "cost.daily_cap")
    assert (cap.verdict, cap.value) == ("warning", 9.0)
    run_sql(database, run + "'completed', NULL, 100, now())")
    assert answer(context, "openai.quota_seen").verdict == "warning"


# providers, over HTTP


@pytest.fixture
def at_sandbox(context: Context, running_sandbox: RunningSandbox) -> Context:
    kept = json.loads((running_sandbox.directory / "credentials.json").read_text("utf-8"))
    settings = context.settings.model_copy(
        update={
            name: value
            for name, value in Settings(
                openai_api_key=running_sandbox.api_key,
                openai_admin_key=kept["openai_admin_key"],
                openai_base_url=f"{running_sandbox.url}/v1",
                wordpress_url=running_sandbox.url,
                wordpress_user=running_sandbox.user,
                wordpress_app_password=running_sandbox.app_password,
            )
            if name.startswith(("openai", "wordpress"))
        }
    )
    return replace(context, settings=settings)


def test_providers_that_are_well_are_silent_and_no_token_is_used(
    at_sandbox: Context, running_sandbox: RunningSandbox
) -> None:
    before = ask(at_sandbox, "openai.usage").named("openai.usage")
    found = ask(unhurried(at_sandbox), "openai", "wordpress")
    # The sandbox is shared: it counts what other tests spent, and this database knows nothing of that.
    judged = [each for each in found.checks if each.name != "openai.usage"]
    assert not [each for each in judged if each.verdict not in ("ok", "not_enough_data")]
    names = {each.name for each in found.checks}
    assert {
        "openai.key",
        "openai.model",
        "openai.response_time",
        "openai.usage",
        "openai.costs",
    } <= names
    assert {"wordpress.login", "wordpress.permission", "wordpress.categories", "wordpress.rest_api",
            "wordpress.response_time", "wordpress.application_password"} <= names  # fmt: skip
    after = found.named("openai.usage")
    assert before is not None
    assert after is not None
    assert before.value == after.value


def test_others_use_of_the_account_is_told(
    at_sandbox: Context, running_sandbox: RunningSandbox
) -> None:
    ours = ask(at_sandbox, "openai.usage").named("openai.usage")
    assert ours is not None
    messages = [{"role": "user", "content": "word " * 50_000}]
    running_sandbox.openai("/chat/completions", {"model": "gpt-4o-mini", "messages": messages})
    found = ask(at_sandbox, "openai.usage")
    usage, costs = found.named("openai.usage"), found.named("openai.costs")
    assert usage is not None
    assert usage.value - ours.value > 50_000
    assert usage.verdict == "warning"
    assert costs is not None
    assert costs.value > 0


# a survey always answers


def test_a_black_hole_harms_no_other_check(context: Context) -> None:
    with FaultServer(stall) as hole:
        settings = context.settings.model_copy(
            update={
                "openai_base_url": f"{hole.url}/v1",
                "openai_api_key": Settings(openai_api_key="sk-canary-000000").openai_api_key,
                "runbook_sandbox": "wordpress",
            }
        )
        found = ask(replace(context, settings=settings), "openai.api", "database", seconds=3.0)
    assert found.seconds < 30
    openai = [each for each in found.checks if each.part == "openai"]
    assert openai[-1].verdict == "critical"
    assert found.named("database.wraparound").verdict == "ok"  # type: ignore[union-attr]


def test_a_database_that_is_down_or_hangs_is_said_once_and_the_rest_is_not_known(
    settings: Settings,
) -> None:
    password = quote("x")
    for port, server in ((refused_port(), None), (0, FaultServer(stall))):
        with ExitStack() as stack:
            if server is not None:
                stack.enter_context(server)
                port = server.port
            down = Settings(
                database_url=f"postgresql://u:{password}@127.0.0.1:{port}/x",
                runbook_home=settings.runbook_home,
            )
            with open_context(down, require_schema=False) as context:
                found = survey(context, deadline_seconds=4.0)
        critical = [each.name for each in found.checks if each.verdict == "critical"]
        assert critical == ["database.reachable"], critical
        others = [each for each in found.checks if each.part in ("queue", "workers")]
        assert {each.verdict for each in others} == {"not_enough_data"}


def test_a_name_that_no_check_has_is_refused_with_the_nearest(context: Context) -> None:
    with pytest.raises(NotFoundError, match=r"Did you mean queue\.stuck"):
        survey(context, only=["queue.stuk"])
