"""`jobs` and `runs`: the same columns and types over our tables and over anybody's, as cheap as the table."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg2.errors
import pytest
import sqlalchemy.exc
from foreign_pipeline import BIGINT_KEYS, NO_HISTORY, SHAPES, UUID_KEYS, Shape, attached_settings

from runbook_lib.database import Database, open_own_pipeline
from runbook_lib.database.statements import Statement
from runbook_lib.errors import ConfigurationError, CouldNotBeDone, UsageError
from runbook_lib.health.attachment import their_definitions
from runbook_lib.health.mapping_reader import read_mapping
from runbook_lib.health.relations import KEY, RELATIONS
from runbook_lib.health.sources import Sources, open_sources
from runbook_lib.settings import Settings

NewDatabase = Callable[..., Database]


@pytest.fixture
def attach(
    new_database: NewDatabase, database: Database, tmp_path: Path
) -> Callable[[Shape], Sources]:
    return lambda shape: open_sources(
        attached_settings(shape.make(new_database), shape, tmp_path, database)
    )


def rows(sources: Sources, text: str, **binds: Any) -> list[Any]:
    statement = sources.reading(Statement("test.rows", "A question of a test.", text))
    with sources.pipeline.transaction(read_only=True) as transaction:
        return transaction.rows(statement, **binds)


def columns_with_types(sources: Sources, relation: str) -> dict[str, str]:
    names = [f"pg_typeof({name})::text AS {name}" for name in RELATIONS[relation]]
    found = rows(
        sources,
        f"SELECT {', '.join(names)} FROM (SELECT 1) AS one LEFT JOIN {relation} ON true LIMIT 1",
    )
    every = rows(sources, f"SELECT * FROM {relation} LIMIT 1")
    if every:
        assert list(every[0]._fields) == list(RELATIONS[relation])
    return found[0]._asdict()


@pytest.mark.parametrize("relation", RELATIONS)
def test_our_own_tables_have_the_vocabulary(database: Database, relation: str) -> None:
    found = columns_with_types(Sources(database, database), relation)
    assert found == {
        name: "uuid" if wanted == KEY else wanted for name, wanted in RELATIONS[relation].items()
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pipeline_that_is_not_ours_has_the_same_columns_and_types(
    attach: Callable[[Shape], Sources], shape: str
) -> None:
    key = {"uuid keys": "uuid", "bigint keys": "text", "no history": "text"}[shape]
    with attach(SHAPES[shape]) as sources:
        for relation, wanted in RELATIONS.items():
            found = columns_with_types(sources, relation)
            assert found == {name: key if each == KEY else each for name, each in wanted.items()}


def plan(database: Database, text: str, **binds: Any) -> str:
    with database.transaction(read_only=True) as transaction:
        transaction.run("SET LOCAL enable_seqscan TO off")
        lines = transaction.rows(f"EXPLAIN (COSTS OFF) {text}", **binds)
    # The alias is the relation's name; which partition it is stays.
    return "\n".join(line[0] for line in lines)


@pytest.mark.parametrize(
    ("text", "proof"),
    [
        ("SELECT count(*), count(DISTINCT job_key) FROM {runs} WHERE execution_time >= %(since)s AND execution_time < %(until)s", r"on job_runs_\d{4}_w\d\d"),
        ("SELECT status, topic FROM {jobs} WHERE job_key = %(job_id)s", "Index Scan using content_jobs_pkey"),
        ("SELECT count(*) FROM {jobs} WHERE status = 'pending' AND run_at IS NULL", "content_jobs_due"),
        ("SELECT {jobs}.topic FROM {runs} JOIN {jobs} USING (job_key) WHERE execution_time >= %(since)s AND execution_time < %(until)s", "content_jobs_pkey"),
    ],
)  # fmt: skip
def test_reading_our_own_tables_as_relations_costs_what_the_tables_cost(
    database: Database, text: str, proof: str
) -> None:
    """The plan through the relation is the table's own: pruned to one partition, and by its indexes."""
    now = datetime.now(UTC)
    with database.transaction(read_only=True) as transaction:
        since = transaction.value("SELECT date_trunc('week', now(), 'UTC') + interval '1 hour'")
    until = since.replace(hour=2)
    binds = {"since": since, "until": until, "job_id": "018f0000-0000-7000-8000-000000000000"}
    assert since.date() <= now.date()
    through = Sources(database, database).reading(
        Statement("test.plan", "A question.", text.format(jobs="jobs", runs="runs"))
    )
    ours = text.format(jobs="content_jobs", runs="job_runs").replace("job_key", "job_id")
    found, expected = plan(database, str(through), **binds), plan(database, ours, **binds)
    assert re.search(proof, found), found
    assert len(set(re.findall(r"job_runs_(?:\d{4}_w\d\d|default)\b", found))) <= 1
    assert _shape(found) == _shape(expected)


