"""Rotation: staged, tested, activated, in use, retired; no value is shown, and no job suffers."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import psycopg2
import pytest
from conftest import Server
from running_sandbox import RunningSandbox

from benchmarks.pipeline_scene import Scene
from benchmarks.rotation import NAMES, RotatedPipeline, rotate_under_load
from runbook_lib import known_secrets
from runbook_lib.cli import main
from runbook_lib.credentials.handles import handle_of
from runbook_lib.database import Database, own_tables
from runbook_lib.env_file import EnvFile
from runbook_lib.errors import PlanRefused, UsageError
from runbook_lib.maintenance.rotation import Rotation
from runbook_lib.maintenance.rotation_plan import rotation_plan
from runbook_lib.pipeline.attempt import Attempt, Completed
from runbook_lib.pipeline.options import WorkerOptions
from runbook_lib.pipeline.reporting import Reporter
from runbook_lib.pipeline.worker import Worker
from runbook_lib.sandbox import Sandbox
from runbook_lib.settings import Settings, load_settings, read_settings

FIRST, SECOND = "the-first-password", "the-second-password"


@pytest.fixture
def bot(server: Server, database: Database) -> Iterator[Callable[[str], str]]:
    """A role of its own for the test's database; called with a password it gives the address."""
    name = f"bot_{urlsplit(database.url).path[6:]}"
    server.execute(f"CREATE ROLE {{}} LOGIN SUPERUSER PASSWORD '{FIRST}'", name)
    parts = urlsplit(database.url)
    yield (
        lambda password: f"postgresql://{name}:{password}@{parts.hostname}:{parts.port}{parts.path}"
    )
    server.execute("DROP OWNED BY {}", name)
    server.execute("DROP ROLE {}", name)


@pytest.fixture
def env_file(tmp_path: Path) -> EnvFile:
    return EnvFile(tmp_path / ".env")


@contextmanager
def running_worker(database: Database, handler: Callable[[Attempt], Completed]) -> Iterator[Worker]:
    options = WorkerOptions(concurrency=2, idle_poll_seconds=0.05, sweep_interval_seconds=0.2)
    worker = Worker(database, handler, options, Reporter())
    thread = threading.Thread(target=lambda: worker.run(install_signals=False))
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(30)


def test_open_sessions_stay_and_new_connections_use_the_new_password(
    server: Server, bot: Callable[[str], str], env_file: EnvFile
) -> None:
    env_file.replace("DATABASE_URL", bot(FIRST))
    database = own_tables(read_settings(env_file.path))
    with database.connect() as before:
        server.execute(f"ALTER ROLE {{}} PASSWORD '{SECOND}'", str(urlsplit(bot(FIRST)).username))
        env_file.replace("DATABASE_URL", bot(SECOND))
        with database.connect() as after, before.transaction() as transaction:
            assert after.opened_with == bot(SECOND)
            assert transaction.value("SELECT 1") == 1
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(bot(FIRST))


def test_another_database_is_not_followed(
    bot: Callable[[str], str], env_file: EnvFile, database: Database
) -> None:
    env_file.replace("DATABASE_URL", bot(FIRST))
    opened = own_tables(read_settings(env_file.path))
    env_file.replace("DATABASE_URL", database.beside("postgres").url)
    assert opened.url == bot(FIRST)
    env_file.path.write_text("DATABASE_URL=nonsense\n")
    assert opened.url == bot(FIRST)


