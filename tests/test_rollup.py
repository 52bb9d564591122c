"""The rollup and the figures from it say what the rows say, whoever writes them, when and in which order."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import failure_messages
import pytest
from history import EXPECTED, EXPECTED_DAYS, EXPECTED_DURATIONS, LAST_DAY, seed_history

from runbook_lib.database import Database
from runbook_lib.database.statements import Statement
from runbook_lib.health.context import Context, open_context
from runbook_lib.health.histogram import LARGEST_ERROR_PERCENT, bucket_of, seconds_of
from runbook_lib.health.metrics import History, records
from runbook_lib.health.rollup import refresh
from runbook_lib.health.situation import judge, read_situation
from runbook_lib.settings import Settings

SINCE = datetime(2026, 10, 26, tzinfo=UTC)
UNTIL = datetime(2026, 11, 2, tzinfo=UTC)
ADD = (
    "INSERT INTO job_runs (job_id, attempt, status, execution_time) "
    "SELECT time_ordered_uuid(), 1, %(status)s, %(at)s FROM generate_series(1, %(count)s)"
)


@pytest.fixture
def context(settings: Settings) -> Iterator[Context]:
    with open_context(settings) as opened:
        yield opened


@pytest.fixture
def history(context: Context) -> Iterator[History]:
    with History(context) as opened:
        yield opened


def test_the_figures_of_a_known_history_are_the_expected_ones(
    database: Database, history: History
) -> None:
    seed_history(database)
    days = history.by_day(7, last_day=LAST_DAY)
    found = {
        str(row["day"]): (
            row["completed"], row["error"], row["lost"], row["released"], row["left_out"],
            None if row["failures_percent"] is None else round(row["failures_percent"], 1),
        )
        for row in records(days)
    }  # fmt: skip
    assert found == EXPECTED_DAYS
    failures = history.failures(SINCE, UNTIL).set_index("error_class")
    expected = EXPECTED["failures_by_class"]
    assert {name: failures.loc[name, "attempts"] for name in expected} == expected
    assert failures.loc["openai_overloaded", "jobs"] == 5
    cost = history.cost(7, last_day=LAST_DAY)
    assert cost["tokens"].sum() == EXPECTED["tokens"]
    assert cost["cost_usd"].sum() == pytest.approx(EXPECTED["cost_usd"])
    assert cost["calls_without_price"].sum() == EXPECTED["calls_without_price"]


def test_durations_are_those_of_the_rows_within_the_stated_error(
    database: Database, history: History
) -> None:
    seed_history(database)
    found = {row.pop("stage"): row for row in records(history.durations(SINCE, UNTIL))}
    for stage, expected in EXPECTED_DURATIONS.items():
        for name in ("attempts", "average_seconds", "longest_seconds"):
            assert found[stage][name] == pytest.approx(expected[name]), (stage, name)
        for name in ("p50_seconds", "p95_seconds", "p99_seconds"):
            if expected[name] is None:
                assert found[stage][name] is None
            else:
                # between two attempts of which the scale names one
                assert found[stage][name] == pytest.approx(expected[name], rel=0.07), (stage, name)
    by_provider = history.durations(SINCE, UNTIL, "provider").set_index("provider")
    assert by_provider.loc["openai", "attempts"] == 120
    # Whole less writing and publishing; twelve attempts measured more inside calls than as a whole.
    assert by_provider.loc["pipeline", "average_seconds"] == pytest.approx((363 - 3.9) / 120)


def add(database: Database, at: datetime, count: int = 1, status: str = "completed") -> None:
    with database.transaction() as transaction:
        transaction.run(ADD, status=status, at=at, count=count)


def counted(database: Database) -> int:
    with database.transaction(read_only=True) as transaction:
        return int(
            transaction.value(
                "SELECT coalesce(sum(completed + error + lost + released + left_out), 0) FROM run_slots WHERE minutes = 60"
            )
        )


def test_a_late_commit_is_counted_by_the_next_refresh(database: Database, context: Context) -> None:
    at = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)
    add(database, at)
    with database.connect() as late, late.transaction() as transaction:
        transaction.run(ADD, status="error", at=at, count=3)
        done = refresh(context.sources)
        assert (done.hours, done.attempts, done.complete) == (1, 1, True)
        assert counted(database) == 1
    assert refresh(context.sources).attempts == 4
    assert counted(database) == 4
    assert refresh(context.sources).hours == 0


def test_changed_moved_and_removed_rows_are_followed_and_dropped_partitions_too(
    database: Database, context: Context
) -> None:
    now = datetime.now(UTC)
    old = datetime(2026, 1, 7, 12, tzinfo=UTC)
    add(database, now, 2)
    add(database, old, 5)
    refresh(context.sources)
    assert counted(database) == 7
    with database.transaction() as transaction:
        transaction.run("UPDATE job_runs SET status = 'error', execution_time = execution_time - interval '3 hours' WHERE execution_time > now() - interval '1 hour'")  # fmt: skip
    refresh(context.sources)
    with database.transaction() as transaction:
        row = transaction.row("SELECT sum(error) AS error, count(*) AS hours FROM run_slots WHERE minutes = 60")  # fmt: skip
        assert (row.error, row.hours) == (2, 2)
        transaction.run("DELETE FROM job_runs WHERE execution_time > now() - interval '1 day'")
    refresh(context.sources)
    assert counted(database) == 5
    with database.transaction() as transaction:
        transaction.value("SELECT make_job_runs_partitions()")  # the old rows get one of their own
    refresh(context.sources)
    assert counted(database) == 5
    with database.transaction() as transaction:
        transaction.run("DROP TABLE job_runs_2026_w02")
    refresh(context.sources)
    assert counted(database) == 0


def test_an_attached_partition_and_a_truncation_are_noticed(
    database: Database, context: Context
) -> None:
    add(database, datetime(2026, 1, 7, 12, tzinfo=UTC), 5)
    with database.transaction() as transaction:
        transaction.value("SELECT make_job_runs_partitions()")
        transaction.run("ALTER TABLE job_runs DETACH PARTITION job_runs_2026_w02")
    refresh(context.sources)
    assert counted(database) == 0
    with database.transaction() as transaction:
        transaction.run("ALTER TABLE job_runs ATTACH PARTITION job_runs_2026_w02 FOR VALUES FROM ('2026-01-05 00:00+00') TO ('2026-01-12 00:00+00')")  # fmt: skip
    refresh(context.sources)
    assert counted(database) == 5
    with database.transaction() as transaction:
        transaction.run("TRUNCATE job_runs")
    refresh(context.sources)
    assert counted(database) == 0


def test_any_number_may_refresh_while_rows_come_in_and_nothing_is_lost_or_counted_twice(
    database: Database, context: Context
) -> None:
    at = datetime(2026, 11, 2, 9, tzinfo=UTC)
    problems: list[BaseException] = []

    def watched(work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                problems.append(error)

        return threading.Thread(target=run)

    def write() -> None:
        with database.connect() as connection:
            for number in range(25):
                with connection.transaction() as transaction:
                    transaction.run(ADD, status="completed", at=at + timedelta(minutes=7 * number), count=2)  # fmt: skip

    def refresh_often() -> None:
        for _ in range(6):
            refresh(context.sources)

    threads = [watched(write), watched(write), watched(refresh_often), watched(refresh_often)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert refresh(context.sources).complete
    assert counted(database) == 100


def test_without_refreshes_marks_do_not_pile_up(database: Database, context: Context) -> None:
    for _ in range(5):
        add(database, SINCE)
    with database.transaction() as transaction:
        assert transaction.value("SELECT drop_repeated_run_marks()") == 4
        assert transaction.value("SELECT count(*) FROM dirty_run_hours") == 1
    with database.transaction() as refreshing:
        # While somebody refreshes none is dropped: the one that stays might be taken away by them.
        add(database, SINCE)
        refreshing.rows("SELECT pg_advisory_xact_lock(hashtext('runbook rollup'), 'run_slots'::regclass::oid::integer)")  # fmt: skip
        with database.transaction() as transaction:
            assert transaction.value("SELECT drop_repeated_run_marks()") == 0
    assert refresh(context.sources).attempts == 6


def test_a_refresh_that_has_to_wait_too_long_says_what_is_left(
    database: Database, context: Context
) -> None:
    add(database, SINCE)
    with database.transaction() as other:
        other.rows("SELECT pg_advisory_xact_lock(hashtext('runbook rollup'), 'run_slots'::regclass::oid::integer)")  # fmt: skip
        done = refresh(context.sources, deadline_seconds=0.5)
        assert (done.hours, done.hours_left, done.complete) == (0, 1, False)
    assert refresh(context.sources).complete


def test_whoever_may_write_runs_need_know_nothing_of_the_rollup(database: Database) -> None:
    with database.transaction() as transaction:
        name = transaction.value("SELECT 'writer_' || substr(md5(current_database()), 1, 12)")
        transaction.run(f"CREATE ROLE {name} LOGIN PASSWORD 'only-here-42'")
        transaction.run(f"GRANT INSERT, SELECT ON job_runs TO {name}")
        transaction.run(f"GRANT USAGE ON SCHEMA public TO {name}")
    try:
        host, _, name_of_database = database.address.partition("/")
        writer = Database(f"postgresql://{name}:only-here-42@{host}/{name_of_database}")
        with writer.transaction() as transaction:
            transaction.run("INSERT INTO job_runs (job_id, attempt, status) VALUES (time_ordered_uuid(), 1, 'completed')")  # fmt: skip
        with database.transaction() as transaction:
            assert transaction.value("SELECT count(*) FROM dirty_run_hours") == 1
    finally:
        with database.transaction() as transaction:
            transaction.run(f"DROP OWNED BY {name}")
            transaction.run(f"DROP ROLE {name}")


def test_days_without_rows_are_there_and_say_nothing_of_success(history: History) -> None:
    days = records(history.by_day(3, "Asia/Kolkata"))
    assert len(days) == 3
    assert {row["attempts"] for row in days} == {0}
    assert {row["success_percent"] for row in days} == {None}
    assert len(history.by_hour(5, "Asia/Kolkata")) == 5
    assert json.dumps(history.as_json(2, 2))
    queue = records(history.queue())
    assert [row["state"] for row in queue] == ["due", "deferred", "processing", "expired"]


def test_buckets_hold_what_they_stand_for() -> None:
    for seconds in (0.001, 0.00101, 0.5, 2.0, 25.123, 3600.0):
        stands_for = seconds_of(bucket_of(seconds))
        error = abs(stands_for - max(seconds, 0.001)) / max(seconds, 0.001)
        assert 100 * error <= LARGEST_ERROR_PERCENT + 1e-9, seconds


def test_prometheus_reads_the_figures_and_no_label_is_a_text_of_somebody_elses(
    database: Database, context: Context
) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    from runbook_lib.health.exposition import prometheus_text

    add(database, datetime.now(UTC), 3)
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO job_runs (job_id, attempt, status, error_class) "
            "SELECT time_ordered_uuid(), 1, 'error', 'class ' || number FROM generate_series(1, 40) AS number"
        )
    families = {
        each.name: each for each in text_string_to_metric_families(prometheus_text(context))
    }
    attempts = {(each.labels["outcome"], each.labels["window"]): each.value for each in families["runbook_attempts"].samples}  # fmt: skip
    assert attempts["completed", "24h"] == 3
    assert attempts["error", "24h"] == 40
    failures = families["runbook_failures"].samples
    assert {each.labels["error_class"] for each in failures} == {"other"}
    assert families["runbook_up"].samples[0].value == 1


def test_without_a_database_prometheus_is_told_so(home: Path) -> None:
    from runbook_lib.health.exposition import prometheus_text
    from runbook_lib.health.sources import Sources
    from runbook_lib.policy import Policy

    away = Database("postgresql://somebody:guess@127.0.0.1:1/nowhere")
    text = prometheus_text(Context(Settings(runbook_home=home), Policy(), Sources(away, away)))
    assert "runbook_up 0.0" in text
    assert "guess" not in text


def test_the_rules_get_their_figures_from_the_rollup(database: Database, context: Context) -> None:
    now = datetime.now(UTC)
    add(database, now - timedelta(minutes=40), 2)
    for number in range(7):
        add(database, now - timedelta(minutes=number), 1, "error")
    add(database, now, 5, "released")
    refresh(context.sources)

    class Reading:
        def rows(self, statement: Statement, **parameters: Any) -> list[Any]:
            with database.transaction(read_only=True) as transaction:
                return transaction.rows(context.sources.reading(statement), **parameters)

        own_rows = rows

    situation = read_situation(Reading(), now, context.policy)
    assert (situation.attempts_of_day.part, situation.attempts_of_day.whole) == (7, 9)
    assert situation.jobs_in_a_row == 7
    assert situation.last_success_at == now - timedelta(minutes=40)
    assert situation.waiting_since is None
    verdicts = {check.name: check.verdict for check in judge(situation, context.policy)}
    assert verdicts["failures.in_a_row"] == "critical"
    assert verdicts["failures.attempts_of_day"] == "critical"
    assert (
        verdicts["failures.jobs_of_day"] == "not_enough_data"
    )  # two jobs ended; seven are tried again
    assert verdicts["queue.throughput"] == "not_enough_data"


def test_texts_without_a_class_are_grouped_by_their_cause(
    context: Context, history: History, database: Database
) -> None:
    make = failure_messages.SEEN
    texts = [
        text
        for number, cause in enumerate(("tokens per minute", "deadlock", "free text"))
        for text in failure_messages.variants(make[cause], 20, number)
    ]
    with database.transaction() as transaction:
        for text in texts:
            transaction.run(
                "INSERT INTO job_runs (job_id, attempt, status, execution_time, error) "
                "VALUES (time_ordered_uuid(), 1, 'error', %(at)s, %(error)s)",
                at=SINCE + timedelta(hours=3),
                error=text,
            )
    found = history.failures(SINCE, UNTIL)
    assert sorted(found["attempts"]) == [20, 20, 20]
    assert set(found["error_class"]) == {"openai_rate_limit", "database_deadlock", "unclassed"}
    assert list(found["jobs"]) == [20, 20, 20]
    assert found["fingerprint"].nunique() == 3
