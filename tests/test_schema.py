"""The schema: made by ordinary roles, guarded against wrong states, closed to a Data API, found current or not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import psycopg2
import psycopg2.errors
import pytest
from conftest import Server

from runbook_lib.database import Database, roles, schema
from runbook_lib.errors import CouldNotBeDone, DatabaseNotMigrated
from runbook_lib.pipeline.attempt import Completed
from runbook_lib.pipeline.options import WorkerOptions
from runbook_lib.pipeline.reporting import Reporter
from runbook_lib.pipeline.worker import Worker

DATA_API_ROLES = ("anon", "authenticated", "service_role")


def rows(database: Database, statement: str, **parameters: object) -> list:
    with database.transaction() as transaction:
        return transaction.rows(statement, **parameters)


def value(database: Database, statement: str, **parameters: object) -> object:
    with database.transaction() as transaction:
        return transaction.value(statement, **parameters)


def run(database: Database, statement: str, **parameters: object) -> None:
    with database.transaction() as transaction:
        transaction.run(statement, **parameters)


def as_role(database: Database, role: str) -> Database:
    parts = urlsplit(database.url)
    return Database(f"postgresql://{role}:{role}@{parts.hostname}:{parts.port}{parts.path}")


@pytest.fixture
def new_role(server: Server) -> Iterator[Callable[[], str]]:
    """Makes ordinary roles that may log in and nothing else; their password is their name."""
    made: list[str] = []

    def make() -> str:
        made.append(f"role_{uuid.uuid4().hex[:12]}")
        server.execute(f"CREATE ROLE {{}} LOGIN NOSUPERUSER PASSWORD '{made[-1]}'", made[-1])
        return made[-1]

    yield make
    # Their databases are gone by now only if they were made first; else the role stays with the server.
    for name in made:
        try:
            server.execute("DROP ROLE {}", name)
        except psycopg2.errors.DependentObjectsStillExist:
            pass


@pytest.fixture
def empty(new_role: Callable[[], str], new_database: Callable[..., Database]) -> Database:
    """A database without the tables; `new_role` is listed first, so that roles outlive databases."""
    return new_database(migrated=False)


def add_job(database: Database, **columns: object) -> str:
    given = {"topic": "A topic", **columns}
    names = ", ".join(given)
    binds = ", ".join(f"%({name})s" for name in given)
    statement = f"INSERT INTO content_jobs ({names}) VALUES ({binds}) RETURNING job_id::text"
    return str(value(database, statement, **given))


# --- making it ---------------------------------------------------------------------------------


def test_an_empty_database_is_migrated_once_and_found_current(empty: Database) -> None:
    assert schema.current_version(empty) is None
    with pytest.raises(DatabaseNotMigrated, match="runbook db migrate"):
        schema.require_current(empty)
    assert schema.migrate(empty) is None
    schema.require_current(empty)
    assert schema.current_version(empty) == schema.expected_version()
    assert schema.migrate(empty) == schema.expected_version()


def test_the_expected_version_is_the_one_that_alembic_would_go_to() -> None:
    import alembic.script

    scripts = alembic.script.ScriptDirectory.from_config(schema._configuration("public"))
    assert scripts.get_current_head() == schema.expected_version()


def test_asking_for_the_version_imports_no_alembic(database: Database) -> None:
    script = (
        "import os, sys\n"
        "from runbook_lib.database import Database, schema\n"
        "schema.require_current(Database(os.environ['URL']))\n"
        "print([name for name in ('alembic', 'sqlalchemy', 'pydantic') if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "URL": database.url}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert answer.stdout.strip() == "[]"


def test_an_older_and_a_newer_schema_are_told_apart(database: Database) -> None:
    run(database, "UPDATE runbook_schema_version SET version_num = '9999'")
    for refused in (schema.require_current, schema.migrate):
        with pytest.raises(DatabaseNotMigrated, match="Update the program"):
            refused(database)
    run(database, "UPDATE runbook_schema_version SET version_num = '0000'")
    with pytest.raises(DatabaseNotMigrated, match=r"needs .* Run `runbook db migrate`"):
        schema.require_current(database)


def test_migrations_at_the_same_time_wait_for_each_other(empty: Database) -> None:
    results: list[object] = []

    def migrate() -> None:
        try:
            results.append(schema.migrate(Database(empty.url)))
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, results)) == [*([schema.expected_version()] * 3), "None"]


def test_a_schema_of_its_own_is_made_and_everything_of_ours_stands_in_it(empty: Database) -> None:
    database = Database(empty.url, schema="Workbench")
    schema.migrate(database)
    schema.require_current(database)
    add_job(database)
    assert value(database, "SELECT make_job_runs_partitions(6)") == 2
    elsewhere = rows(
        database,
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relname NOT LIKE 'pg_stat_statements%%'",
    )
    assert elsewhere == []
    assert schema.current_version(Database(empty.url)) is None


def test_the_printed_statements_make_the_same_schema(
    empty: Database, new_database: Callable[..., Database]
) -> None:
    printed = new_database(migrated=False)
    raw = psycopg2.connect(printed.url)
    raw.autocommit = True
    with raw.cursor() as cursor:
        cursor.execute(schema.migration_sql())
    raw.close()
    schema.require_current(printed)
    schema.migrate(empty)
    columns = (
        "SELECT relname, attname, atttypid::regtype::text, attnotnull, relkind"
        " FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid"
        " WHERE relnamespace = 'public'::regnamespace AND attnum > 0 ORDER BY 1, 2"
    )
    assert rows(printed, columns) == rows(empty, columns)
    assert "CREATE SCHEMA" not in schema.migration_sql()
    assert "CREATE SCHEMA IF NOT EXISTS elsewhere" in schema.migration_sql("elsewhere")


@pytest.mark.parametrize(
    "foreign",
    [
        "CREATE TABLE content_jobs (id serial, title text)",
        "CREATE VIEW job_runs AS SELECT 1 AS run_id",
        "CREATE TABLE jobs (); CREATE INDEX content_jobs_due ON jobs ((1))",
        "CREATE FUNCTION time_ordered_uuid() RETURNS uuid LANGUAGE sql AS 'SELECT gen_random_uuid()'",
    ],
)
def test_what_is_not_ours_under_one_of_our_names_is_refused_before_anything_changes(
    empty: Database, foreign: str
) -> None:
    run(empty, foreign)
    objects = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    before = value(empty, objects)
    with pytest.raises(DatabaseNotMigrated, match=r"already holds .*Nothing was changed.*doctor"):
        schema.migrate(empty)
    assert value(empty, objects) == before


def test_a_refused_table_is_told_with_its_columns(empty: Database) -> None:
    run(empty, "CREATE TABLE content_jobs (id serial, title text)")
    with pytest.raises(DatabaseNotMigrated, match=r"table content_jobs \(id, title\)"):
        schema.migrate(empty)


# --- ordinary roles ----------------------------------------------------------------------------


def test_a_role_that_may_not_is_told_what_to_ask_for(
    empty: Database, new_role: Callable[[], str]
) -> None:
    owner = as_role(empty, new_role())
    run(empty, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    with pytest.raises(CouldNotBeDone, match=r"permission denied.*GRANT.*--sql"):
        schema.migrate(owner)
    with pytest.raises(CouldNotBeDone, match=r"permission denied.*GRANT.*--sql"):
        schema.migrate(Database(owner.url, schema="mine"))


def test_an_ordinary_role_migrates_and_another_with_the_printed_grants_is_a_worker(
    empty: Database, new_role: Callable[[], str]
) -> None:
    owner_name, worker_name = new_role(), new_role()
    run(empty, f"GRANT CREATE, USAGE ON SCHEMA public TO {owner_name}")
    # As strict as an administrator may be about functions.
    run(
        empty,
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner_name} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
    )
    owner, worker = as_role(empty, owner_name), as_role(empty, worker_name)
    schema.migrate(owner)
    with pytest.raises(CouldNotBeDone, match="db grants"):
        schema.require_current(worker)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        value(worker, "SELECT make_job_runs_partitions()")
    for statement in roles.grants(owner, worker_name, "worker"):
        run(owner, statement)
    schema.require_current(worker)
    assert value(worker, "SELECT make_job_runs_partitions(5)") == 1
    for topic in ("one", "two", "three"):
        add_job(owner, topic=topic)
    options = WorkerOptions(until_empty=True, idle_poll_seconds=0.05, sweep_interval_seconds=0.05)
    Worker(worker, lambda _: Completed(), options, Reporter()).run(install_signals=False)
    assert value(worker, "SELECT count(*) FROM job_runs WHERE status = 'completed'") == 3
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        run(worker, "DROP TABLE articles")


def test_a_callers_temporary_table_cannot_stand_in_for_ours_inside_the_owners_function(
    database: Database,
) -> None:
    with database.connect() as connection, connection.transaction() as transaction:
        transaction.run("CREATE TEMPORARY TABLE job_runs (LIKE job_runs)")
        transaction.run("CREATE TEMPORARY TABLE events (LIKE events)")
        assert transaction.value("SELECT make_job_runs_partitions(8)") == 4


def test_on_supabase_the_roles_of_the_data_api_see_nothing(
    server: Server, empty: Database, new_role: Callable[[], str]
) -> None:
    for role in DATA_API_ROLES:
        # The names are fixed and belong to the server; processes of one run share it.
        try:
            server.execute("CREATE ROLE {} NOLOGIN", role)
        except (psycopg2.errors.DuplicateObject, psycopg2.errors.UniqueViolation):
            pass
    owner_name = new_role()
    run(empty, f"GRANT CREATE, USAGE ON SCHEMA public TO {owner_name}")
    run(empty, "GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role")
    for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
        run(
            empty,
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner_name} IN SCHEMA public"
            f" GRANT ALL ON {kind} TO anon, authenticated, service_role",
        )
    owner = as_role(empty, owner_name)
    schema.migrate(owner)
    run(owner, "INSERT INTO job_runs (job_id, attempt, status, execution_time) VALUES"
        " (gen_random_uuid(), 1, 'completed', now() + interval '40 weeks')")  # fmt: skip
    assert value(owner, "SELECT make_job_runs_partitions(5)") == 2
    relations = rows(
        empty,
        "SELECT oid::regclass::text AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relkind IN ('r', 'p', 'S', 'v') AND relowner = %(owner)s::regrole",
        owner=owner_name,
    )
    assert len(relations) >= 20
    for role in ("anon", "authenticated"):
        seen = rows(
            empty,
            "SELECT oid::regclass::text AS name FROM pg_class"
            " WHERE relowner = %(owner)s::regrole AND relnamespace = 'public'::regnamespace"
            " AND CASE WHEN relkind = 'S' THEN has_sequence_privilege(%(role)s, oid, 'USAGE, SELECT, UPDATE')"
            " WHEN relkind IN ('r', 'p', 'v') THEN has_table_privilege(%(role)s, oid, 'SELECT, INSERT, UPDATE, DELETE')"
            " ELSE false END",
            owner=owner_name,
            role=role,
        )
        assert seen == []
        callable_by_role = rows(
            empty,
            "SELECT proname FROM pg_proc WHERE proowner = %(owner)s::regrole AND prosecdef"
            " AND has_function_privilege(%(role)s, oid, 'EXECUTE')",
            owner=owner_name,
            role=role,
        )
        assert callable_by_role == []
    assert value(empty, "SELECT has_table_privilege('service_role', 'job_runs', 'SELECT')")


# --- what it guards ----------------------------------------------------------------------------


def test_inserting_a_topic_alone_makes_a_complete_job(database: Database) -> None:
    run(database, "INSERT INTO content_jobs (topic) VALUES ('Solar panels in winter')")
    (job,) = rows(database, "SELECT * FROM content_jobs")
    assert job.status == "pending"
    assert job.stage == "write"
    assert (job.attempt, job.retry_count, job.lost_count) == (0, 0, 0)
    assert job.run_at is None
    assert job.job_id.version == 7
    assert abs(job.created_at - datetime.now(UTC)) < timedelta(minutes=5)


def test_later_jobs_have_greater_ids(database: Database) -> None:
    ids = []
    for _ in range(3):
        ids.append(add_job(database))
        run(database, "SELECT pg_sleep(0.002)")
    assert ids == sorted(ids)


STATES = ("pending", "processing", "completed", "error")
ALLOWED = {
    ("pending", "processing"),
    ("pending", "error"),
    ("processing", "completed"),
    ("processing", "error"),
    ("processing", "pending"),
    ("error", "pending"),
}
TO_STATE = """
UPDATE content_jobs
SET status = %(to)s,
    attempt = attempt + (%(to)s = 'processing' AND status <> 'processing')::integer,
    worker = CASE WHEN %(to)s = 'processing' THEN 'worker' END,
    lease_until = CASE WHEN %(to)s = 'processing' THEN now() + interval '30 seconds' END,
    completed_at = CASE WHEN %(to)s = 'completed' THEN now() END