def test_a_worker_changes_over_between_two_turns_and_says_so_by_handle(
    server: Server, bot: Callable[[str], str], env_file: EnvFile, database: Database
) -> None:
    """The job that runs meanwhile is finished, by the same worker, in its first attempt."""
    env_file.replace("DATABASE_URL", bot(FIRST))
    begun, finish = threading.Event(), threading.Event()

    def handle(_: Attempt) -> Completed:
        begun.set()
        assert finish.wait(30)
        return Completed()

    with database.transaction() as transaction:
        transaction.run("INSERT INTO content_jobs (topic) VALUES ('Gardens')")
    with running_worker(own_tables(read_settings(env_file.path)), handle) as worker:
        assert begun.wait(30)
        assert _handle(database, worker) == handle_of("DATABASE_URL", bot(FIRST))
        server.execute(f"ALTER ROLE {{}} PASSWORD '{SECOND}'", str(urlsplit(bot(FIRST)).username))
        env_file.replace("DATABASE_URL", bot(SECOND))
        expected = handle_of("DATABASE_URL", bot(SECOND))
        _until(lambda: _handle(database, worker) == expected)
        finish.set()
        _until(lambda: _statuses(database) == ["completed"])
    with database.transaction() as transaction:
        assert transaction.value("SELECT max(attempt) FROM content_jobs") == 1
        assert transaction.value("SELECT count(*) FROM credential_handles") == 2
        everything = str(transaction.rows("SELECT * FROM workers"))
    assert SECOND not in everything


@dataclass(frozen=True)
class Console:
    """`runbook secrets …` with a `.env` that names the sandbox as if it were real."""

    env_file: EnvFile
    home: Path
    patch: pytest.MonkeyPatch
    said: list[str]

    def __call__(self, *words: str, value: str | None = None, status: int = 0) -> str:
        load_settings.cache_clear()
        heard = io.StringIO()
        self.patch.setattr(sys, "stdin", io.StringIO(value or ""))
        with redirect_stdout(heard), redirect_stderr(heard), pytest.raises(SystemExit) as ended:
            main(["secrets", *words])
        said = heard.getvalue()
        self.said.append(said)
        assert ended.value.code == status, said
        return said


@pytest.fixture
def console(
    env_file: EnvFile, home: Path, database: Database, running_sandbox: RunningSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Console]:  # fmt: skip
    """A key and an application password of the test's own, so that it may revoke them."""
    key = running_sandbox.control.make_api_key("sk-first-key-of-this-test-0001")
    password = running_sandbox.control.make_user("rotated-bot")
    for name, value in {
        "DATABASE_URL": database.url, "OPENAI_API_KEY": key, "OPENAI_BASE_URL": f"{running_sandbox.url}/v1",
        "WORDPRESS_URL": running_sandbox.url, "WORDPRESS_USER": "rotated-bot", "WORDPRESS_APP_PASSWORD": password,
    }.items():  # fmt: skip
        env_file.replace(name, value)
    monkeypatch.setenv("RUNBOOK_ENV_FILE", str(env_file.path))
    monkeypatch.setenv("RUNBOOK_ACTOR", "ana")
    said: list[str] = []
    yield Console(env_file, home, monkeypatch, said)
    for secret in (NEW_KEY, key, password, password.replace(" ", "")):
        assert secret not in "".join(said)


NEW_KEY = "sk-second-key-of-this-test-0002"


