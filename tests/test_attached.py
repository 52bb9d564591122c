"""Attached: every function, check and figure answers about a pipeline that is not ours, and leaves it as it was.

Other names, uuid and bigint keys, status words of their own, row-level security, and a role that may read
the mapped columns and nothing else, through PgBouncer in transaction mode where it is installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dumping import dumped
from foreign_pipeline import BARE, BIGINT_KEYS, UUID_KEYS, as_role
from running_sandbox import RunningSandbox

from runbook_lib import cli
from runbook_lib.database import Database
from runbook_lib.functions import FUNCTIONS, call
from runbook_lib.health.context import Context, open_context
from runbook_lib.health.grants import reading_grants
from runbook_lib.health.metrics import History
from runbook_lib.health.performance import performance_review
from runbook_lib.health.survey import DECLARED, survey
from runbook_lib.rehearsal.pooler import PGBOUNCER, pooler
from runbook_lib.settings import Settings

# What a function is asked beside its defaults; a new one is asked by its defaults alone.
MORE_QUESTIONS: dict[str, list[dict[str, Any]]] = {
    "sweeper": [{"dry_run": True}],
    "content-automation": [
        {"action": "test_credentials"},
        {"action": "status"},
        {"action": "enqueue", "topic": "Not for theirs"},
    ],
}


@dataclass(frozen=True)
class Theirs:
    """Their database as its owner has it, and the settings by which the workbench reads it."""

    owner: Database
    settings: Settings

    def digest(self) -> tuple[str, str, list[Any]]:
        """Their schema as pg_dump writes it, their rows, and how many rows were ever written."""
        with self.owner.transaction(read_only=True) as transaction:
            tables = transaction.rows(
                "SELECT format('%%I.%%I', schemaname, relname) AS title, n_tup_ins, n_tup_upd, n_tup_del"
                " FROM pg_stat_user_tables ORDER BY 1"
            )
            rows = [
                transaction.value(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table.title.replace('%', '%%')} AS t")
                for table in tables
            ]  # fmt: skip
        return schema_of(self.owner), str(rows), tables


def schema_of(database: Database) -> str:
    text = dumped(database, "--schema-only")
    # A random word that guards the dump against its own contents.
    return "\n".join(line for line in text.splitlines() if "restrict " not in line)


@pytest.fixture(params=["uuid keys", "bigint keys", "bare"])
def theirs(
    request: pytest.FixtureRequest,
    new_database: Callable[..., Database],
    database: Database,
    tmp_path: Path,
    running_sandbox: RunningSandbox,
) -> Iterator[Theirs]:
    shape = {"uuid keys": UUID_KEYS, "bigint keys": BIGINT_KEYS, "bare": BARE}[request.param]
    owner = shape.make(new_database)
    role = f"reader_{uuid.uuid4().hex[:12]}"
    given = {
        "runbook_mapping": shape.write_mapping(tmp_path),
        "runbook_database_url": database.url,
        "runbook_home": tmp_path / "home",
        "openai_api_key": running_sandbox.api_key,
        "openai_base_url": f"{running_sandbox.url}/v1",
        "wordpress_url": running_sandbox.url,
        "wordpress_user": running_sandbox.user,
        "wordpress_app_password": running_sandbox.app_password,
    }
    with ExitStack() as stack:
        let_read(owner, role, Settings(**given, database_url=owner.url))
        stack.callback(forget, owner, role)
        url = as_role(owner, role)
        if PGBOUNCER is not None:
            url = stack.enter_context(pooler(url, tmp_path))
        yield Theirs(owner, Settings(**given, database_url=url))


def let_read(owner: Database, role: str, settings: Settings) -> None:
    """Their owner turns row-level security on, and runs exactly the script that is printed."""
    with owner.transaction() as transaction:
        transaction.run(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'")
        for row in transaction.rows("SELECT oid::regclass::text AS title FROM pg_class WHERE relkind = 'r' AND relnamespace::regnamespace::text IN ('public', 'press')"):  # fmt: skip
            transaction.run(f"ALTER TABLE {row.title.replace('%', '%%')} ENABLE ROW LEVEL SECURITY")
    script = reading_grants(settings, role)
    with owner.transaction() as transaction:
        for statement in script:
            transaction.run(statement.replace("%", "%%")) if statement[:2] != "--" else None


def forget(owner: Database, role: str) -> None:
    with owner.transaction() as transaction:
        transaction.run(f"DROP OWNED BY {role}")
        transaction.run(f"DROP ROLE {role}")


def test_every_function_check_and_figure_answers_and_theirs_stays_as_it_was(
    theirs: Theirs,
) -> None:
    before = theirs.digest()
    with open_context(theirs.settings) as context:
        ask_every_function(context)
        ask_every_check(context)
        ask_every_figure(context)
        ask_the_review(context)
    assert theirs.digest() == before


def ask_every_function(context: Context) -> None:
    for name in FUNCTIONS:
        for data in [None, {}, *MORE_QUESTIONS.get(name, [])]:
            method = "GET" if data is None else "POST"
            answer = call(name, data, method=method, context=context, actor="ana")
            told = json.dumps(answer.body)
            # health is 503 when something is critical; what would write there is refused in words.
            assert answer.status in ((200, 503) if name == "health" else (200, 400)), (name, told)
            assert_answered((name, data), told)
            if answer.status == 400:
                assert "not ours" in told, (name, data, told)


def ask_every_check(context: Context) -> None:
    found = survey(context, deadline_seconds=60)
    for declared in DECLARED:
        answered = [check for check in found.checks if check.name in declared.names]
        assert answered, declared.name
        lacking = context.sources.missing(declared.needs)
        for check in answered:
            assert_answered(check.name, json.dumps(check.masked(), default=str))
            assert not lacking or check.verdict == "not_enough_data", check
    assert found.named("database.reachable").verdict == "ok"  # type: ignore[union-attr]


def ask_every_figure(context: Context) -> None:
    history = History(context)
    now = datetime.now(UTC)
    long_ago = datetime(2026, 6, 1, tzinfo=UTC)
    days = (now - long_ago).days + 1
    questions: dict[str, Callable[[], Any]] = {
        "by_day": lambda: history.by_day(days, "Europe/Berlin"),
        "by_hour": lambda: history.by_hour(48, "Asia/Kolkata"),
        "durations": lambda: [history.durations(long_ago, now, by) for by in ("stage", "model", "provider")],
        "failures": lambda: history.failures(long_ago, now),
        "queue": lambda: history.queue(),
        "cost": lambda: history.cost(days),
        "stored_runs": lambda: history.stored_runs(),
        "as_json": lambda: json.dumps(history.as_json(days)),
    }  # fmt: skip
    asked = {name: ask() for name, ask in questions.items()}
    assert history.as_of.problem is None
    assert asked["by_day"]["completed"].sum() in (40, 10)
    assert asked["failures"]["attempts"].sum() in (5, 10)
    public = {name for name in dir(History) if not name.startswith("_")} - {
        "close",
        "refresh",
        "now",
    }
    assert public <= questions.keys(), "a new question: ask it here"
    history.close()


def ask_the_review(context: Context) -> None:
    review = performance_review(context.sources, days=30, time_zone="Europe/Berlin")
    assert review.problem is None
    assert_answered("review", repr(review))


def assert_answered(what: Any, told: str) -> None:
    for sign in ("Traceback", "itself failed", "does not exist", "not as RUNBOOK_MAPPING"):
        assert sign not in told, (what, told)


def test_the_weekly_review_runs_as_a_procedure_and_is_filed_in_our_own_tables(
    new_database: Callable[..., Database],
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", UUID_KEYS.make(new_database).url)
    monkeypatch.setenv("RUNBOOK_DATABASE_URL", database.url)
    monkeypatch.setenv("RUNBOOK_MAPPING", str(UUID_KEYS.write_mapping(tmp_path)))
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "weekly/performance_review", "-p", "days=4", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert (ended.value.code, answer["status"]) == (0, "succeeded")
    assert answer["results"]["problem"] is None
    assert answer["results"]["attempts"] == {"completed": 40, "error": 5}
    assert answer["results"]["durations"]["whole"]["p50_seconds"] == 120
    with database.transaction(read_only=True) as transaction:
        assert transaction.value("SELECT count(*) FROM notebook_runs") == 1


def test_commands_that_need_a_pipeline_of_our_own_are_refused_in_words(
    new_database: Callable[..., Database],
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", UUID_KEYS.make(new_database).url)
    monkeypatch.setenv("RUNBOOK_DATABASE_URL", database.url)
    monkeypatch.setenv("RUNBOOK_MAPPING", str(UUID_KEYS.write_mapping(tmp_path)))
    topics = tmp_path / "topics.csv"
    topics.write_text("topic\nA topic\n")
    for arguments in (
        ("jobs", "add", str(topics)),
        ("jobs", "list"),
        ("jobs", "retry", "--where", "class=openai_timeout"),
        ("pause", "openai", "--reason", "test"),
        ("resume", "openai"),
        ("limits", "show"),
        ("posts", "unpublish", "--since", "1h"),
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
        assert (ended.value.code, "not ours" in capsys.readouterr().err) == (2, True), arguments
    worker = subprocess.run(
        [sys.executable, "worker.py", "--until-empty"], capture_output=True, text=True, check=False
    )
    assert (worker.returncode, "not ours" in worker.stderr) == (2, True), worker.stderr
