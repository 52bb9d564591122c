"""What the database refuses a worker is told in a row, and what it refuses of one job stops no other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import psycopg2
import pytest
from test_worker import QUICK, Running, add, done, jobs, options, rows, runs, wait_until, work

from runbook_lib.database.connection import Database
from runbook_lib.health.context import open_context
from runbook_lib.pipeline.refusals import refused_statement
from runbook_lib.settings import Settings
from runbook_lib.triage.attempts import Attempts
from runbook_lib.triage.causes import BY_ID
from runbook_lib.triage.diagnosis import diagnose_context
from runbook_lib.triage.evidence import Evidence
from runbook_lib.triage.facts import Facts
from runbook_lib.triage.judgement import fit, judge
from runbook_lib.triage.schema_facts import schema_facts
from runbook_lib.triage.worker_facts import worker_facts
from runbook_lib.triage.write_facts import write_facts

DETACHED = """
DO $$
DECLARE part regclass;
BEGIN
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'job_runs'::regclass LOOP
        EXECUTE format('ALTER TABLE job_runs DETACH PARTITION %%s', part);
    END LOOP;
END $$"""
REFUSES = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'audit: %% is not signed', 'it'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON content_jobs
FOR EACH ROW WHEN (NEW.status = 'completed' AND NEW.topic = 'Topic 2') EXECUTE FUNCTION refuse()"""


def run(database: Database, statement: str) -> None:
    with database.transaction() as transaction:
        transaction.run(statement)


def told(database: Database) -> list[tuple[str, str | None]]:
    found = rows(database, "SELECT * FROM events WHERE kind = 'statement_refused'")
    return [(row.level, row.details["sqlstate"]) for row in found]


def test_a_worker_whose_results_have_no_place_says_so_and_keeps_them(database: Database) -> None:
    add(database, 2)
    run(database, DETACHED)
    running = Running(database, done, QUICK)
    wait_until(lambda: len(told(database)) > 0)
    assert told(database) == [("critical", "23514")]
    assert {job.status for job in jobs(database)} == {"processing"}
    # Once there is a place again, what was kept is written: nothing is done twice.
    run(database, "CREATE TABLE another_place PARTITION OF job_runs DEFAULT")
    assert running.join() == 0
    assert [(each.status, each.attempt) for each in runs(database)] == [("completed", 1)] * 2


def test_triage_narrows_a_refusal_to_recording_and_quotes_the_server(
    database: Database, settings: Settings
) -> None:
    add(database, 2)
    run(database, DETACHED)
    running = Running(database, done, QUICK)
    wait_until(lambda: len(told(database)) > 0)
    given = settings.model_copy(update={"database_url": Settings(database_url=database.url).database_url})  # fmt: skip
    with open_context(given, require_schema=False) as context:
        found = diagnose_context(context)
    run(database, "CREATE TABLE another_place PARTITION OF job_runs DEFAULT")
    running.join()
    assert (found.verdict, found.layer, found.causes) == ("unknown", "record", ())
    assert "23514 no partition of relation" in found.in_words()


def test_a_rule_that_refuses_one_job_stops_no_other_and_says_why(database: Database) -> None:
    add(database, 4, max_retries=0)
    run(database, REFUSES)
    assert work(database, done, options(concurrency=1)) == 1
    assert sorted(job.status for job in jobs(database)) == ["completed"] * 3 + ["error"]
    (refused,) = [each for each in runs(database) if each.status == "error"]
    assert (refused.error_class, refused.sqlstate) == ("unexpected_error", "P0001")
    assert refused.error == "The result cannot be stored: RaiseException: audit: it is not signed"
    assert told(database) == []


def test_a_result_that_a_constraint_refuses_names_it_and_no_value_of_the_row(
    database: Database, settings: Settings
) -> None:
    add(database, 4, max_retries=0)
    run(database, "ALTER TABLE content_jobs ADD CONSTRAINT never_done CHECK (status <> 'completed') NOT VALID")  # fmt: skip
    assert work(database, done, options(concurrency=1)) == 1
    found = runs(database)
    assert {(each.status, each.sqlstate) for each in found} == {("error", "23514")}
    assert {each.error for each in found} == {"The result cannot be stored: CheckViolation: content_jobs.never_done."}  # fmt: skip
    given = settings.model_copy(update={"database_url": Settings(database_url=database.url).database_url})  # fmt: skip
    with open_context(given, require_schema=False) as context:
        facts = diagnose_context(context).facts
    assert facts.holds("database.constraint_of_others_refuses")
    assert facts.by_name["failing.unexpected_error"].layer == "record"


@pytest.mark.parametrize("sqlstate", ["40P01", "57P01", "08006", "53300", "55P03"])
def test_a_conflict_or_a_server_that_ends_is_no_refusal(database: Database, sqlstate: str) -> None:
    with pytest.raises(psycopg2.Error) as caught, psycopg2.connect(database.url) as connection:
        connection.cursor().execute(f"DO $$ BEGIN RAISE SQLSTATE '{sqlstate}'; END $$")
    assert refused_statement(caught.value) is None