def _shape(plan: str) -> list[str]:
    # Conditions are the same but for the names in them.
    return [
        re.sub(r"\s+on .*| Cond: .*| Filter: .*", "", line).strip() for line in plan.splitlines()
    ]


def test_their_index_on_the_time_serves_a_window(attach: Callable[[Shape], Sources]) -> None:
    with attach(UUID_KEYS) as sources:
        through = sources.reading(
            Statement("test.window", "A window.", "SELECT count(*) FROM runs WHERE execution_time >= %(since)s")
        )  # fmt: skip
        found = plan(sources.pipeline, str(through), since=datetime.now(UTC))
        assert "attempts_ended_idx" in found


def test_words_keys_and_missing_columns_are_read_as_ours(
    attach: Callable[[Shape], Sources],
) -> None:
    with attach(UUID_KEYS) as sources:
        assert dict(rows(sources, "SELECT status, count(*) FROM jobs GROUP BY 1")) == {
            "pending": 3, "processing": 2, "completed": 40, "error": 5,
        }  # fmt: skip
        assert dict(rows(sources, "SELECT status, count(*) FROM runs GROUP BY 1")) == {
            "completed": 40, "error": 5,
        }  # fmt: skip
        joined = rows(sources, "SELECT jobs.job_id, runs.job_id AS again, jobs.lease_until, runs.model FROM runs JOIN jobs USING (job_key)")  # fmt: skip
        assert len(joined) == 45
        assert all(each.job_id == each.again and isinstance(each.job_id, str) for each in joined)
        assert all(each.lease_until is None and each.model is None for each in joined)
        assert sources.missing(["jobs.lease_until", "jobs.job_key", "runs.model", "runs.error"]) == [
            "jobs.lease_until", "runs.model",
        ]  # fmt: skip
        assert (sources.has_leases, sources.has_history) == (False, True)


def test_names_and_words_that_need_quoting_and_times_without_time_zone(
    attach: Callable[[Shape], Sources],
) -> None:
    with attach(BIGINT_KEYS) as sources:
        assert dict(rows(sources, "SELECT status, count(*) FROM jobs GROUP BY 1")) == {
            "pending": 10, "processing": 10, "completed": 10, "error": 10,
        }  # fmt: skip
        (job,) = rows(sources, "SELECT created_at, topic FROM jobs WHERE job_key = %(job_id)s", job_id="1")  # fmt: skip
        # 13:00 in Berlin's summer
        assert job.created_at == datetime(2026, 7, 1, 11, tzinfo=UTC)
        assert job.topic == "Title 1"
        assert rows(sources, "SELECT count(*), sum(tokens) FROM runs JOIN jobs USING (job_key)") == [(20, 2000)]  # fmt: skip


def test_without_a_history_the_runs_are_the_jobs_last_attempts(
    attach: Callable[[Shape], Sources],
) -> None:
    with attach(NO_HISTORY) as sources:
        assert sorted(rows(sources, "SELECT status, job_status, error, count(*) FROM runs GROUP BY 1, 2, 3")) == [
            ("completed", "completed", None, 10), ("error", "error", "boom", 10),
        ]  # fmt: skip
        assert not sources.has_history


def test_without_a_history_and_without_an_end_there_are_no_runs(
    attach: Callable[[Shape], Sources],
) -> None:
    shape = Shape(NO_HISTORY.tables, NO_HISTORY.mapping.replace('completed_at = "finished_at"', ""))
    with attach(shape) as sources:
        assert rows(sources, "SELECT * FROM runs") == []
        assert sources.missing(["runs.execution_time", "jobs.status"]) == ["runs.execution_time"]


def test_a_word_that_nobody_mapped_is_shown_and_counted_as_nothing_of_ours(
    attach: Callable[[Shape], Sources],
) -> None:
    shape = Shape(UUID_KEYS.tables, UUID_KEYS.mapping.replace('error = ["broken"]', ""))
    with attach(shape) as sources:
        assert dict(rows(sources, "SELECT status, count(*) FROM jobs GROUP BY 1"))["broken"] == 5


def test_nothing_can_be_written_in_theirs(attach: Callable[[Shape], Sources]) -> None:
    with attach(UUID_KEYS) as sources:
        with (
            pytest.raises(UsageError, match="nothing is ever written"),
            sources.pipeline.transaction(),
        ):
            pass
        with pytest.raises(UsageError), sources.pipeline.connect() as link, link.transaction():
            pass
        with (
            pytest.raises(psycopg2.errors.ReadOnlySqlTransaction),
            sources.pipeline.transaction(read_only=True) as transaction,
        ):
            transaction.run("DELETE FROM press.attempts")
        engine = sources.pipeline.engine()
        with pytest.raises(sqlalchemy.exc.InternalError, match="read-only"), engine.begin() as link:
            link.exec_driver_sql("DELETE FROM press.attempts")
        with sources.bookkeeping.transaction() as transaction:
            transaction.run(
                "INSERT INTO events (kind, message) VALUES ('test', 'ours may be written')"
            )


