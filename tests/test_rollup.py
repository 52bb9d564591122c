"""The rollup and the figures from it say what the rows say, whoever writes them, when and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from history import EXPECTED, EXPECTED_DAYS, EXPECTED_DURATIONS, LAST_DAY, seed_history

from runbook_lib.database import Database
from runbook_lib.health.context import Context, open_context
from runbook_lib.health.metrics import History, records
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
