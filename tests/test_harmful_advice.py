"""What the written runbook advises and what does harm in some situation: staged, and refused at the moment of the act."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg2
import psycopg2.errors
import psycopg2.extras
import pytest
from foreign_pipeline import UUID_KEYS, attached_settings
from roles import MakeRole, name_of
from running_sandbox import RunningSandbox
from test_first_actions import add_job, add_worker, job, plan

from runbook_lib.database import Database, roles
from runbook_lib.errors import PlanRefused
from runbook_lib.functions import call
from runbook_lib.health.context import open_context
from runbook_lib.health.survey import survey
from runbook_lib.maintenance.database_errors import REFUSED
from runbook_lib.pipeline import brakes
from runbook_lib.rehearsal.scene import QUICK, Scene
from runbook_lib.settings import Settings, load_settings
from runbook_lib.triage.causes import BY_ID

REFUSED_ACTIONS = "SELECT action FROM admin_actions WHERE outcome = 'refused'"


def raise_limit(database: Database, provider: str = "openai", *, anyway: bool = False) -> None:
    brakes.set_limits(database, provider, {"concurrency": 50}, actor="ana", anyway=anyway)


def low_limit(database: Database, provider: str = "openai") -> None:
    brakes.set_limits(database, provider, {"concurrency": 4}, actor="ana")


# "run sweeper"


def test_a_sweep_leaves_jobs_alone_whose_worker_lives(database: Database, home: Path) -> None:
    add_worker(database, "lives")
    add_worker(database, "gone", silent=600)
    held = add_job(database, "processing", worker="lives", lease=-20, attempt=1)
    left = add_job(database, "processing", worker="gone", lease=-20, attempt=1)
    settings = Settings(database_url=database.url, runbook_home=home)
    with open_context(settings) as context:
        looked = call("sweeper", {"dry_run": True}, context=context, actor="ana").body
        swept = call("sweeper", {}, context=context, actor="ana").body
    assert [row["job_id"] for row in looked["left_alone"]] == [held]
    assert [str(row["job_id"]) for row in looked["would_sweep"]] == [left]
    assert [row["job_id"] for row in swept["jobs"]] == [left]
    assert "they would be done twice. `runbook workers drain lives`" in swept["message"]
    assert (job(database, held)[0], job(database, left)[0]) == ("processing", "pending")
    assert plan(database, "jobs.sweep").row_count == 0


def test_a_sweeper_that_is_not_ours_is_not_called_while_attempts_still_end(
    new_database: Callable[..., Database], database: Database, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    theirs = UUID_KEYS.make(new_database)
    settings = attached_settings(theirs, UUID_KEYS, tmp_path, database)
    for name, value in {
        "DATABASE_URL": theirs.url, "RUNBOOK_DATABASE_URL": database.url,
        "RUNBOOK_MAPPING": str(settings.runbook_mapping), "RUNBOOK_FUNCTIONS_URL": "http://127.0.0.1:1/functions/v1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    load_settings.cache_clear()
    assert plan(database, "sweeper.call").row_count == 2
    with theirs.transaction() as transaction:
        transaction.run("INSERT INTO press.attempts (order_uuid, outcome, began, ended) SELECT uuid, 'fine', now(), now() FROM press.orders LIMIT 1")  # fmt: skip
    with pytest.raises(PlanRefused, match=r"written and published twice\. Stop the workers first"):
        plan(database, "sweeper.call")
    assert plan(database, "sweeper.call", while_workers_live="yes").row_count == 2


# "consider increasing concurrent job limits"


def test_a_limit_is_not_raised_while_the_provider_refuses_for_its_rate(
    database: Database, running_sandbox: RunningSandbox, home: Path
) -> None:
    settings = Settings(
        database_url=database.url, runbook_home=home, openai_api_key=running_sandbox.api_key, openai_base_url=f"{running_sandbox.url}/v1",
        wordpress_url=running_sandbox.url, wordpress_user=running_sandbox.user, wordpress_app_password=running_sandbox.app_password,
        **QUICK,
    )  # fmt: skip
    scene = Scene(database, settings, running_sandbox.control)
    low_limit(database)
    topic = "Sunflowers that are refused"
    number = scene.control.set_fault("openai", "rate_limit", retry_after=1, topic=topic)
    scene.add(4, topic=topic)
    try:
        with scene.working():
            scene.until(lambda: scene.failed_as("openai_rate_limited") >= 3, "it is refused")
    finally:
        scene.control.clear_faults(fault_id=number)
    with pytest.raises(PlanRefused, match=r"refuses requests for their rate \(\d+ attempts"):
        raise_limit(database)
    with database.transaction(read_only=True) as transaction:
        assert transaction.value(REFUSED_ACTIONS) == "limits.set"
        assert transaction.value("SELECT concurrency FROM provider_limits WHERE provider = 'openai'") == 4  # fmt: skip
    # The other provider's is not concerned; lowering is what helps; and whoever knows better may.
    raise_limit(database, "wordpress")
    brakes.set_limits(database, "openai", {"concurrency": 2}, actor="ana")
    raise_limit(database, anyway=True)


@pytest.mark.parametrize(
    ("provider", "column", "seconds", "refused"),
    [
        ("openai", "write_seconds", 9.0, True),
        ("openai", "write_seconds", 2.2, False),
        ("wordpress", "publish_seconds", 9.0, True),
    ],
)
def test_a_limit_is_not_raised_while_the_provider_is_slow(
    database: Database, provider: str, column: str, seconds: float, refused: bool
) -> None:
    add = (
        f"INSERT INTO job_runs (job_id, attempt, status, execution_time, {column}) "
        "SELECT gen_random_uuid(), 1, 'completed', now() - make_interval(mins => %(minutes)s), %(seconds)s FROM generate_series(1, 6)"
    )
    with database.transaction() as transaction:
        transaction.run(add, minutes=120, seconds=2.0)
        transaction.run(add, minutes=1, seconds=seconds)
    low_limit(database, provider)
    if refused:
        with pytest.raises(PlanRefused, match=r"takes 9\.0 s where it took 2\.0 s"):
            raise_limit(database, provider)
    else:
        raise_limit(database, provider)


def test_a_limit_is_not_raised_while_connections_run_out(database: Database) -> None:
    with database.transaction() as transaction:
        name = transaction.value("SELECT current_database()")
        transaction.run(f"ALTER DATABASE {name} CONNECTION LIMIT 5")
    low_limit(database)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(closing(psycopg2.connect(database.url)))
        with pytest.raises(PlanRefused, match="5 of the 5 connections that this database takes"):
            raise_limit(database)
    raise_limit(database)


# "increase query timeout limits"


@contextmanager
def waiting_for_a_lock(database: Database) -> Iterator[int]:
    with closing(psycopg2.connect(database.url)) as holder, holder.cursor() as cursor:
        cursor.execute("LOCK TABLE articles")
        with closing(psycopg2.connect(database.url, async_=True)) as waiter:
            psycopg2.extras.wait_select(waiter)
            waiter.cursor().execute("SELECT count(*) FROM articles")
            yield holder.info.backend_pid


def test_a_longer_time_out_is_advised_against_where_a_lock_is_what_is_waited_for(
    database: Database, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir(exist_ok=True)
    policy = home / "policy.toml"
    policy.write_text("[thresholds]\nlock_wait_warning_seconds = 0\n")
    monkeypatch.setenv("RUNBOOK_CONFIG", str(policy))
    monkeypatch.setenv("DATABASE_URL", database.url)
    load_settings.cache_clear()
    with open_context(load_settings()) as context, waiting_for_a_lock(database) as pid:
        (blockers,) = survey(context, only=("database.blockers",)).checks
    assert blockers.parameters == {"blocker_pid": pid}
    assert "Do not raise a time-out" in str(blockers.next)
    # The notebook that leads on from there, and triage, say the same.
    assert "only waits longer" in dict(REFUSED)["Increase query time-out limits"]
    assert "time-out" in str(BY_ID["database-table-locked"].action.never)


# "archive old job runs (if needed)": DELETE


def test_no_role_but_the_owner_may_delete_runs(database: Database, make_role: MakeRole) -> None:
    for purpose in roles.PURPOSES:
        theirs = make_role()
        with database.transaction() as transaction:
            roles.apply_grants(transaction, "public", name_of(theirs), purpose)
        with pytest.raises(psycopg2.errors.InsufficientPrivilege), theirs.transaction() as transaction:  # fmt: skip
            transaction.run("DELETE FROM job_runs WHERE execution_time < now() - interval '90 days'")  # fmt: skip


# statements that fail, and a limit that cannot hold


def test_the_written_runbooks_two_statements_fail_and_ours_answer(database: Database) -> None:
    with pytest.raises(psycopg2.errors.UndefinedColumn), closing(psycopg2.connect(database.url)) as raw:  # fmt: skip
        raw.cursor().execute("SELECT schemaname, tablename, indexname, idx_scan FROM pg_stat_user_indexes")  # fmt: skip
    with closing(psycopg2.connect(database.url)) as raw, raw.cursor() as cursor:
        try:
            cursor.execute("CREATE EXTENSION pg_stat_statements")
        except psycopg2.Error as error:
            pytest.skip(f"this server has no pg_stat_statements: {error}")
        cursor.execute("SELECT attname FROM pg_attribute WHERE attrelid = 'pg_stat_statements'::regclass")  # fmt: skip
        names = {name for (name,) in cursor.fetchall()}
    assert not names & {"mean_time", "total_time"}
    assert names >= {"mean_exec_time", "total_exec_time"}


def test_an_article_that_takes_long_at_the_model_is_not_slow_processing(
    database: Database, home: Path
) -> None:
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO job_runs (job_id, attempt, status, execution_time, started_at, completed_at, write_seconds, publish_seconds) "
            "SELECT gen_random_uuid(), 1, 'completed', now(), now() - interval '41 seconds', now() - interval '1 second', 38.5, 1.2 FROM generate_series(1, 20)"
        )
    with open_context(Settings(database_url=database.url, runbook_home=home)) as context:
        found = {check.name: check for check in survey(context, only=("durations.own",)).checks}
    own = found["durations.own"]
    assert own.verdict == "ok", own
    assert float(str(own.value)) < 2
