"""The monthly review finds what was put there, is silent where nothing is wrong, and never acts by itself."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from foreign_pipeline import as_role

from runbook_lib import changes
from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone
from runbook_lib.health.sources import Sources
from runbook_lib.maintenance.database_review import database_review
from runbook_lib.maintenance.growth import growth, slope_per_day
from runbook_lib.maintenance.indexes import Index, Standing, read_indexes, suggestions
from runbook_lib.maintenance.own_plans import index_columns, own_plans

NOW = datetime(2026, 11, 26, tzinfo=UTC)
OLD = Standing(NOW - timedelta(days=60), False, 60.0, False, 0)


@pytest.fixture
def sources(database: Database, monkeypatch: pytest.MonkeyPatch) -> Sources:
    monkeypatch.setenv("DATABASE_URL", database.url)
    return Sources(database, database)


def run(database: Database, *statements: str) -> None:
    with database.transaction() as transaction:
        for statement in statements:
            transaction.run(statement)


def outside(database: Database, *statements: str) -> None:
    raw = psycopg2.connect(database.url)
    raw.autocommit = True
    try:
        with raw.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    finally:
        raw.close()


def index(name: str, *keys: str, **given: Any) -> Index:
    width = len(keys)
    values: dict[str, Any] = {
        "table_name": "t", "method": "btree", "partitioned": False, "size_bytes": 8192, "scans": 5, "last_used": None,
        "written": 10, "updated": 0, "hot": 0, "is_unique": False, "is_valid": True, "is_constraint": False,
        "ordering": " ".join(["1"] * width + ["0"] * width + ["0"] * width), "included": [], "predicate": None,
        "definition": "", **given,
    }  # fmt: skip
    return Index(index_name=name, keys=list(keys), **values)


def named(*indexes: Index, standing: Standing = OLD) -> dict[str, str]:
    return {each.index_name: each.finding for each in suggestions(indexes, standing)}


def test_a_fresh_database_of_ours_has_nothing_to_suggest(sources: Sources) -> None:
    review = database_review(sources)
    assert (review.suggested, review.problem) == ([], None)
    assert review.plans is not None
    assert review.plans.planned > 60
    assert set(review.plans.not_planned) <= {"history.windows"}
    results = review.results()
    assert results["verdicts"]["database.indexes"] == "ok"
    assert results["verdicts"]["database.growth"] == "not_enough_data"
    assert "30 are needed" in review.indexes._repr_html_()
    assert "Sizes were kept only once" in review.growth_chart().words
    assert "database.bloat" in review.everything._repr_html_()
    assert repr(review).startswith(review.verdict)


def test_repeated_indexes_are_found_and_those_that_a_constraint_needs_are_left() -> None:
    assert named(index("a", "x"), index("b", "x")) == {"b": "duplicate"}
    assert named(index("a", "x"), index("b", "x", is_unique=True)) == {"a": "duplicate"}
    assert named(index("a", "x"), index("b", "x", "y")) == {"a": "redundant"}
    assert named(index("a", "x", is_unique=True), index("b", "x", "y")) == {}
    assert named(index("a", "x", is_constraint=True), index("b", "x")) == {"b": "duplicate"}
    # another order, another condition, another method, or what only the narrow one carries along
    assert named(index("a", "y"), index("b", "x", "y")) == {}
    assert named(index("a", "x", predicate="(s = 1)"), index("b", "x", "y")) == {}
    assert named(index("a", "x", method="hash"), index("b", "x", "y")) == {}
    assert named(index("a", "x", included=["z"]), index("b", "x", "y")) == {}
    assert named(index("a", "x", ordering="1 0 3"), index("b", "x", "y")) == {}


def test_unused_is_said_only_after_enough_days_and_with_what_it_does_not_prove() -> None:
    unused = index("a", "x", scans=0)
    assert named(unused) == {"a": "unused"}
    assert named(unused, standing=Standing(NOW, False, 3.0, False, 0)) == {}
    assert named(index("a", "x", scans=0, is_unique=True)) == {}
    assert "2 replicas" in Standing(NOW, False, 60.0, False, 2).words
    found = suggestions([unused], OLD)[0]
    assert found.statement == 'DROP INDEX CONCURRENTLY "a"'
    assert "replicas" in found.does_not_prove


def test_indexes_of_a_real_table_are_read_as_they_are(database: Database) -> None:
    run(
        database,
        "CREATE TABLE things (a integer PRIMARY KEY, b integer, c text)",
        "CREATE INDEX things_b ON things (b)",
        "CREATE INDEX things_b_again ON things (b)",
        "CREATE INDEX things_b_c ON things (b, c)",
        "CREATE INDEX things_c_down ON things (c DESC)",
        "CREATE INDEX things_some ON things (b) WHERE c IS NULL",
        "INSERT INTO things SELECT n, 1 FROM generate_series(1, 5) AS n",
    )
    with pytest.raises(psycopg2.errors.UniqueViolation):
        outside(database, "CREATE UNIQUE INDEX CONCURRENTLY things_broken ON things (b)")
    with database.transaction(read_only=True) as transaction:
        indexes, standing = read_indexes(transaction)
    ours = [each for each in indexes if each.table_name == "things"]
    found = {each.index_name: each for each in suggestions(ours, standing)}
    assert {name: each.finding for name, each in found.items()} == {
        "things_broken": "invalid", "things_b": "redundant", "things_b_again": "duplicate",
    } or {name: each.finding for name, each in found.items()} == {
        "things_broken": "invalid", "things_b": "redundant", "things_b_again": "redundant",
    }  # fmt: skip
    assert found["things_broken"].statement.startswith("REINDEX INDEX CONCURRENTLY")
    runs = next(each for each in indexes if each.index_name == "job_runs_pkey")
    assert (runs.partitioned, runs.is_constraint) == (True, True)
    assert runs.size_bytes >= 5 * 8192


def test_an_index_is_missing_where_a_plan_of_ours_reads_a_large_table_for_few_rows(
    database: Database, sources: Sources
) -> None:
    run(
        database,
        "INSERT INTO content_jobs (topic, status, completed_at, last_error)"
        " SELECT 'topic', 'completed', now(), repeat('x', 900) FROM generate_series(1, 12000)",
        "INSERT INTO content_jobs (topic) SELECT 'waits' FROM generate_series(1, 20)",
    )
    outside(database, "ANALYZE content_jobs")
    assert own_plans(sources).suggestions() == []
    run(database, "DROP INDEX content_jobs_due", "DROP INDEX content_jobs_deferred")
    outside(database, "ANALYZE content_jobs")
    found = own_plans(sources)
    assert found.scans
    suggested = found.suggestions()
    assert any("status" in each.statement for each in suggested)
    for each in suggested:
        assert each.statement.startswith("CREATE INDEX CONCURRENTLY ON")
        assert "HOT" in each.write_cost
    with database.transaction(read_only=True) as transaction:
        assert transaction.value("SELECT count(*) FROM pg_prepared_statements") == 0


def test_the_columns_of_a_filter_come_in_an_indexs_order() -> None:
    assert index_columns("((run_at <= now()) AND (status = 'pending'::text))") == ("status", "run_at")  # fmt: skip
    assert index_columns("((status)::text = $1)") == ("status",)
    assert index_columns("(a > 1) AND (b > 2)") == ("a",)


def test_stale_statistics_are_counted_again_and_nothing_else(database: Database) -> None:
    run(database, "INSERT INTO content_jobs (topic) SELECT 'topic' FROM generate_series(1, 200)")
    outside(database, "SELECT pg_stat_force_next_flush()")
    plan = changes.plan(database, "statistics.analyze", {}, actor="ana")
    assert "content_jobs" in {row["key"] for row in plan.sample}
    with database.transaction(read_only=True) as transaction:
        before = transaction.value("SELECT reltuples FROM pg_class WHERE relname = 'content_jobs'")
    result = changes.apply(database, plan.change_id, actor="ana", dry_run=False)
    assert (result.status, before) == ("applied", -1)
    with database.transaction(read_only=True) as transaction:
        counted = transaction.value("SELECT reltuples FROM pg_class WHERE relname = 'content_jobs'")
    assert counted == 200


def test_a_partitioned_table_is_stale_by_itself(database: Database) -> None:
    run(database, "INSERT INTO job_runs (job_id, attempt, status) SELECT gen_random_uuid(), 1, 'completed' FROM generate_series(1, 5)")  # fmt: skip
    outside(database, "SELECT pg_stat_force_next_flush()")
    plan = changes.plan(database, "statistics.analyze", {}, actor="ana")
    assert [row["key"] for row in plan.sample] == ["job_runs"]
    changes.apply(database, plan.change_id, actor="ana", dry_run=False)
    outside(database, "SELECT pg_stat_force_next_flush()")
    assert changes.plan(database, "statistics.analyze", {}, actor="ana").row_count == 0


def limited(database: Database, *grants: str) -> Database:
    name = f"review_{uuid.uuid4().hex[:8]}"
    run(
        database,
        f"CREATE ROLE {name} LOGIN PASSWORD '{name}'",
        *(grant.format(role=name) for grant in grants),
    )
    return Database(as_role(database, name))


@pytest.mark.long
def test_a_role_that_does_not_own_the_tables_is_refused_instead_of_only_warned(
    database: Database,
) -> None:
    run(database, "INSERT INTO content_jobs (topic) SELECT 'topic' FROM generate_series(1, 200)")
    outside(database, "SELECT pg_stat_force_next_flush()")
    other = limited(
        database, "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}"
    )
    plan = changes.plan(other, "statistics.analyze", {}, actor="ana")
    with pytest.raises(CouldNotBeDone, match="only the owner may"):
        changes.apply(other, plan.change_id, actor="ana", dry_run=False)


@pytest.mark.long
def test_without_privileges_what_cannot_be_seen_is_said_and_the_rest_is_told(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = limited(database)
    monkeypatch.setenv("DATABASE_URL", other.url)
    review = database_review(Sources(other, other))
    assert review.problem is None
    verdicts = review.results()["verdicts"]
    assert verdicts["database.reachable"] == "ok"
    assert verdicts["database.wal"] == "not_allowed"
    assert verdicts["database.statements"] in ("not_allowed", "not_enough_data")
    assert review.plans is not None
    assert any("permission denied" in each for each in review.plans.not_planned.values())


@pytest.mark.parametrize("url", ["postgresql://somebody:guess@127.0.0.1:1/nowhere"])
def test_a_database_that_is_away_is_told_and_not_raised(url: str) -> None:
    away = Database(url)
    review = database_review(Sources(away, away))
    assert review.verdict in ("not_enough_data", "critical")
    assert "guess" not in repr(review) + review._repr_html_()
    assert review.indexes._repr_html_()
    assert review.growth_chart().words


def test_growth_is_the_line_through_what_was_kept_and_a_clean_up_does_not_bend_it(
    database: Database, sources: Sources
) -> None:
    with database.transaction() as transaction:
        size = transaction.row(load("database_review")["sizes"])
        for days_ago in range(20, 0, -1):
            transaction.run(
                "INSERT INTO size_snapshots VALUES (now() - make_interval(days => %(days)s), %(database)s, %(bytes)s, '{}')",
                days=days_ago, database=size.database, bytes=size.bytes - 1_000_000 * days_ago,
            )  # fmt: skip
    found = growth(sources, 30_000_000, "of a test")
    assert found.daily_bytes == pytest.approx(1_000_000, rel=0.05)
    assert found.check.verdict == "warning"
    assert found.check.value == pytest.approx(30, abs=2)
    assert "is used up on" in found.check.message
    assert growth(sources, 5_000_000, "of a test").check.verdict == "critical"
    assert growth(sources, None, "nobody knows").check.verdict == "ok"
    sizes = [
        (NOW + timedelta(days=day), 1000 * day - (3000 if day > 7 else 0)) for day in range(15)
    ]
    assert slope_per_day(sizes) == pytest.approx(1000, rel=0.3)
    assert slope_per_day(sizes[:1]) is None


def test_dead_rows_beyond_a_tables_own_threshold_and_full_sequences_are_found(
    database: Database, sources: Sources
) -> None:
    run(
        database,
        "CREATE TABLE churned (a integer) WITH (autovacuum_enabled = false)",
        "INSERT INTO churned SELECT 1 FROM generate_series(1, 100)",
        "CREATE SEQUENCE nearly AS smallint START 30000",
        "SELECT nextval('nearly')",
    )
    outside(database, "SELECT pg_stat_force_next_flush()")
    checks = {each.name: each for each in database_review(sources).checks}
    assert checks["database.vacuum_lag"].verdict == "warning"
    assert "churned" in checks["database.vacuum_lag"].message
    assert checks["database.sequences"].verdict == "critical"
    assert "nearly" in checks["database.sequences"].message


@pytest.mark.long
def test_bloat_is_measured_where_the_extension_is_and_never_estimated(
    database: Database, sources: Sources
) -> None:
    run(
        database,
        "CREATE EXTENSION pgstattuple",
        "CREATE TABLE emptied (filler text) WITH (autovacuum_enabled = false)",
        "INSERT INTO emptied SELECT repeat('x', 1000) FROM generate_series(1, 15000)",
        "DELETE FROM emptied WHERE ctid >= '(500,0)'",
    )
    outside(database, "VACUUM (TRUNCATE false) emptied", "ANALYZE emptied")
    checks = {each.name: each for each in database_review(sources).checks}
    assert checks["database.bloat"].verdict == "warning", checks["database.bloat"]
    assert checks["database.bloat"].value > 60