def test_a_need_outside_the_vocabulary_is_a_mistake_in_our_code(database: Database) -> None:
    with pytest.raises(ValueError, match=r"runs\.strated_at"):
        Sources(database, database).missing(["runs.started_at", "runs.strated_at"])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[jobs]", "[jobs", "is no TOML"),
        ("[jobs]", "[job]", "job is not a section; did you mean 'jobs'?"),
        ('table = "orders"', 'tabel = "orders"', "jobs.tabel is not an entry; did you mean 'table'?"),
        ('table = "orders"', "", "jobs.table is missing"),
        ('status = "state"', 'state = "state"', "jobs.columns.state is not a column of ours; did you mean 'status'? Left of = stands our name"),
        ('status = "state"', 'sttaus = "state"', "jobs.columns.sttaus is not a column of ours; did you mean 'status'?"),
        ('status = "state"', "", "jobs.columns.status is missing"),
        ('error = ["broken"]', 'errors = ["broken"]', "jobs.statuses.errors is not a status of ours; did you mean 'error'?"),
        ('error = ["broken"]', 'error = ["printed"]', "jobs.statuses.error holds 'printed', and so does completed"),
        ('error = ["broken"]', 'error = "broken"', "must be a list of their words, and is 'broken'"),
        ('error = ["broken"]', 'undecided = ["broken"]', "still holds 'broken': decide what each means and move it into one of pending, processing"),
        ('schema = "press"', 'schema = "press"\ntimezone = "Berlin"', "is 'Berlin', which is no time zone"),
        ('schema = "press"', 'schema = 7', "jobs.schema must be a text, and is 7"),
        ('job_id = "uuid"', 'job_id = "u\\u0000id"', "must be a text"),
    ],
)  # fmt: skip
def test_a_wrong_mapping_is_refused_with_file_entry_and_what_was_meant(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_mapping(changed(old, new).write_mapping(tmp_path))
    assert words in str(refused.value)
    assert f"RUNBOOK_MAPPING: {tmp_path / 'mapping.toml'}" in str(refused.value)


def changed(old: str, new: str) -> Shape:
    assert old in UUID_KEYS.mapping
    return Shape(UUID_KEYS.tables, UUID_KEYS.mapping.replace(old, new, 1))


def test_a_mapping_that_does_not_fit_their_tables_is_refused(
    attach: Callable[[Shape], Sources], tmp_path: Path
) -> None:
    with attach(UUID_KEYS) as sources, sources.pipeline.transaction(read_only=True) as transaction:
        for old, new, words in (
            ('table = "orders"', 'table = "order"', "jobs.table names press.order, which does not exist in this database; did you mean 'press.orders'?"),
            ('status = "state"', 'status = "State"', "jobs.columns.status names 'State', which press.orders does not have; did you mean 'state'?"),
            ('created_at = "ordered"', 'created_at = "headline"', "names 'headline', whose type is character varying; expected timestamp with time zone."),
            ('retry_count = "tries"', 'retry_count = "failure"', "whose type is text; expected integer"),
        ):  # fmt: skip
            mapping = read_mapping(changed(old, new).write_mapping(tmp_path))
            with pytest.raises(ConfigurationError) as refused:
                their_definitions(transaction, mapping)
            assert words in str(refused.value)


def test_a_mapping_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml cannot be read: No such file.*--propose-mapping"):  # fmt: skip
        read_mapping(tmp_path / "none.toml")


def test_a_column_that_goes_away_later_is_said_in_words(
    attach: Callable[[Shape], Sources],
) -> None:
    with attach(UUID_KEYS) as sources:
        with Database(sources.pipeline.url).transaction() as transaction:
            transaction.run("ALTER TABLE press.orders DROP COLUMN headline")
        with pytest.raises(CouldNotBeDone, match="not as RUNBOOK_MAPPING has them"):
            rows(sources, "SELECT topic FROM jobs")


def test_our_tables_go_where_the_settings_say_and_never_beside_theirs(
    new_database: NewDatabase, tmp_path: Path
) -> None:
    theirs = UUID_KEYS.make(new_database)
    settings = attached_settings(theirs, UUID_KEYS, tmp_path)
    assert settings.own_tables_url() is None
    beside = settings.model_copy(update={"runbook_database_schema": "press"})
    with pytest.raises(ConfigurationError, match="our tables never stand beside"):
        open_sources(beside)
    own = Settings(**{**settings.model_dump(exclude_unset=True), "runbook_database_schema": "ops"})
    assert own.own_tables_url() == own.database_url
    with pytest.raises(ConfigurationError, match="DATABASE_URL is not"):
        Settings(runbook_mapping=tmp_path / "mapping.toml").own_tables_url()
    with pytest.raises(ConfigurationError, match="RUNBOOK_MAPPING is not"):
        Settings(database_url=theirs.url, runbook_database_url=theirs.url).own_tables_url()
    with pytest.raises(ConfigurationError, match="no worker, and no job"):
        open_own_pipeline(settings)
