"""The performance review says what the history holds, no more and no less."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from history import (
    EXPECTED,
    EXPECTED_DAYS,
    EXPECTED_DURATIONS,
    LAST_DAY,
    seed_history,
)

from runbook_lib.database import Database
from runbook_lib.errors import UsageError
from runbook_lib.health.charts import durations, runs_by_day
from runbook_lib.health.performance import PerformanceReview, performance_review
from runbook_lib.health.rates import failure_check, rate
from runbook_lib.health.sources import Sources
from runbook_lib.health.tables import Table


@pytest.fixture
def review(database: Database) -> PerformanceReview:
    seed_history(database)
    return performance_review(Sources(database, database), days=7, last_day=LAST_DAY)


def test_every_figure_of_a_known_history_is_the_expected_one(review: PerformanceReview) -> None:
    results = json.loads(json.dumps(review.results(), default=str))
    assert {name: results[name] for name in EXPECTED} == EXPECTED


def test_durations_are_given_by_stage_and_only_where_enough_attempts_stand_behind_them(
    review: PerformanceReview,
) -> None:
    found = review.results()["durations"]
    assert found.keys() == EXPECTED_DURATIONS.keys()
    for stage, figures in EXPECTED_DURATIONS.items():
        for name, value in figures.items():
            if value is None:
                assert found[stage][name] != found[stage][name], (stage, name)
            else:
                assert found[stage][name] == pytest.approx(value), (stage, name)


def test_every_day_has_a_row_and_a_day_without_attempts_has_no_rate(
    review: PerformanceReview,
) -> None:
    found = {
        str(row["day"]): (
            row["completed"], row["error"], row["lost"], row["released"], row["left_out"],
            None if row["failures_percent"] != row["failures_percent"] else row["failures_percent"],
        )
        for row in review.by_day.frame.to_dict("records")
    }  # fmt: skip
    assert found == EXPECTED_DAYS
    assert "no data" in review.by_day._repr_html_()


def test_the_tables_add_up(review: PerformanceReview) -> None:
    attempts = sum(review.results()["attempts"].values())
    assert review.by_day.frame["attempts"].sum() == attempts
    failed = review.results()["failures_by_class"]
    assert sum(failed.values()) == attempts - 120 - 4


def test_days_begin_at_midnight_in_the_time_zone(database: Database) -> None:
    seed_history(database)
    berlin = performance_review(
        Sources(database, database), days=7, last_day=LAST_DAY, time_zone="Europe/Berlin"
    )
    by_day = berlin.by_day.frame.set_index(berlin.by_day.frame["day"].astype(str))
    assert by_day.loc["2026-10-31", "error"] == 0
    assert by_day.loc["2026-11-01", "error"] == 1
    # 23:59 UTC on the 25th is the 26th in Berlin
    assert berlin.results()["failures_by_class"]["outside"] == 1


def test_without_a_last_day_today_counts(database: Database) -> None:
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO job_runs (job_id, attempt, status) SELECT time_ordered_uuid(), 1, 'completed' FROM generate_series(1, 30)"
        )
    review = performance_review(Sources(database, database), days=2)
    assert review.by_day.frame["attempts"].tolist() == [0, 30]
    assert review.verdict == "ok"


def test_each_failure_comes_with_what_it_means_and_what_to_do(review: PerformanceReview) -> None:
    rows = {row["error_class"]: row for row in review.failures.frame.to_dict("records")}
    assert rows["wordpress_timeout"]["advice"].startswith("Look at the site's response time")
    assert rows["mystery"]["meaning"] == "Not in the catalogue of failures."
    assert rows["openai_overloaded"]["jobs"] == 5


def test_the_verdict_follows_the_written_runbooks_thresholds(review: PerformanceReview) -> None:
    assert (review.verdict, review.check.value, review.check.unit) == ("warning", 11.8, "percent")
    assert review.check.threshold == 20
    assert "16 of 136" in review.check.message


def test_an_empty_database_is_not_enough_data(database: Database) -> None:
    review = performance_review(Sources(database, database))
    assert review.verdict == "not_enough_data"
    assert "no rate" in review.check.message
    assert review.failures._repr_html_() == "<p>No attempt failed in these days.</p>"
    assert review.runs_by_day_chart().words == "No attempt ended in these days."
    assert review.durations_chart().words == "No attempt completed in these days."


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://somebody:guess@127.0.0.1:1/nowhere", "No connection"),
        (None, "db migrate"),
    ],
)
def test_a_database_that_cannot_answer_is_said_in_words(
    url: str | None, words: str, new_database: Callable[..., Database]
) -> None:
    unusable = Database(url) if url else new_database(migrated=False)
    review = performance_review(Sources(unusable, unusable))
    assert review.verdict == "not_enough_data"
    assert words in review.check.message
    assert "guess" not in repr(review)
    for shown in (review.by_day, review.failures, review.cost, review.durations):
        assert "No figures" in shown._repr_html_()


def test_a_role_that_may_not_read_gets_words(database: Database) -> None:
    with database.transaction() as transaction:
        name = transaction.value("SELECT 'reader_' || substr(md5(current_database()), 1, 12)")
        transaction.run(f"CREATE ROLE {name} LOGIN PASSWORD 'only-here-42'")
    try:
        host = database.address.split("/")
        narrow = Database(f"postgresql://{name}:only-here-42@{host[0]}/{host[1]}")
        review = performance_review(Sources(narrow, narrow))
        assert review.verdict == "not_enough_data"
        assert "permission denied" in review.check.message
    finally:
        with database.transaction() as transaction:
            transaction.run(f"DROP ROLE {name}")


def test_a_time_zone_that_does_not_exist_is_refused(database: Database) -> None:
    with pytest.raises(UsageError, match="Berlin/Europe"):
        performance_review(Sources(database, database), time_zone="Berlin/Europe")


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    # Published values: Newcombe 1998, table of the Wilson score interval without correction.
    [(81, 263, 25.53, 36.62), (15, 148, 6.24, 16.05), (0, 20, 0.0, 16.11), (1, 29, 0.61, 17.18)],
)
def test_bounds_are_wilsons(part: int, whole: int, low: float, high: float) -> None:
    found = rate(part, whole)
    assert found.low_percent == pytest.approx(low, abs=0.01)
    assert found.high_percent == pytest.approx(high, abs=0.01)


@pytest.mark.parametrize(
    ("part", "whole", "verdict"),
    [
        (0, 0, "not_enough_data"),
        (1, 1, "not_enough_data"),  # one failure is no failure rate
        (4, 4, "not_enough_data"),
        (5, 5, "critical"),  # even its lower bound is above 20 %
        (0, 5, "not_enough_data"),  # may still be 43 %
        (0, 16, "ok"),  # at most 19.4 %
        (2, 19, "not_enough_data"),
        (2, 20, "ok"),  # 10 % is not above 10 %
        (3, 20, "warning"),
        (4, 20, "warning"),  # 20 % is not above 20 %
        (5, 20, "critical"),
        (1, 1000, "ok"),
    ],
)
def test_the_verdict_says_when_a_sample_is_too_small(part: int, whole: int, verdict: str) -> None:
    assert failure_check("x.y", rate(part, whole), what="attempts", source="s").verdict == verdict


def test_a_chart_is_a_small_picture_with_its_words(review: PerformanceReview) -> None:
    for chart in (review.runs_by_day_chart(), review.durations_chart()):
        bundle, metadata = chart._repr_mimebundle_()
        assert bundle["image/png"].startswith("iVBOR")
        assert len(chart.png) < 120_000
        assert metadata["image/png"]["alt"] == bundle["text/plain"]
    assert "2 of them without any" in review.runs_by_day_chart().words
    assert "above 20 % in 2" in review.runs_by_day_chart().words


def test_charts_draw_long_and_one_day_histories() -> None:
    import pandas

    def days(count: int) -> Any:
        frame = pandas.DataFrame({"day": pandas.date_range("2026-01-01", periods=count).date})
        zeros = dict.fromkeys(("error", "lost", "released", "left_out"), 0)
        return frame.assign(attempts=1, completed=1, failures_percent=0.0, **zeros)

    assert "366 days" in runs_by_day(days(366)).words
    assert "1 days" in runs_by_day(days(1)).words
    one = {"stage": "whole", "attempts": 1, "p50_seconds": 900.0, "p95_seconds": float("nan"),
           "p99_seconds": float("nan"), "longest_seconds": 900.0}  # fmt: skip
    assert "900.00 s" in durations(pandas.DataFrame([one]), 2.0).words


def test_a_table_escapes_what_stands_in_it_and_says_what_is_missing() -> None:
    import pandas

    frame = pandas.DataFrame(
        {"error_class": ["<script>"], "share_percent": [None], "last_day": [date(2026, 11, 1)]}
    )
    shown = Table(frame, absent="too few")._repr_html_()
    assert "<script>" not in shown
    assert "too few" in shown
    assert "share %" in shown
    assert "Sun 2026-11-01" in shown
