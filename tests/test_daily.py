"""The daily procedures' figures: each worked out by hand, and no alarm from what proves nothing."""

from __future__ import annotations

from datetime import date

import pytest
from history import LAST_DAY, seed_history

from runbook_lib.database import Database
from runbook_lib.health.checks import Check
from runbook_lib.health.failure_rate import failure_rate
from runbook_lib.health.health_check import _shares, health_check
from runbook_lib.health.sources import Sources

WORST_DAY = date(2026, 10, 29)


@pytest.fixture
def sources(database: Database, monkeypatch: pytest.MonkeyPatch) -> Sources:
    monkeypatch.setenv("DATABASE_URL", database.url)
    return Sources(database, database)


def test_the_failure_rate_of_a_known_day(database: Database, sources: Sources) -> None:
    seed_history(database)
    found = failure_rate(sources, days=4, last_day=WORST_DAY)
    assert (found.verdict, found.day, found.problem) == ("critical", WORST_DAY, None)
    assert found.check.message.startswith(
        "5 of 24 attempts of Thursday, 29 October 2026 failed: 20.8 %"
    )
    assert "Of 19 jobs that ended, 0 failed." in found.check.message
    results = found.results()
    assert (results["attempts"], results["attempts_failed"], results["attempts_failed_percent"]) == (24, 5, 20.83)  # fmt: skip
    assert (results["jobs"], results["jobs_failed_percent"]) == (19, 0.0)
    assert results["causes"] == {"wordpress_timeout": 3, "worker_lost": 2}
    assert [day["attempts"] for day in results["days"]] == [60, 50, 0, 24]
    assert "5 of 24" in found._repr_html_()
    assert "wordpress_timeout" in found.causes._repr_html_()
    assert "134 attempts in 4 days" in found.by_day_chart().words


@pytest.mark.parametrize(("day", "verdict"), [(date(2026, 10, 26), "ok"), (date(2026, 10, 27), "warning"), (date(2026, 10, 31), "not_enough_data"), (LAST_DAY, "not_enough_data")])  # fmt: skip
def test_a_day_is_judged_by_the_written_runbooks_thresholds(
    database: Database, sources: Sources, day: date, verdict: str
) -> None:
    """20.0 % is not above 20 %; one of two proves nothing; nothing at all is not 100 % success."""
    seed_history(database)
    found = failure_rate(sources, days=1, last_day=day)
    assert found.verdict == verdict
    assert found.check.procedure == (
        "emergency/high_failure_rate" if verdict == "warning" else None
    )


def test_without_a_day_it_is_the_one_that_ended_last(sources: Sources) -> None:
    with sources.pipeline.transaction(read_only=True) as transaction:
        yesterday = transaction.value("SELECT (now() AT TIME ZONE 'Asia/Tokyo')::date - 1")
    found = failure_rate(sources, days=1, time_zone="Asia/Tokyo")
    assert (found.day, found.verdict) == (yesterday, "not_enough_data")
    assert found.by_day_chart().words == "No attempt ended in these days."
    assert [hour.hour for hour in found.hours["hour"]] == list(range(24))
    assert found.by_hour_chart().words == "No attempt ended in these hours."


def test_a_health_check_says_the_worst_first_and_counts_everything(sources: Sources) -> None:
    found = health_check(sources, deadline_seconds=60)
    results = found.results()
    assert results["verdicts"]["database.reachable"] == "ok"
    assert results["checks"] == len(results["verdicts"]) == len(found.everything.frame)
    assert sum(found.by_part.frame["checks"]) == results["checks"]
    assert len(found.not_well.frame) == results["critical"] + results["warning"]
    assert len(found.not_answered.frame) == results["not_answered"]
    assert f"{results['checks']} checks at" in found.check.message
    assert "beside their thresholds" in found.thresholds_chart().words


def test_a_health_check_without_a_database_is_critical_and_says_which_step_fails() -> None:
    away = Database("postgresql://runbook:hidden-word@127.0.0.1:1/x")
    found = health_check(Sources(away, away), deadline_seconds=60)
    assert (found.verdict, found.check.procedure) == ("critical", "emergency/system_down")
    assert "database.reachable" in found.check.message
    assert "hidden-word" not in found._repr_html_() + str(found.results())


def test_a_bar_is_beyond_the_line_exactly_where_the_check_is_not_well() -> None:
    """Also where more is better: 60 % free of at least 15 % has used a quarter of its threshold."""
    checks = (
        Check("a.load", "ok", "", 20, "percent", 80),
        Check("b.load", "warning", "", 120, "percent", 80),
        Check("c.free", "ok", "", 60, "percent", 15),
        Check("d.free", "critical", "", 3, "percent", 15),
        Check("e.none", "ok", "", 0, "runs", 0),
        Check("f.word", "ok", "", "yes", None, 3),
        Check("g.unknown", "not_enough_data", "", 5, "s", 3),
    )
    assert _shares(checks) == [
        ("a.load", "ok", 25.0), ("b.load", "warning", 150.0), ("c.free", "ok", 25.0),
        ("d.free", "critical", 500.0),
    ]  # fmt: skip