def test_a_key_goes_from_staged_to_retired_and_is_known_by_its_handle(
    console: Console, running_sandbox: RunningSandbox, database: Database
) -> None:
    old = console.env_file.value("OPENAI_API_KEY") or ""
    running_sandbox.control.make_api_key(NEW_KEY)
    handle = json.loads(console("stage", "OPENAI_API_KEY", "--json", value=NEW_KEY + "\n"))[
        "handle"
    ]
    assert handle == handle_of("OPENAI_API_KEY", NEW_KEY)
    staged = console.home / "secrets" / "staged" / "OPENAI_API_KEY.json"
    assert staged.stat().st_mode & 0o777 == 0o600
    assert "OpenAI accepts it" in console("test", "OPENAI_API_KEY")
    assert f"{handle} is in use" in console("activate", "OPENAI_API_KEY", "--reason", "monthly")
    assert console.env_file.value("OPENAI_API_KEY") == NEW_KEY
    assert not staged.exists()
    assert "still accepted" in console("retire", "OPENAI_API_KEY", status=1)
    running_sandbox.control.remove_api_key(old)
    assert "its provider answers 401" in console("retire", "OPENAI_API_KEY")
    assert "nothing is to be retired" in console("retire", "OPENAI_API_KEY", status=2)
    with database.transaction() as transaction:
        actions = transaction.rows("SELECT * FROM admin_actions ORDER BY acted_at")
    assert [row.action for row in actions] == ["secrets.activate", *2 * ["secrets.retire"]]
    assert {row.actor for row in actions} == {"ana"}
    assert actions[0].after["handle"] == handle
    for secret in (old, NEW_KEY):
        assert secret not in str(actions)
    listed = json.loads(console("list", "--json"))
    assert listed["secrets"]["OPENAI_API_KEY"]["age_source"] == "its activation here"
    assert listed["secrets"]["WORDPRESS_APP_PASSWORD"]["age_source"] == "WordPress"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("OPENAI_API_KEY", "sk-broken\nover-lines-0001", "a line end inside"),
        ("OPENAI_API_KEY", "sk-with a blank-0001", "a blank inside"),
        ("OPENAI_API_KEY", "", "it is empty"),
        ("OPENAI_API_KEY", "sk-caf\u00e9-0000000001", "outside ASCII"),
        ("OPENAI_API_KEY", "sk-admin-something-0001", "this is an admin key"),
        ("WORDPRESS_APP_PASSWORD", "my-own-login-password", "six groups of four"),
        ("DATABASE_URL", "postgresql://host/without-a-login", "no user or no password"),
        ("DATABASE_URL", "postgresql://bot:pa#ss@host/db", "not an address"),
    ],
)
def test_what_cannot_be_right_is_not_even_staged_and_not_shown(
    home: Path, name: str, value: str, reason: str
) -> None:
    nobody = Database("postgresql://nobody@127.0.0.1:1/none")
    rotation = Rotation(Settings(_env_file=None, runbook_home=home), nobody, name, "ana")
    with pytest.raises(UsageError, match=reason) as refused:
        rotation.stage(value)
    assert not value or value not in str(refused.value)
    assert rotation.waiting.find("staged", name) is None


def test_a_value_that_the_provider_does_not_take_is_refused_before_anything_changes(
    console: Console,
) -> None:
    before = console.env_file.path.read_bytes()
    for name, wrong in (
        ("OPENAI_API_KEY", "sk-mistyped-key-of-this-test"),
        ("WORDPRESS_APP_PASSWORD", "aaaa bbbb cccc dddd eeee ffff"),
        ("DATABASE_URL", (console.env_file.value("DATABASE_URL") or "").replace("runbook:", "runbook:wrong-")),
    ):  # fmt: skip
        console("stage", name, value=wrong)
        said = console("activate", name, status=3)
        assert "was not activated, since it does not work" in said
        assert wrong not in said
    assert "That is not the name" in console("stage", "sk-a-secret-in-the-wrong-place", status=2)
    assert "wrong-place" not in console.said[-1]
    assert console.env_file.path.read_bytes() == before


def test_an_application_password_is_made_and_revoked_at_the_site(
    console: Console, running_sandbox: RunningSandbox
) -> None:
    old = console.env_file.value("WORDPRESS_APP_PASSWORD") or ""
    console("rotate", "WORDPRESS_APP_PASSWORD", "--generate", "--wait", "0")
    assert console.env_file.value("WORDPRESS_APP_PASSWORD") != old
    assert "its provider answers 401" in console("retire", "WORDPRESS_APP_PASSWORD", "--revoke")
    me = {"auth": ("rotated-bot", old)}
    assert running_sandbox.wordpress("GET", "/wp/v2/users/me", **me).status_code == 401