def test_what_is_told_of_a_refusal_holds_no_row(database: Database) -> None:
    with pytest.raises(psycopg2.Error) as caught, psycopg2.connect(database.url) as connection:
        connection.cursor().execute(
            "INSERT INTO content_jobs (topic, status) VALUES ('a secret topic', 'nonsense')"
        )
    assert "a secret topic" in str(caught.value)
    event = refused_statement(caught.value)
    assert event is not None
    assert event.details["sqlstate"] == "23514"
    assert event.details["relation"] == "content_jobs"
    assert "secret" not in f"{event.message} {event.details}"


@pytest.mark.parametrize(
    ("seconds_ago", "ended_by", "lasts"),
    [(10, None, True), (80, None, True), (100, None, False), (10, "the other", True), (40, "the other", False), (10, "it", False)],
)  # fmt: skip
def test_a_refusal_is_over_when_its_worker_ends_an_attempt_or_others_do_and_it_is_not_told_again(
    seconds_ago: float, ended_by: str | None, lasts: bool
) -> None:
    now = datetime(2026, 5, 20, 12, tzinfo=UTC)
    said = SimpleNamespace(
        worker="it", occurred_at=now - timedelta(seconds=seconds_ago), message="refused", sqlstate="P0001",
        relation=None, constraint_name=None, within=None, age_seconds=float(seconds_ago),
    )  # fmt: skip
    ended = [
        SimpleNamespace(
            worker=ended_by, status="completed", execution_time=now - timedelta(seconds=1), error=None, error_class=None,
            age_seconds=1.0, job_id="a", stage="publish", category=None, model=None,
        )
    ]  # fmt: skip
    evidence = Evidence(rows={"refused_statements": [said], "waiting": [said], "worker_sessions": []})  # fmt: skip
    refused, *_ = write_facts(evidence, Attempts(ended if ended_by else []))
    assert refused.holds is lasts


@pytest.mark.parametrize("why", ["refused", "held up"])
def test_jobs_that_nobody_takes_because_nothing_can_be_written_are_a_trouble_of_recording(
    why: str,
) -> None:
    now = datetime(2026, 5, 20, 12, tzinfo=UTC)
    worker = SimpleNamespace(
        worker="it", host="elsewhere", pid=1, version="1", settings_digest="a", concurrency=2, prefetch=0, in_flight=0,
        finished_count=3, failed_count=0, stopped=False, draining=False, drained_by=None, age_seconds=600.0, silent_seconds=1.0,
        without_progress_seconds=None, lived_seconds=600.0,
    )  # fmt: skip
    waits = SimpleNamespace(stage="write", due=True, jobs=3, longest_seconds=90.0, error_class=None, most_lost=0)  # fmt: skip
    said = SimpleNamespace(
        worker="it", occurred_at=now, message="no partition", sqlstate="23514", relation=None, constraint_name=None, within=None, age_seconds=5.0,
    )  # fmt: skip
    session = SimpleNamespace(
        pid=1, state="active", wait_event_type="IPC", wait_event="SyncRep", blocked=False, in_state_seconds=30.0, age_seconds=60.0,
    )  # fmt: skip
    found = {
        "workers": [worker],
        "waiting": [waits],
        "refused_statements": [],
        "worker_sessions": [],
    }

    def narrowed(**besides: list[SimpleNamespace]) -> str | None:
        evidence = Evidence(rows={**found, **besides})
        facts = Facts.of(
            [*worker_facts(evidence, Attempts([])), *write_facts(evidence, Attempts([]))]
        )
        return judge(facts).layer

    assert narrowed() == "claim"
    besides = {"refused": {"refused_statements": [said]}, "held up": {"worker_sessions": [session]}}
    assert narrowed(**besides[why]) == "record"


@pytest.mark.parametrize("told", ["odd", "content_jobs_status_check", None])
def test_a_refusal_by_a_constraint_that_no_migration_made_is_a_drift_of_the_schema(
    told: str | None,
) -> None:
    said = SimpleNamespace(
        worker="it", occurred_at=datetime(2026, 5, 20, 12, tzinfo=UTC), message="violates a check", sqlstate="23514",
        relation="content_jobs", constraint_name=told, within=None, age_seconds=5.0,
    )  # fmt: skip
    rules = [
        SimpleNamespace(relation="content_jobs", kind="constraint", name=name)
        for name in ("odd", "content_jobs_status_check")
    ]
    evidence = Evidence(rows={"refused_statements": [said], "waiting": [said], "rules_of_tables": rules})  # fmt: skip
    facts = Facts.of([*schema_facts(evidence), *write_facts(evidence, Attempts([]))])
    assert facts.holds("database.constraint_of_others_refuses") is (told == "odd")
    found = fit(BY_ID["database-schema-drift"], facts)
    assert (found is not None) is (told == "odd")
