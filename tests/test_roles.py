"""Roles with the least that they need: enough for their work, and nothing beyond it."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.errors
import pytest
from pydantic import SecretStr
from roles import MakeRole, name_of
from running_sandbox import RunningSandbox

from runbook_lib import changes
from runbook_lib.changes import admin_action
from runbook_lib.cli import main
from runbook_lib.database import Database, roles, schema
from runbook_lib.database.statements import SQL_DIRECTORY, Statement, load
from runbook_lib.health.checks import Check
from runbook_lib.health.context import open_context
from runbook_lib.health.probes.database import probe_database
from runbook_lib.health.sources import Sources
from runbook_lib.pipeline.options import WorkerOptions
from runbook_lib.pipeline.providers import resolve_providers
from runbook_lib.pipeline.reporting import Reporter
from runbook_lib.pipeline.service import make_worker
from runbook_lib.settings import Settings, load_settings
from runbook_lib.triage.diagnosis import diagnose_context
from runbook_lib.triage.evidence import ask

WRITING = re.compile(r"\b(INSERT INTO|UPDATE\s+\w+\s+(AS\s+\w+\s+)?SET|DELETE FROM|FOR (NO KEY )?(UPDATE|SHARE)|CREATE|DO \$|LOCK)\b", re.I)  # fmt: skip
# They need more than reading by what they are: a lock of ours, a function that writes, another's catalogue.
GIVEN_UP_SECONDS = 60
BIND = re.compile(r"%[(]\w+[)]s")
NOT_READING = re.compile(r"make_job_runs_partitions|drop_repeated|advisory|set_config|pg_notify|nextval|\bvault\.|pg_cancel|pg_terminate|pg_ls_waldir|pg_stat_reset|pg_reload_conf")  # fmt: skip


def granted(database: Database, make_role: MakeRole, purpose: str) -> Database:
    """A role of this purpose, by the command."""
    role = make_role()
    apply(database, name_of(role), purpose)
    return role


def apply(database: Database, role: str, purpose: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", database.url)
        load_settings.cache_clear()
        with pytest.raises(SystemExit) as ended:
            main(["db", "grants", role, "--as", purpose, "--apply", "--actor", "ana"])
    load_settings.cache_clear()
    return int(str(ended.value.code))


def privileges(database: Database, role: str) -> dict[str, frozenset[str]]:
    names = [*schema.tables(), "runbook_schema_version"]
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows(load("roles")["rights_on_tables"], schemas=["public"] * len(names), tables=names)  # fmt: skip
    return {row.table_name: frozenset(row.privileges) for row in rows if row.role == role}


@pytest.mark.parametrize("purpose", roles.PURPOSES)
def test_a_role_has_what_its_purpose_needs_and_loses_what_it_had_beyond(
    database: Database, make_role: MakeRole, purpose: str
) -> None:
    role = make_role("GRANT ALL ON archive_entries, articles, alerts TO {role}")
    assert apply(database, name_of(role), purpose) == 0
    found = privileges(database, name_of(role))
    assert found.pop("runbook_schema_version") == {"SELECT"}
    assert found == roles.needed(purpose)
    assert roles.purpose_of(found) == purpose
    with database.transaction(read_only=True) as transaction:
        (action,) = transaction.rows("SELECT actor, outcome, target FROM admin_actions")
    assert action == ("ana", "done", f"{name_of(role)} as {purpose}")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege), role.transaction() as transaction:
        transaction.run("DROP TABLE articles")


@pytest.mark.parametrize("purpose", roles.PURPOSES)
def test_a_role_that_has_what_is_printed_lacks_nothing_by_doctor_and_triage(
    database: Database, make_role: MakeRole, settings: Settings, purpose: str
) -> None:
    role = granted(database, make_role, purpose)
    rights = {check.name: check for check in doctor_checks(role)}["database.rights"]
    assert (rights.verdict, rights.message) == ("ok", f"This role has every right that {roles.titled(purpose)} needs.")  # fmt: skip
    given = settings.model_copy(update={"database_url": SecretStr(role.url)})
    assert ask(load("triage")["rights_of_workers"], given).rows == ()
    with open_context(given, require_schema=False) as context:
        assert "database-grant-revoked" not in [each.cause.id for each in diagnose_context(context).causes]  # fmt: skip


def test_each_right_that_a_worker_has_is_missed_when_it_is_revoked(
    database: Database, make_role: MakeRole, settings: Settings
) -> None:
    role = granted(database, make_role, "worker")
    given = settings.model_copy(update={"database_url": SecretStr(role.url)})
    missed = {}
    for table, wanted in roles.WORKER.items():
        for privilege in sorted(wanted):
            change(database, f"REVOKE {privilege} ON {table} FROM {name_of(role)}")
            rows = ask(load("triage")["rights_of_workers"], given).rows
            missed[table, privilege] = [(row["role"], row["relation"], row["privilege"]) for row in rows]  # fmt: skip
            change(database, f"GRANT {privilege} ON {table} TO {name_of(role)}")
    assert missed == {key: [(name_of(role), *key)] for key in missed}
    assert len(missed) == sum(len(wanted) for wanted in roles.WORKER.values())
    change(database, f"REVOKE UPDATE ON content_jobs FROM {name_of(role)}")
    rights = {check.name: check for check in doctor_checks(role)}["database.rights"]
    assert (rights.verdict, rights.message) == ("critical", "This role lacks UPDATE on content_jobs, which a worker needs.")  # fmt: skip
    assert rights.next == "`runbook db grants ROLE --as worker` prints what the owner has to run."


@pytest.mark.parametrize(
    "lost",
    [
        "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}",
        "REVOKE USAGE ON SCHEMA public FROM PUBLIC, {}",
    ],
)
def test_a_role_that_lost_everything_is_told_of_its_rights_and_not_to_migrate(
    database: Database, make_role: MakeRole, settings: Settings, lost: str
) -> None:
    role = granted(database, make_role, "worker")
    change(database, lost.format(name_of(role)))
    given = settings.model_copy(update={"database_url": SecretStr(role.url)})
    with open_context(given, require_schema=False) as context:
        found = diagnose_context(context)
    assert [each.cause.id for each in found.causes] == ["database-grant-revoked"]
    assert found.causes[0].action.command == f"runbook db grants {name_of(role)} --as worker"
    told = " ".join(fact.words for fact in found.facts if fact.symptom and fact.holds)
    assert "Indexes of content_jobs are missing" not in told
    told_by_doctor = [check.message for check in doctor_checks(role) if check.verdict == "critical"]
    assert any("schema" in each or "SELECT" in each for each in told_by_doctor)


def doctor_checks(database: Database) -> list[Check]:
    return list(probe_database(database.url, database.schema))


def change(database: Database, statement: str) -> None:
    with database.transaction() as transaction:
        transaction.run(statement)


def test_a_worker_role_runs_jobs_to_the_end_and_sees_no_log(
    database: Database, make_role: MakeRole, home: Path, running_sandbox: RunningSandbox
) -> None:
    role = granted(database, make_role, "worker")
    with database.transaction() as transaction:
        transaction.run("INSERT INTO content_jobs (topic) SELECT 'Garden shed number ' || n || ' for small gardens' FROM generate_series(1, 3) AS n")  # fmt: skip
        # An article that is refused, so that a failure, its template and an event are written as well.
        transaction.run("INSERT INTO content_jobs (topic, max_retries) VALUES (repeat('!', 20), 0)")
    settings = Settings(
        database_url=role.url, runbook_home=home, openai_api_key=running_sandbox.api_key,
        openai_base_url=f"{running_sandbox.url}/v1", wordpress_url=running_sandbox.url,
        wordpress_user=running_sandbox.user, wordpress_app_password=running_sandbox.app_password,
    )  # fmt: skip
    options = WorkerOptions(until_empty=True, idle_poll_seconds=0.05, sweep_interval_seconds=0.05)
    schema.require_current(role)
    with resolve_providers(settings) as providers:
        worker = make_worker(settings, role, providers, options, Reporter())
        # Without a right that it needs it would try again for ever.
        given_up = threading.Timer(GIVEN_UP_SECONDS, worker.stop)
        given_up.start()
        worker.run(install_signals=False)
        given_up.cancel()
    with database.transaction(read_only=True) as transaction:
        found = {row.status: row.jobs for row in transaction.rows("SELECT status, count(*) AS jobs FROM content_jobs GROUP BY 1")}  # fmt: skip
        assert found == {"completed": 3, "error": 1}
        assert transaction.value("SELECT count(*) FROM failure_templates") == 1
    with pytest.raises(psycopg2.errors.InsufficientPrivilege), role.transaction() as transaction:
        transaction.rows("SELECT FROM access_log")


def test_a_reader_may_run_every_statement_that_reads(
    database: Database, make_role: MakeRole
) -> None:
    """EXPLAIN looks at the rights as execution does, and needs no values that make sense."""
    role = granted(database, make_role, "reader")
    sources = Sources(role, role)
    statements = [each for file in SQL_DIRECTORY.glob("*.sql") for each in load(file.stem).values()]
    reading = [each for each in statements if is_reading(each)]
    assert len(reading) > 100
    refused, explained = [], 0
    with role.connect() as connection:
        for statement in reading:
            text = sources.reading(statement).text
            try:
                with connection.transaction(read_only=True) as transaction:
                    transaction.rows("EXPLAIN " + BIND.sub("NULL", text))
                    explained += 1
            except psycopg2.errors.InsufficientPrivilege as error:
                refused.append((statement.source, str(error)))
            except Exception:  # a parameter that cannot be absent, or an extension that is not here
                connection.raw.rollback()
    assert refused == []
    assert explained > 0.8 * len(reading)


def is_reading(statement: Statement) -> bool:
    begins = re.match(r"(SELECT|WITH)\b", statement.text)
    return bool(begins) and not WRITING.search(statement.text) and not NOT_READING.search(statement.text)  # fmt: skip


def test_an_operator_plans_applies_and_acts_and_cannot_rewrite_history(
    database: Database, make_role: MakeRole
) -> None:
    role = granted(database, make_role, "operator")
    with database.transaction() as transaction:
        transaction.run("INSERT INTO content_jobs (topic) VALUES ('one')")
        transaction.run("UPDATE content_jobs SET status = 'error', error_class = 'openai_timeout'")
    plan = changes.plan(role, "jobs.retry", {"class": "openai_timeout"}, actor="ana")
    assert changes.apply(role, plan.change_id, actor="ana", dry_run=False).changed == 1
    with admin_action(role, actor="ana", action="test"):
        pass
    for statement in ("DELETE FROM admin_actions", "UPDATE job_runs SET error = ''", "DELETE FROM archive_entries", "UPDATE articles SET title = ''"):  # fmt: skip
        with (
            pytest.raises(psycopg2.errors.InsufficientPrivilege),
            role.transaction() as transaction,
        ):
            transaction.run(statement)


def test_grants_are_refused_in_words_where_they_mean_nothing(
    database: Database, make_role: MakeRole, capsys: pytest.CaptureFixture[str]
) -> None:
    assert apply(database, "nobody_of_this_name", "worker") == 2
    assert "There is no role" in capsys.readouterr().err
    with database.transaction(read_only=True) as transaction:
        owner = transaction.value("SELECT current_user::text")
    assert apply(database, owner, "reader") == 2
    assert "owns tables" in capsys.readouterr().err
    stranger = make_role("GRANT SELECT ON runbook_schema_version TO {role}", "GRANT SELECT, INSERT, UPDATE ON admin_actions TO {role}")  # fmt: skip
    assert apply(stranger, name_of(stranger), "worker") == 3
    assert "may not grant" in capsys.readouterr().err


def test_the_printed_script_says_the_purpose(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url)
    load_settings.cache_clear()
    with pytest.raises(SystemExit):
        main(["db", "grants", "Press Desk", "--as", "reader", "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["purpose"] == "reader"
    assert 'GRANT SELECT ON public.articles TO "Press Desk";' in found["statements"]
    assert not any("INSERT" in each for each in found["statements"])