def test_a_database_password_is_set_at_the_server_and_stands_in_no_log(
    console: Console, server: Server, bot: Callable[[str], str]
) -> None:
    server.execute("ALTER ROLE {} SET log_statement = 'all'", str(urlsplit(bot(FIRST)).username))
    console.env_file.replace("DATABASE_URL", bot(FIRST))
    console("stage", "DATABASE_URL", value=bot(SECOND))
    assert "password authentication failed" in console("test", "DATABASE_URL", status=1)
    console("activate", "DATABASE_URL", "--set-at-server")
    assert console.env_file.value("DATABASE_URL") == bot(SECOND)
    assert "the server refuses it" in console("retire", "DATABASE_URL")
    log = server.log()
    assert "ALTER ROLE" in log
    said = "".join(console.said)
    # The test itself made the role with the first one.
    assert SECOND not in log + said
    assert FIRST not in said


def test_the_earlier_value_can_be_put_back(
    console: Console, running_sandbox: RunningSandbox
) -> None:
    old = console.env_file.value("OPENAI_API_KEY") or ""
    running_sandbox.control.make_api_key(NEW_KEY)
    console("stage", "OPENAI_API_KEY", value=NEW_KEY)
    console("activate", "OPENAI_API_KEY")
    console("activate", "OPENAI_API_KEY", "--back")
    assert console.env_file.value("OPENAI_API_KEY") == old
    console("activate", "OPENAI_API_KEY", "--back")
    assert console.env_file.value("OPENAI_API_KEY") == NEW_KEY


def test_a_value_from_the_environment_cannot_be_rotated_live_and_the_plan_says_what_to_do(
    settings: Settings, database: Database, env_file: EnvFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-the-environment")
    env_file.replace("DATABASE_URL", database.url)
    rotation = Rotation(read_settings(env_file.path), database, "OPENAI_API_KEY", "ana")
    rotation.stage(NEW_KEY)
    with pytest.raises(PlanRefused, match="cannot be changed while it runs"):
        rotation.activate()
    plan = rotation_plan(rotation)
    assert not plan.live
    assert "runbook workers drain" in plan.words
    assert env_file.value("OPENAI_API_KEY") is None


def test_a_worker_that_has_another_value_holds_the_retirement_back(
    console: Console, running_sandbox: RunningSandbox, database: Database
) -> None:
    running_sandbox.control.make_api_key(NEW_KEY)
    console("stage", "OPENAI_API_KEY", value=NEW_KEY)
    old = handle_of("OPENAI_API_KEY", console.env_file.value("OPENAI_API_KEY") or "")
    console("activate", "OPENAI_API_KEY")
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO workers (worker, host, pid, version, concurrency, prefetch, credentials) "
            "VALUES ('w1', 'elsewhere', 1, '1', 1, 0, %(used)s::jsonb)",
            used=json.dumps({"OPENAI_API_KEY": {"handle": old, "origin": ".env", "used_at": None}}),
        )
    assert "stage and activate the same value on elsewhere" in console(
        "verify", "OPENAI_API_KEY", status=1
    )
    assert "revoked now, it would fail jobs" in console("retire", "OPENAI_API_KEY", status=3)


def test_a_second_value_is_not_put_in_use_while_workers_have_yet_to_take_up_the_first(
    console: Console, running_sandbox: RunningSandbox, database: Database
) -> None:
    """ "Immediately rotate all API keys": then nobody can tell which one fails."""
    old = handle_of("OPENAI_API_KEY", console.env_file.value("OPENAI_API_KEY") or "")
    running_sandbox.control.make_api_key(NEW_KEY)
    console("stage", "OPENAI_API_KEY", value=NEW_KEY)
    console("activate", "OPENAI_API_KEY")
    using = "INSERT INTO workers (worker, host, pid, version, concurrency, prefetch, credentials) VALUES ('w1', 'elsewhere', 1, '1', 1, 0, %(used)s::jsonb)"
    used = json.dumps({"OPENAI_API_KEY": {"handle": old, "origin": ".env", "used_at": None}})
    with database.transaction() as transaction:
        transaction.run(using, used=used)
    before = console.env_file.value("WORDPRESS_APP_PASSWORD")
    console("stage", "WORDPRESS_APP_PASSWORD", "--generate")
    refused = console("activate", "WORDPRESS_APP_PASSWORD", status=3)
    assert "OPENAI_API_KEY is being rotated, and not every worker has its new value yet" in refused
    assert console.env_file.value("WORDPRESS_APP_PASSWORD") == before
    # Once the worker is gone nobody is left behind; in an emergency it is said.
    with database.transaction() as transaction:
        transaction.run("UPDATE workers SET stopped_at = now()")
    console("activate", "WORDPRESS_APP_PASSWORD")
    assert console.env_file.value("WORDPRESS_APP_PASSWORD") != before


