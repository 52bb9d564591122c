"""The functions by name: the same answer everywhere, GET reads, wrong use is told, health always answers."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from fault_server import FaultServer, refused_port, stall
from running_sandbox import RunningSandbox

from runbook_lib import functions
from runbook_lib.database import Database
from runbook_lib.functions import FUNCTIONS, Answer, call, required_scope
from runbook_lib.functions.addresses import curl_line
from runbook_lib.health.context import Context, open_context
from runbook_lib.health.statement_history import difference, statement_times
from runbook_lib.settings import PROJECT_DIRECTORY, Settings, environment_without_callers

NAMES = [
    "health", "monitoring", "metrics", "sweeper", "openai-failure-test", "wordpress-test",
    "performance-monitor", "content-automation",
]  # fmt: skip
EXPIRED = (
    "INSERT INTO content_jobs (topic, status, worker, attempt, lease_until)"
    " VALUES ('left', 'processing', 'gone', 1, now() - interval '1 minute'),"
    " ('held', 'processing', 'here', 1, now() + interval '1 hour')"
)


@pytest.fixture
def context(settings: Settings) -> Iterator[Context]:
    with open_context(settings) as opened:
        yield opened


@pytest.fixture
def at_sandbox(context: Context, running_sandbox: RunningSandbox) -> Context:
    given = Settings(
        openai_api_key=running_sandbox.api_key,
        openai_base_url=f"{running_sandbox.url}/v1",
        wordpress_url=running_sandbox.url,
        wordpress_user=running_sandbox.user,
        wordpress_app_password=running_sandbox.app_password,
    )
    named = {name: value for name, value in given if name.startswith(("openai", "wordpress"))}
    return replace(context, settings=context.settings.model_copy(update=named))


def ask(context: Context, name: str, data: Any = None, method: str = "POST") -> Answer:
    return call(name, data, method=method, context=context, actor="ana")


def run_sql(database: Database, *statements: str) -> None:
    with database.transaction() as transaction:
        for statement in statements:
            transaction.run(statement)


def value(database: Database, statement: str) -> Any:
    with database.transaction() as transaction:
        return transaction.value(statement)


# which there are, and what they take


def test_the_eight_functions_of_the_runbook_are_there() -> None:
    assert list(FUNCTIONS) == NAMES
    assert functions.FUNCTIONS is FUNCTIONS


@pytest.mark.parametrize(
    ("name", "data", "status", "words"),
    [
        ("sweepr", {}, 404, "Did you mean sweeper?"),
        ("sweeper", {"dryrun": True}, 400, "Did you mean dry_run?"),
        ("sweeper", {"dry_run": "perhaps"}, 400, "dry_run"),
        ("health", {"x": 1}, 400, "takes no options"),
        ("metrics", {"days": 0}, 400, "days"),
        ("metrics", {"time_zone": "Mars/Olympus"}, 400, "is no time zone"),
        ("performance-monitor", {"hours": "many"}, 400, "hours"),
        ("content-automation", {"action": "enque", "topic": "x"}, 400, "Did you mean enqueue?"),
        ("content-automation", {"action": "enqueue"}, 400, "enqueue needs a topic"),
        ("content-automation", {"action": "status", "topic": "x"}, 400, "topic does not belong"),
        ("content-automation", {"job_id": "17"}, 404, "job id"),
        ("content-automation", {"job_id": "00000000-0000-4000-8000-000000000000"}, 404, "no job"),
    ],
)
def test_wrong_use_is_told_in_words(
    context: Context, name: str, data: dict[str, Any], status: int, words: str
) -> None:
    answer = ask(context, name, data)
    assert answer.status == status
    assert words in answer.body["error"]


def test_what_changes_or_costs_needs_the_write_scope_and_a_post(context: Context) -> None:
    changing: list[tuple[str, dict[str, Any]]] = [
        ("sweeper", {}),
        ("content-automation", {"action": "enqueue", "topic": "x"}),
        ("openai-failure-test", {"write": True}),
        ("wordpress-test", {"write": True}),
    ]
    for name, data in changing:
        assert required_scope(name, "POST", data) == "write"
        assert required_scope(name, "GET", data) == "read"
    for name, data in changing[1:]:
        assert ask(context, name, data, "GET").status == 405
    reading: list[tuple[str, dict[str, Any]]] = [
        *((name, {}) for name in NAMES if name != "sweeper"),
        ("sweeper", {"dry_run": True}),
        ("content-automation", {"action": "test_credentials"}),
        ("sweepr", {}),
    ]
    assert {required_scope(name, "POST", data) for name, data in reading} == {"read"}
    assert ask(context, "health", {}, "DELETE").status == 405


# the sweeper


def test_the_sweeper_takes_back_what_expired_and_nothing_else(
    context: Context, database: Database
) -> None:
    run_sql(database, EXPIRED)
    swept = ask(context, "sweeper", {}).body
    assert (swept["swept"], swept["jobs"][0]["worker"]) == (1, "gone")
    assert value(database, "SELECT string_agg(topic, ',') FROM content_jobs WHERE status = 'processing'") == "held"  # fmt: skip
    assert value(database, "SELECT status FROM job_runs") == "lost"
    assert value(database, "SELECT actor FROM admin_actions WHERE action = 'sweep' AND outcome = 'done'") == "ana"  # fmt: skip
    assert value(database, "SELECT kind FROM events WHERE job_id IS NOT NULL") == "lease_expired"


@pytest.mark.parametrize(("data", "method"), [({}, "GET"), (None, "GET"), ({"dry_run": True}, "POST")])  # fmt: skip
def test_a_look_at_the_sweeper_changes_nothing(
    context: Context, database: Database, data: Any, method: str
) -> None:
    run_sql(database, EXPIRED)
    before = value(database, "SELECT json_agg(j ORDER BY job_id)::text FROM content_jobs AS j")
    found = ask(context, "sweeper", data, method).body
    assert found["dry_run"] is True
    assert [row["topic"] for row in found["would_sweep"]] == ["left"]
    assert value(database, "SELECT json_agg(j ORDER BY job_id)::text FROM content_jobs AS j") == before  # fmt: skip
    assert value(database, "SELECT count(*) FROM admin_actions") == 0


# content-automation


def test_a_topic_is_added_once_and_its_job_can_be_followed(
    context: Context, database: Database
) -> None:
    given = {"action": "enqueue", "topic": "Bees in winter", "category": "Nature"}
    added = ask(context, "content-automation", given).body
    again = ask(context, "content-automation", given)
    assert again.status == 409
    assert again.body["job_id"] == added["job_id"]
    status = ask(context, "content-automation", {"job_id": added["job_id"]}, "GET").body
    assert (status["job"]["topic"], status["job"]["created_by"]) == ("Bees in winter", "ana")
    assert ask(context, "content-automation", {}, "GET").body["jobs"]["due_write"] == 1


# figures


def test_the_figures_hold_what_the_history_holds(context: Context, database: Database) -> None:
    run_sql(
        database,
        "INSERT INTO job_runs (job_id, attempt, status, started_at, completed_at, write_seconds, publish_seconds, model, execution_time)"
        " SELECT gen_random_uuid(), 1, 'completed', now() - interval '10 seconds', now(), 6, 3, 'gpt-4o-mini', now()"
        " FROM generate_series(1, 30)",
        "INSERT INTO job_runs (job_id, attempt, status, error_class) VALUES (gen_random_uuid(), 1, 'error', 'openai_timeout')",
    )
    metrics = ask(context, "metrics", {"days": 3}, "GET").body
    assert [day["completed"] for day in metrics["days"]][-1] == 30
    assert len(metrics["days"]) == 3
    monitoring = ask(context, "monitoring").body
    assert {"verdict", "checks", "figures"} <= monitoring.keys()
    times = ask(context, "performance-monitor", {"hours": 2}).body
    stages = {row["stage"]: row for row in times["stages"]}
    assert stages["writing"]["attempts"] == 30
    assert stages["writing"]["p95_seconds"] == pytest.approx(6, rel=0.1)
    assert stages["own"]["p50_seconds"] == pytest.approx(1, rel=0.1)
    assert times["models"][0]["model"] == "gpt-4o-mini"
    assert {row["provider"] for row in times["providers"]} >= {"openai", "wordpress"}
    assert times["statements"]["verdict"] == "not_enough_data"
    assert "not installed" in times["statements"]["message"]
    json.dumps([metrics, monitoring, times], allow_nan=False)


def test_an_empty_history_has_no_rate_and_no_percentile(context: Context) -> None:
    metrics = ask(context, "metrics", {}, "GET").body
    assert {day["success_percent"] for day in metrics["days"]} == {None}
    assert ask(context, "performance-monitor").body["stages"] == []


# statements


def test_statement_times_are_differences_and_survive_an_eviction() -> None:
    before = {"a": (10, 100.0, 1000.0, 10), "b": (500, 50.0, 5.0, 500), "c": (1, 1.0, 1.0, 1)}
    now = {"a": (30, 400.0, 5500.0, 30), "b": (2, 100.0, 5000.0, 2), "c": (1, 1.0, 1.0, 1)}
    first, second = difference(now, before)
    assert (first["statement"], first["calls"], first["total_milliseconds"]) == ("a", 20, 300.0)
    assert (first["mean_milliseconds"], first["share_percent"]) == (15.0, 75.0)
    assert (
        first["p50_milliseconds"] <= 15.0 <= first["p95_milliseconds"] <= first["p99_milliseconds"]
    )
    # Evicted and counted anew: from zero, not negative.
    assert (second["statement"], second["calls"]) == ("b", 2)


def test_statements_are_counted_since_the_last_snapshot_and_never_reset(
    context: Context, new_database: Callable[..., Database]
) -> None:
    counting = new_database(migrated=False)
    if not value(counting, "SELECT current_setting('shared_preload_libraries') ~ 'pg_stat_statements'"):  # fmt: skip
        pytest.skip("this server did not load pg_stat_statements")
    run_sql(counting, "CREATE SCHEMA extensions", "CREATE EXTENSION pg_stat_statements SCHEMA extensions")  # fmt: skip
    watched = replace(context, sources=replace(context.sources, pipeline=counting))
    run_sql(counting, "SELECT 'canary', 1")
    first = statement_times(watched, 24)
    assert first.verdict == "ok", first.message
    run_sql(counting, *["SELECT 'canary', 2, 3"] * 3)
    second = statement_times(watched, 24)
    found = {row["query"]: row["calls"] for row in second.statements}
    assert found["SELECT $1, $2, $3"] == 3
    assert "SELECT $1, $2" not in found
    name = f"onlooker_{uuid.uuid4().hex[:8]}"
    run_sql(counting, f"CREATE ROLE {name} LOGIN PASSWORD 'ordinary'")
    try:
        run_sql(counting, f"GRANT USAGE ON SCHEMA extensions TO {name}")
        assert "ordinary" not in json.dumps(statement_times(watched, 24).statements)
        url = urlsplit(counting.url)
        onlooker = Database(f"postgresql://{name}:ordinary@{url.hostname}:{url.port}{url.path}")
        hidden = statement_times(
            replace(context, sources=replace(context.sources, pipeline=onlooker)), 24
        )
        assert hidden.verdict == "not_allowed" or "hidden" in hidden.message
    finally:
        run_sql(counting, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


# providers


def test_a_test_of_the_providers_costs_and_writes_nothing_unless_asked(
    at_sandbox: Context, running_sandbox: RunningSandbox, database: Database
) -> None:
    for name in ("openai-failure-test", "wordpress-test"):
        assert ask(at_sandbox, name).body["verdict"] in ("ok", "warning")
    methods = {entry["method"] for entry in running_sandbox.control.journal()}
    assert methods == {"GET"}
    paid = ask(at_sandbox, "openai-failure-test", {"write": True}).body["checks"][-1]
    assert (paid["name"], paid["verdict"]) == ("openai.completion", "ok")
    assert value(database, "SELECT requests FROM provider_usage WHERE provider = 'openai'") == 1
    draft = ask(at_sandbox, "wordpress-test", {"write": True}).body["checks"][-1]
    assert (draft["name"], draft["verdict"]) == ("wordpress.draft", "ok")
    left = running_sandbox.wordpress("GET", f"/wp/v2/posts/{draft['value']}").json()
    assert left["status"] == "trash"


def test_a_refused_credential_is_named(at_sandbox: Context) -> None:
    wrong = at_sandbox.settings.model_copy(
        update={
            "openai_api_key": Settings(openai_api_key="sk-proj-canary0123456789").openai_api_key
        }
    )
    answer = ask(
        replace(at_sandbox, settings=wrong), "content-automation", {"action": "test_credentials"}
    )
    verdicts = {check["name"]: check["verdict"] for check in answer.body["checks"]}
    assert (verdicts["openai.key"], verdicts["wordpress.login"]) == ("critical", "ok")
    assert "canary" not in json.dumps(answer.body)


# health, and the command


@pytest.mark.parametrize("state", ["down", "hung"])
def test_health_answers_503_without_a_database(settings: Settings, state: str) -> None:
    with FaultServer(stall) as hung:
        port = refused_port() if state == "down" else hung.port
        down = Settings(
            database_url=f"postgresql://u:p@127.0.0.1:{port}/x", runbook_home=settings.runbook_home
        )
        with open_context(down, require_schema=False) as context:
            answer = ask(context, "health", None, "GET")
    assert (answer.status, answer.body["status"]) == (503, "critical")
    assert answer.body["checks"][0]["name"] == "database.reachable"


def run(*arguments: str, database: Database, home: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runbook_lib.cli", "function", *arguments],
        cwd=PROJECT_DIRECTORY,
        env={**environment_without_callers(home), "DATABASE_URL": database.url},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_reads_without_data_and_acts_with_it(
    database: Database, settings: Settings
) -> None:
    run_sql(database, EXPIRED)
    place = {"database": database, "home": settings.runbook_home}
    seen = run("sweeper", "--json", **place)
    assert (seen.returncode, json.loads(seen.stdout)["dry_run"]) == (0, True)
    done = run("sweeper", "--data", "{}", "--actor", "ana", "--json", **place)
    assert (done.returncode, json.loads(done.stdout)["swept"]) == (0, 1)
    wrong = run("sweper", "--json", **place)
    assert wrong.returncode == 2


def test_the_curl_line_names_the_token_and_never_shows_it() -> None:
    settings = Settings(
        runbook_read_token="canary-read", runbook_write_token="canary-write",
        runbook_public_url="https://ops.example/",
    )  # fmt: skip
    read = curl_line(settings, "metrics", None, "GET")
    write = curl_line(settings, "sweeper", {}, "POST")
    assert "$RUNBOOK_READ_TOKEN" in read
    assert "https://ops.example/functions/v1/metrics" in read
    assert "$RUNBOOK_WRITE_TOKEN" in write
    assert "canary" not in read + write
