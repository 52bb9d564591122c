"""What the doctor says of a mapping, the grants that are printed, where our own tables go, and a sweep by theirs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from foreign_pipeline import BIGINT_KEYS, NO_HISTORY, UUID_KEYS, Shape, as_role, attached_settings
from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from runbook_lib import changes, cli, known_secrets
from runbook_lib.database import Database
from runbook_lib.errors import ConfigurationError, CouldNotBeDone, PlanRefused, UsageError
from runbook_lib.health import remote_sweeper
from runbook_lib.health.checks import Check
from runbook_lib.health.doctor import examine
from runbook_lib.health.grants import reading_grants
from runbook_lib.health.mapping_reader import read_mapping
from runbook_lib.health.needs import answers, as_markdown
from runbook_lib.health.probes.configuration import Configuration
from runbook_lib.health.probes.mapping import probe_mapping
from runbook_lib.health.relations import require_known
from runbook_lib.settings import PROJECT_DIRECTORY, Settings, load_settings
from runbook_lib.workbench.programs import lasting_programs

NewDatabase = Callable[..., Database]
KEY = "service-role-key-of-theirs"


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = f"reader_{uuid.uuid4().hex[:12]}"
    with database.transaction() as transaction:
        transaction.run(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
    yield name
    with database.transaction() as transaction:
        transaction.run(f"DROP ROLE {name}")


def examined(settings: Settings) -> dict[str, Check]:
    return {check.name: check for check in probe_mapping(settings)}


def test_a_mapping_that_fits_is_said_to_with_what_its_missing_columns_cost(
    new_database: NewDatabase, database: Database, tmp_path: Path
) -> None:
    found = examined(attached_settings(UUID_KEYS.make(new_database), UUID_KEYS, tmp_path, database))
    assert {check.verdict for check in found.values()} == {"ok"}
    assert found["mapping.rights"].value == 14
    costs = found["mapping.columns"].value["costs"]
    assert costs["durations of publishing"] == ["runs.publish_seconds"]
    assert "the runbook's stuck jobs" not in costs
    assert "jobs.lease_until" in found["mapping.columns"].value["missing"]
    assert database.address in found["mapping.own_tables"].message


def test_words_that_nobody_mapped_are_named_and_a_pipeline_without_history_is_said_to_be_one(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    mapping = BIGINT_KEYS.mapping.replace(r'left_out = ["needs \"review\""]', "")
    shape = Shape(BIGINT_KEYS.tables, mapping)
    found = examined(attached_settings(shape.make(new_database), shape, tmp_path))
    assert found["mapping.words_of_jobs"].verdict == "warning"
    assert found["mapping.words_of_jobs"].value == ['needs "review"']
    assert found["mapping.words_of_runs"].verdict == "ok"
    assert "embedded PostgreSQL" in found["mapping.own_tables"].message
    assert not (tmp_path / "home").exists()
    without = attached_settings(NO_HISTORY.make(new_database), NO_HISTORY, tmp_path)
    assert "earlier ones are invisible" in examined(without)["mapping.file"].message


def test_rights_and_rows_that_are_missing_are_said_and_the_printed_grants_are_enough(
    new_database: NewDatabase, database: Database, tmp_path: Path, role: str
) -> None:
    theirs = UUID_KEYS.make(new_database)
    with theirs.transaction() as transaction:
        transaction.run("ALTER TABLE press.orders ENABLE ROW LEVEL SECURITY")
    settings = attached_settings(theirs, UUID_KEYS, tmp_path, database)
    script = reading_grants(settings, role)
    assert script[:5] == [
        f"GRANT CONNECT ON DATABASE {theirs.url.rpartition('/')[2]} TO {role};",
        f"GRANT USAGE ON SCHEMA press TO {role};",
        f"GRANT SELECT (uuid, headline, section, state, failure, tries, ordered, picked_up, done) ON press.orders TO {role};",
        f"GRANT SELECT (order_uuid, outcome, ended, began, message) ON press.attempts TO {role};",
        "-- Row-level security is on for press.orders: without a policy the role sees no row, and no error.",
    ]
    assert script[5] == f"CREATE POLICY runbook_reads ON press.orders FOR SELECT TO {role} USING (true);"  # fmt: skip
    assert script[-1] == f"-- GRANT pg_monitor TO {role};"
    reader = settings.model_copy(update={"database_url": SecretStr(as_role(theirs, role))})
    before = examined(reader)
    assert before["mapping.rights"].verdict == "not_allowed"
    assert "press.attempts.outcome" in before["mapping.rights"].message
    with theirs.transaction() as transaction:
        for statement in script:
            transaction.run(statement) if not statement.startswith("--") else None
    after = examined(reader)
    assert after["mapping.rights"].verdict == "ok"
    assert after["mapping.row_security"].value == ["press.orders"]
    with theirs.transaction() as transaction:
        transaction.run(f"DROP OWNED BY {role}")


def test_doctor_examines_theirs_as_theirs(
    new_database: NewDatabase, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No table of ours is missed there, and that nothing can be written there is well."""
    settings = attached_settings(UUID_KEYS.make(new_database), UUID_KEYS, tmp_path, database)
    set_environment(monkeypatch, settings)
    examination = examine(Configuration.of_this_process(None))
    names = {check.name for check in examination.checks}
    assert {"mapping.file", "database.only_read", "database.connections_of_server"} <= names
    assert not {"database.tables", "database.rights", "database.writable"} & names
    assert examination.exit_status == 0