def _handle(database: Database, worker: Worker) -> str | None:
    with database.transaction() as transaction:
        row = transaction.row("SELECT credentials FROM workers WHERE worker = %(name)s", name=worker.name)  # fmt: skip
    return row.credentials.get("DATABASE_URL", {}).get("handle") if row else None


def _statuses(database: Database) -> list[str]:
    with database.transaction() as transaction:
        return [row.status for row in transaction.rows("SELECT status FROM content_jobs")]


def _until(condition: Callable[[], bool], seconds: float = 30) -> None:
    waited = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        waited.wait(0.05)
    pytest.fail(f"it did not happen within {seconds:g} s")


class CommandsInHere(RotatedPipeline):
    """As the benchmark's, with `runbook` called in this process, which is quicker than starting it."""

    patch: pytest.MonkeyPatch

    def command(self, *words: str, value: str | None = None) -> int:
        load_settings.cache_clear()
        heard = io.StringIO()
        self.patch.setattr(sys, "stdin", io.StringIO(value or ""))
        with redirect_stdout(heard), redirect_stderr(heard), pytest.raises(SystemExit) as ended:
            main(list(words))
        with (self.home / "commands.log").open("a") as log:
            log.write(heard.getvalue())
        return int(ended.value.code or 0)


def test_all_three_rotate_while_jobs_run_and_no_job_notices(
    database: Database, server: Server, running_sandbox: RunningSandbox, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The benchmark's short form: 0 failed, 0 lost, 0 twice, old values refused, and no value left anywhere."""
    role = f"rotated_{database.address.rsplit('_', 1)[1]}"
    place = tmp_path / "place"
    place.mkdir()
    running_sandbox.control.set_fault("openai", "latency", delay_seconds=0.3)
    pipeline = CommandsInHere(
        database, role, server.execute, running_sandbox.url, running_sandbox.control, place
    )
    pipeline.patch = monkeypatch
    for name, value in pipeline.environment.items():
        monkeypatch.setenv(name, value)
    scene = Scene(database, cast(Sandbox, running_sandbox), place)
    try:
        outcome = rotate_under_load(pipeline, scene, in_flight=6, workers=1, server_log=bytes)
        verdict = outcome.verdict
        assert verdict.jobs >= 6
        assert (outcome.failed, verdict.charged, verdict.lost, verdict.doubled, verdict.unfinished) == (0,) * 5  # fmt: skip
        assert outcome.refused == dict.fromkeys(NAMES, True)
        assert outcome.found == []
        with database.transaction(read_only=True) as transaction:
            told = transaction.value("SELECT results -> 'secrets' FROM notebook_runs")
        assert {told[name]["kept_in"] for name in NAMES} == {str(pipeline.env_file.path)}
        assert list((place / "secrets").rglob("*.json")) == []
        # What is searched for would be found.
        (place / "left.log").write_text(f"key={pipeline.value('OPENAI_API_KEY')}")
        left = [name for name, data in pipeline.places() if known_secrets.found_in(data)]
        assert left == ["left.log"]
    finally:
        pipeline.end()
        server.execute("DROP OWNED BY {}", role)
        server.execute("DROP ROLE {}", role)