WHERE job_id = %(job_id)s
"""


def job_in(database: Database, state: str) -> str:
    columns: dict[str, object] = {"status": state}
    if state == "processing":
        columns |= {"worker": "worker", "attempt": 1, "lease_until": datetime.now(UTC)}
    if state == "completed":
        columns |= {"completed_at": datetime.now(UTC)}
    return add_job(database, **columns)


@pytest.mark.parametrize("before", STATES)
def test_only_the_transitions_that_are_drawn_are_possible(database: Database, before: str) -> None:
    for after in STATES:
        job_id = job_in(database, before)
        if before == after or (before, after) in ALLOWED:
            run(database, TO_STATE, to=after, job_id=job_id)
            continue
        with pytest.raises(psycopg2.errors.CheckViolation, match=f"from {before} .* to {after}"):
            run(database, TO_STATE, to=after, job_id=job_id)


@pytest.mark.parametrize(
    "wrong",
    [
        "SET attempt = attempt - 1",
        "SET job_id = gen_random_uuid()",
        "SET worker = 'another'",
        "SET worker = NULL",
        "SET lease_until = NULL",
        "SET status = 'pending'",
        "SET retry_count = -1",
        "SET status = 'done'",
        "SET stage = 'proofread'",
        "SET topic = ''",
    ],
)
def test_a_job_in_work_cannot_be_put_into_a_state_that_means_nothing(
    database: Database, wrong: str
) -> None:
    job_in(database, "processing")
    with pytest.raises(psycopg2.IntegrityError):
        run(database, f"UPDATE content_jobs {wrong}")


def test_a_claim_takes_a_new_fencing_number(database: Database) -> None:
    job_in(database, "pending")
    claim = "UPDATE content_jobs SET status = 'processing', worker = 'w', lease_until = now()"
    with pytest.raises(psycopg2.errors.CheckViolation):
        run(database, claim)
    run(database, f"{claim}, attempt = attempt + 1")
    with pytest.raises(psycopg2.errors.CheckViolation):
        run(database, "UPDATE content_jobs SET worker = 'thief'")
    run(database, "UPDATE content_jobs SET worker = 'heir', attempt = attempt + 1")


def test_an_idempotency_key_stands_once_and_its_absence_often(database: Database) -> None:
    add_job(database)
    add_job(database)
    add_job(database, idempotency_key="monday")
    with pytest.raises(psycopg2.errors.UniqueViolation):
        add_job(database, idempotency_key="monday")


# --- partitions --------------------------------------------------------------------------------

RUN = (
    "INSERT INTO job_runs (job_id, attempt, status, execution_time)"
    " VALUES (gen_random_uuid(), 1, 'completed', %(at)s::timestamptz) RETURNING tableoid::regclass::text"
)
PARTITIONS = (
    "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'job_runs'::regclass"
    " AND inhrelid <> 'job_runs_default'::regclass ORDER BY 1"
)


def test_partitions_are_made_for_this_week_and_four_ahead_and_not_twice(database: Database) -> None:
    assert len(rows(database, PARTITIONS)) == 5
    assert value(database, "SELECT make_job_runs_partitions()") == 0
    assert value(database, "SELECT make_job_runs_partitions(6)") == 2
    assert value(database, "SELECT make_job_runs_partitions(NULL)") == 0
    assert value(database, RUN, at="now") == rows(database, PARTITIONS)[0].name
    last = value(database, RUN, at=datetime.now(UTC) + timedelta(weeks=6))
    assert last == rows(database, PARTITIONS)[-1].name


def test_weeks_begin_on_monday_in_utc_whatever_the_sessions_time_zone(database: Database) -> None:
    with database.transaction() as transaction:
        transaction.run("SET LOCAL timezone TO 'Pacific/Kiritimati'")
        transaction.run("SELECT make_job_runs_partitions(30)")
        before = transaction.value(RUN, at="2027-03-07 23:59:59.999999+00")
        after = transaction.value(RUN, at="2027-03-08 00:00:00+00")
    assert (before, after) == ("job_runs_2027_w09", "job_runs_2027_w10")


def test_rows_without_a_partition_are_kept_then_moved_by_the_next_call_with_an_event(
    database: Database,
) -> None:
    for at in ("2025-12-29 00:00+00", "2026-01-04 23:59+00", "2031-06-15 12:00+00", "1815-12-10"):
        assert value(database, RUN, at=at) == "job_runs_default"
    assert value(database, "SELECT make_job_runs_partitions()") == 2
    where = "SELECT execution_time::date::text AS day, tableoid::regclass::text AS place FROM job_runs ORDER BY 1"
    assert [tuple(row) for row in rows(database, where)] == [
        ("1815-12-10", "job_runs_default"),
        ("2025-12-29", "job_runs_2026_w01"),
        ("2026-01-04", "job_runs_2026_w01"),
        ("2031-06-15", "job_runs_2031_w24"),
    ]
    assert value(database, "SELECT make_job_runs_partitions()") == 0
    (event,) = rows(database, "SELECT level, details FROM events")
    assert event.level == "warning"
    assert event.details == {"rows": 3}


def test_a_new_partition_has_the_keys_checks_and_indexes_of_the_others(database: Database) -> None:
    value(database, RUN, at="2025-01-01")
    run(database, "SELECT make_job_runs_partitions()")
    indexes = rows(
        database,
        "SELECT indexdef FROM pg_indexes WHERE tablename = 'job_runs_2025_w01' ORDER BY indexname",
    )
    texts = " ".join(row.indexdef for row in indexes)
    assert "USING brin (execution_time) WITH (autosummarize" in texts
    assert "UNIQUE INDEX" in texts
    assert "(job_id, attempt, execution_time)" in texts
    with pytest.raises(psycopg2.errors.CheckViolation):
        run(database, "UPDATE job_runs SET status = 'well'")
    again = "SELECT encode(substr(sha256(uuid_send(job_id) || int4send(attempt)), 1, 16), 'hex')::uuid FROM job_runs"
    assert value(database, "SELECT run_id FROM job_runs") == value(database, again)


def test_a_name_that_is_taken_stops_neither_the_others_nor_the_rows_and_is_told_once(
    database: Database,
) -> None:
    run(database, "CREATE TABLE job_runs_2025_w02 (note text)")
    for at in ("2025-01-01", "2025-01-08", "2025-01-15"):
        value(database, RUN, at=at)
    assert value(database, "SELECT make_job_runs_partitions()") == 2
    assert value(database, "SELECT make_job_runs_partitions()") == 0
    assert value(database, "SELECT count(*) FROM job_runs") == 3
    assert value(database, "SELECT count(*) FROM job_runs_default") == 1
    told = rows(database, "SELECT details FROM events WHERE kind = 'job_runs_partition_refused'")
    assert [row.details for row in told] == [{"partitions": ["job_runs_2025_w02"]}]


def test_a_reader_of_the_default_partition_delays_it_two_seconds_and_not_for_good(
    database: Database,
) -> None:
    value(database, RUN, at="2025-01-01")
    with database.transaction() as reader:
        reader.rows("SELECT * FROM job_runs_default")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            run(database, "SELECT make_job_runs_partitions()")
    assert value(database, "SELECT make_job_runs_partitions()") == 1


def test_somebody_else_who_makes_partitions_is_not_waited_for(database: Database) -> None:
    with database.transaction() as first:
        assert first.value("SELECT make_job_runs_partitions(7)") == 3
        assert value(database, "SELECT make_job_runs_partitions(7)") == 0
    assert len(rows(database, PARTITIONS)) == 8