def set_environment(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    for name in ("database_url", "runbook_database_url", "runbook_functions_key"):
        if (secret := getattr(settings, name)) is not None:
            monkeypatch.setenv(name.upper(), secret.get_secret_value())
    monkeypatch.setenv("RUNBOOK_MAPPING", str(settings.runbook_mapping))
    load_settings.cache_clear()


def test_our_tables_are_made_in_a_schema_of_their_own_and_never_in_theirs(
    new_database: NewDatabase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    theirs = NO_HISTORY.make(new_database)
    set_environment(monkeypatch, attached_settings(theirs, NO_HISTORY, tmp_path))
    # Another address of the same database.
    monkeypatch.setenv("RUNBOOK_DATABASE_URL", f"{theirs.url}?connect_timeout=7")
    assert run(capsys, "db", "migrate") == (2, "")
    monkeypatch.delenv("RUNBOOK_DATABASE_URL")
    monkeypatch.setenv("RUNBOOK_DATABASE_SCHEMA", "ops")
    assert run(capsys, "db", "migrate", "--json")[0] == 0
    status = json.loads(run(capsys, "db", "status", "--json")[1])
    assert (status["attached_to"], status["address"]) == (theirs.address, theirs.address)
    assert (status["schema"], status["schema_current"]) == ("ops", True)
    with theirs.transaction(read_only=True) as transaction:
        assert transaction.rows("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'") == [("article_queue",)]  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    load_settings.cache_clear()
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    return int(ended.value.code or 0), capsys.readouterr().out


def test_their_sweeper_is_called_once_and_what_became_of_each_job_is_recorded(
    new_database: NewDatabase,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    httpserver: HTTPServer,
) -> None:
    theirs = UUID_KEYS.make(new_database)
    settings = attached_settings(theirs, UUID_KEYS, tmp_path, database)
    set_environment(monkeypatch, settings)
    monkeypatch.setenv("RUNBOOK_FUNCTIONS_URL", httpserver.url_for("/functions/v1"))
    monkeypatch.setenv("RUNBOOK_FUNCTIONS_KEY", KEY)
    load_settings.cache_clear()
    called: list[str | None] = []

    def sweep(request: Request) -> Response:
        called.append(request.headers.get("Authorization"))
        with theirs.transaction() as transaction:
            transaction.run("UPDATE press.orders SET state = 'in tray', picked_up = NULL WHERE state = 'at the desk'")  # fmt: skip
        return Response(f'{{"swept": 2, "token": "{KEY}"}}', content_type="application/json")

    httpserver.expect_request("/functions/v1/sweeper", method="POST").respond_with_handler(sweep)
    remote_sweeper.RemoteSweep()  # the module registers it
    plan = changes.plan(database, "sweeper.call", {"older_than_seconds": "1800"}, actor="ana")
    assert plan.row_count == 2
    assert plan.sample[0]["note"] == "may still be running"
    assert "$RUNBOOK_FUNCTIONS_KEY" in plan.parameters["call"]
    assert httpserver.url_for("/functions/v1/sweeper") in plan.parameters["call"]
    assert changes.apply(database, plan.change_id, actor="ana").left == 2
    assert called == []
    result = changes.apply(database, plan.change_id, actor="ana", dry_run=False, reason="stuck")
    assert (result.changed, result.failed, called) == (2, 0, [f"Bearer {KEY}"])
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows("SELECT before, after FROM change_rows")
        kept = str(transaction.rows("SELECT * FROM changes")) + str(rows)
    assert [(row.before["status"], row.after["status"]) for row in rows] == [("processing", "pending")] * 2  # fmt: skip
    assert rows[0].after["http_status"] == 200
    assert KEY not in kept
    assert KEY not in repr(plan)
    with pytest.raises(PlanRefused):
        changes.apply(database, plan.change_id, actor="ana", dry_run=False)


def test_a_sweeper_that_refuses_or_is_not_there_is_said_in_words(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/sweeper").respond_with_data("no such key", status=401)
    url = httpserver.url_for("").rstrip("/")
    known_secrets.register(KEY)
    with pytest.raises(CouldNotBeDone, match=r"answered 401: no such key.*RUNBOOK_FUNCTIONS_KEY"):
        remote_sweeper.call_sweeper(Settings(runbook_functions_url=url, runbook_functions_key=KEY))
    with pytest.raises(CouldNotBeDone, match="It was not called"):
        remote_sweeper.call_sweeper(Settings(runbook_functions_url="http://127.0.0.1:1"))
    with pytest.raises(ConfigurationError, match="RUNBOOK_FUNCTIONS_URL is not set"):
        remote_sweeper.sweeper_url(Settings())


def test_no_worker_is_kept_running_beside_a_pipeline_that_has_its_own(tmp_path: Path) -> None:
    theirs = Settings(database_url="postgresql://db/x", runbook_mapping=tmp_path / "mapping.toml")
    names = [program.name for program in lasting_programs(Settings())]
    assert [program.name for program in lasting_programs(theirs)] == names[1:]
    assert names[0] == "worker"


def test_a_nonsensical_age_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_FUNCTIONS_URL", "http://127.0.0.1:1")
    load_settings.cache_clear()
    with pytest.raises(UsageError, match="above 0"):
        remote_sweeper.RemoteSweep().check({"older_than_seconds": "-5"})


def test_the_page_says_what_works_with_which_columns() -> None:
    page = (PROJECT_DIRECTORY / "docs" / "adopting.md").read_text("utf-8")
    begin, end = page.index("<!-- needs:"), page.index("<!-- /needs -->")
    table = page[begin:end].split("-->", 1)[1].strip()
    assert table == as_markdown(), "put what as_markdown() gives between the two comments"


def test_what_the_mapping_file_of_the_page_says_is_read(tmp_path: Path) -> None:
    page = (PROJECT_DIRECTORY / "docs" / "adopting.md").read_text("utf-8")
    example = page.partition("```toml\n")[2].partition("```")[0]
    mapping = read_mapping(Shape("", example).write_mapping(tmp_path))
    assert mapping.jobs.words["at the desk"] == "processing"


def test_every_declared_need_is_in_the_vocabulary() -> None:
    for answer in answers().values():
        require_known(list(answer.needs))
