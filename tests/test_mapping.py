"""The mapping proposal: other people's pipelines are recognised by names and values, and only read."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.database.connection import Database
from runbook_lib.database.statements import load
from runbook_lib.health.mapping import Proposal, recognise
from runbook_lib.health.mapping_file import as_toml
from runbook_lib.health.probes.database import probe_database
from runbook_lib.settings import environment_without_callers

NewDatabase = Callable[..., Database]

# Tables of other people's: five shapes that were seen in the field, each with neighbours that are no pipeline.
SCHEMAS = {
    "other names, bigint keys, CHECK, timestamps without time zone": """
        CREATE TABLE blog_tasks (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, headline text,
            state text NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'needs_review')),
            error_message text, attempts integer DEFAULT 0, created timestamp DEFAULT now());
        CREATE TABLE task_executions (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, task_id bigint REFERENCES blog_tasks,
            outcome varchar(20), started timestamptz, ended_at timestamptz);
        INSERT INTO blog_tasks (headline, state) VALUES ('a', 'queued'), ('b', 'done');
        INSERT INTO task_executions (task_id, outcome) VALUES (1, 'success'), (1, 'timeout');
        CREATE TABLE customers (id integer PRIMARY KEY, status text, created_at timestamptz);
        INSERT INTO customers VALUES (1, 'gold', now()), (2, 'silver', now());
    """,
    "camelCase, uuid keys, an enum, a history without foreign key": """
        CREATE TYPE "JobStatus" AS ENUM ('WAITING', 'IN_PROGRESS', 'SUCCEEDED', 'FAILED', 'CANCELLED');
        CREATE TABLE "ContentJob" (
            "jobId" uuid PRIMARY KEY DEFAULT gen_random_uuid(), "topic" text, "jobStatus" "JobStatus",
            "lastErrorMessage" text, "retryCount" smallint, "createdAt" timestamptz, "startedAt" timestamptz);
        CREATE TABLE "JobRunHistory" (
            "runId" uuid PRIMARY KEY, "jobId" uuid, "result" text, "executedAt" timestamptz,
            "startTime" timestamptz, "endTime" timestamptz, "errorMessage" text);
        INSERT INTO "JobRunHistory" VALUES (gen_random_uuid(), gen_random_uuid(), 'ok', now(), now(), now(), NULL);
    """,
    "no table of runs": """
        CREATE TABLE article_queue (
            uuid uuid PRIMARY KEY DEFAULT gen_random_uuid(), title text, status text, last_error text,
            retries integer, inserted_at timestamptz DEFAULT now(), locked_at timestamptz, finished_at timestamptz);
        INSERT INTO article_queue (status) VALUES ('pending'), ('active'), ('dead'), ('complete');
        CREATE TABLE audit_log (id bigint PRIMARY KEY, message text, created_at timestamptz);
    """,
    "content_jobs of another shape": """
        CREATE TABLE content_jobs (
            id serial PRIMARY KEY, prompt text, status text DEFAULT 'new', err text, created_at timestamptz);
        CREATE TABLE job_runs (
            id serial PRIMARY KEY, job_id integer REFERENCES content_jobs ON DELETE CASCADE, status text,
            error text, attempt integer, created_at timestamptz, started_at timestamptz, finished_at timestamptz);
        INSERT INTO content_jobs (prompt, status) VALUES ('x', 'new'), ('y', 'working'), ('z', 'published');
        INSERT INTO job_runs (job_id, status) VALUES (1, 'completed'), (2, 'error'), (3, 'running'), (1, 'lost');
    """,
    "a schema of its own, a view beside the table": """
        CREATE SCHEMA pipeline;
        CREATE TABLE pipeline.generation_requests (
            request_id text PRIMARY KEY, subject text, phase text, failure_reason text, tries integer,
            submitted_at timestamptz, updated_on timestamptz);
        CREATE VIEW pipeline.open_requests AS SELECT * FROM pipeline.generation_requests;
        INSERT INTO pipeline.generation_requests (request_id, phase) VALUES ('a', 'enqueued'), ('b', 'generating'), ('c', 'errored');
        CREATE TABLE pipeline.generation_attempts (
            id bigint PRIMARY KEY, request_id text REFERENCES pipeline.generation_requests, final_status text,
            ran_at timestamptz, error_text text);
    """,
}  # fmt: skip

EXPECTED: dict[str, dict[str, Any]] = {
    "other names, bigint keys, CHECK, timestamps without time zone": {
        "jobs": ("public.blog_tasks", {"job_id": "id", "status": "state", "last_error": "error_message", "retry_count": "attempts", "created_at": "created", "topic": "headline"}),
        "runs": ("public.task_executions", {"job_id": "task_id", "status": "outcome", "execution_time": "ended_at", "started_at": "started", "completed_at": "ended_at"}),
        "statuses": {"pending": ["queued"], "processing": ["running"], "completed": ["done"], "error": ["failed"]},
        "run_statuses": {"completed": ["success"], "error": ["timeout"]},
        "undecided": ["needs_review"],
        "missing": {"stuck jobs": ["jobs.started_at"]},
    },
    "camelCase, uuid keys, an enum, a history without foreign key": {
        "jobs": ("public.ContentJob", {"job_id": "jobId", "status": "jobStatus", "last_error": "lastErrorMessage", "retry_count": "retryCount", "created_at": "createdAt", "topic": "topic", "started_at": "startedAt"}),
        "runs": ("public.JobRunHistory", {"job_id": "jobId", "status": "result", "execution_time": "executedAt", "started_at": "startTime", "completed_at": "endTime", "error": "errorMessage"}),
        "statuses": {"pending": ["WAITING"], "processing": ["IN_PROGRESS"], "completed": ["SUCCEEDED"], "error": ["FAILED"], "left_out": ["CANCELLED"]},
        "run_statuses": {"completed": ["ok"]},
        "undecided": [],
        "missing": {},
    },
    "no table of runs": {
        "jobs": ("public.article_queue", {"job_id": "uuid", "status": "status", "last_error": "last_error", "retry_count": "retries", "created_at": "inserted_at", "topic": "title", "started_at": "locked_at", "completed_at": "finished_at"}),
        "runs": ("public.article_queue", {"job_id": "uuid", "status": "status", "execution_time": "finished_at", "started_at": "locked_at", "completed_at": "finished_at", "error": "last_error"}),
        "statuses": {"pending": ["pending"], "processing": ["active"], "completed": ["complete"], "error": ["dead"]},
        "run_statuses": {"completed": ["complete"], "error": ["dead"]},
        "undecided": [],
        "missing": {},
    },
    "content_jobs of another shape": {
        "jobs": ("public.content_jobs", {"job_id": "id", "status": "status", "last_error": "err", "created_at": "created_at", "topic": "prompt"}),
        "runs": ("public.job_runs", {"job_id": "job_id", "status": "status", "execution_time": "finished_at", "started_at": "started_at", "completed_at": "finished_at", "error": "error"}),
        "statuses": {"pending": ["new"], "processing": ["working"], "completed": ["published"]},
        "run_statuses": {"completed": ["completed"], "error": ["error"], "lost": ["lost"], "left_out": ["running"]},
        "undecided": [],
        "missing": {"recent errors": ["jobs.retry_count"], "stuck jobs": ["jobs.started_at"]},
    },
    "a schema of its own, a view beside the table": {
        "jobs": ("pipeline.generation_requests", {"job_id": "request_id", "status": "phase", "last_error": "failure_reason", "retry_count": "tries", "created_at": "submitted_at", "topic": "subject", "updated_at": "updated_on"}),
        "runs": ("pipeline.generation_attempts", {"job_id": "request_id", "status": "final_status", "execution_time": "ran_at", "error": "error_text"}),
        "statuses": {"pending": ["enqueued"], "processing": ["generating"], "error": ["errored"]},
        "run_statuses": {},
        "undecided": [],
        "missing": {"stuck jobs": ["jobs.started_at"], "processing times": ["runs.started_at", "runs.completed_at"]},
    },
}  # fmt: skip


def foreign(new_database: NewDatabase, *statements: str) -> Database:
    database = new_database(migrated=False)
    with database.transaction() as transaction:
        for statement in statements:
            transaction.run(statement)
    return database


def proposal_of(database: Database) -> Proposal:
    with database.transaction(read_only=True) as transaction:
        found = recognise(transaction)
        assert transaction.value("SELECT txid_current_if_assigned()") is None
    assert found is not None
    return found


@pytest.mark.parametrize("shape", SCHEMAS)
def test_foreign_pipeline_is_recognised_and_mapped(new_database: NewDatabase, shape: str) -> None:
    expected, database = EXPECTED[shape], foreign(new_database, SCHEMAS[shape])
    proposal = proposal_of(database)
    file = tomllib.loads(as_toml(proposal, database.address))
    for ours in ("jobs", "runs"):
        table, columns = expected[ours]
        assert f"{file[ours]['schema']}.{file[ours]['table']}" == table
        assert file[ours]["columns"] == columns
    assert _filled(file["jobs"]["statuses"]) == expected["statuses"]
    assert _filled(file["runs"]["statuses"]) == expected["run_statuses"]
    assert file["jobs"]["statuses"].get("undecided", []) == expected["undecided"]
    assert proposal.missing() == expected["missing"]
    assert len(proposal.working()) + len(expected["missing"]) == 8


def _filled(statuses: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: words for name, words in statuses.items() if words and name != "undecided"}


def test_of_their_tables_no_column_but_the_status_is_read() -> None:
    sampled = str(load("mapping")["sampled_words"])
    assert sampled.count("{column}") == 1
    assert "*" not in sampled
    others = [str(each) for name, each in load("mapping").items() if name != "sampled_words"]
    relations = re.findall(r"(?:FROM|JOIN) (\w+)", " ".join(others))
    assert all(each.startswith("pg_") or each == "unnest" for each in relations), relations


def test_notes_say_what_a_name_cannot(new_database: NewDatabase) -> None:
    database = foreign(new_database, next(iter(SCHEMAS.values())))
    text = as_toml(proposal_of(database), database.address)
    assert "attempts may count all attempts" in text
    assert "created: without time zone" in text
    assert tomllib.loads(text)["jobs"]["timezone"] == "UTC"
    assert "Not: stuck jobs (lacks jobs.started_at)" in text


def test_rows_that_the_role_may_not_see_are_said_and_words_come_from_the_catalog(
    new_database: NewDatabase,
) -> None:
    """Row-level security, and no right to read: the CHECK constraint still tells the words."""
    database = foreign(new_database, next(iter(SCHEMAS.values())))
    with database.transaction() as transaction:
        transaction.run("CREATE ROLE doctor_reader_of_mapping")
        transaction.run("ALTER TABLE blog_tasks ENABLE ROW LEVEL SECURITY")
        transaction.run("GRANT SELECT ON blog_tasks TO doctor_reader_of_mapping")
        transaction.run("SET LOCAL ROLE doctor_reader_of_mapping")
        found = recognise(transaction)
        transaction.run("RESET ROLE")
        transaction.run("DROP OWNED BY doctor_reader_of_mapping")
        transaction.run("DROP ROLE doctor_reader_of_mapping")
    assert found is not None
    assert found.jobs.statuses["pending"] == ("queued",)
    assert any("Row-level security" in note for note in found.jobs.notes)
    assert found.runs is not None
    assert any("GRANT SELECT ON public.task_executions" in note for note in found.runs.notes)


def test_tables_that_only_have_a_status_are_not_taken_for_jobs(new_database: NewDatabase) -> None:
    database = foreign(
        new_database,
        "CREATE TABLE customers (id integer PRIMARY KEY, status text, created_at timestamptz)",
        "INSERT INTO customers VALUES (1, 'gold', now()), (2, 'silver', now()), (3, 'active', now())",
        "CREATE TABLE notes (id integer PRIMARY KEY, status text, created_at timestamptz)",
        "INSERT INTO notes SELECT n, md5(n::text), now() FROM generate_series(1, 100) AS n",
        "CREATE TABLE counters (id integer PRIMARY KEY, state integer, created_at timestamptz)",
    )
    with database.transaction(read_only=True) as transaction:
        assert recognise(transaction) is None


def test_status_words_of_any_kind_survive_in_the_file(new_database: NewDatabase) -> None:
    odd = 'it\'s "odd"\n\x7f\\ é €'
    database = foreign(
        new_database,
        "CREATE TABLE job_queue (id integer PRIMARY KEY, status text, created_at timestamptz)",
        "INSERT INTO job_queue VALUES (1, 'queued', now()), (2, 'failed', now())",
    )
    with database.transaction() as transaction:
        transaction.run("INSERT INTO job_queue VALUES (3, %(odd)s, now())", odd=odd)
    file = tomllib.loads(as_toml(proposal_of(database), "x"))
    assert file["jobs"]["statuses"]["undecided"] == [odd]


def test_doctor_says_that_a_foreign_pipeline_is_there(new_database: NewDatabase) -> None:
    database = foreign(new_database, SCHEMAS["content_jobs of another shape"])
    found = {check.name: check for check in probe_database(database.url, "public")}
    assert "not of the workbench's making" in found["database.tables"].message
    assert found["database.foreign_pipeline"].value["jobs"] == "public.content_jobs"
    assert "--propose-mapping" in str(found["database.foreign_pipeline"].next)


def run_doctor(database: Database, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from runbook_lib.cli import main; main()", "doctor", *arguments],
        env={**environment_without_callers(home), "DATABASE_URL": database.url},
        capture_output=True,
        text=True,
        check=False,
    )


def test_command_writes_the_file_once_and_never_over_another(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    database = foreign(new_database, SCHEMAS["no table of runs"])
    file = tmp_path / "mapping.toml"
    told = run_doctor(database, tmp_path / "home", "--propose-mapping", str(file), "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["jobs"] == "public.article_queue"
    written = file.read_text()
    assert tomllib.loads(written)["jobs"]["table"] == "article_queue"
    again = run_doctor(database, tmp_path / "home", "--propose-mapping", str(file))
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert file.read_text() == written
    assert database.url not in written


def test_command_without_a_pipeline_could_not_be_done(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    told = run_doctor(new_database(migrated=False), tmp_path, "--propose-mapping", "-")
    assert told.returncode == 3
    assert "looks like a table of jobs" in told.stderr
    assert os.listdir(tmp_path) == []
