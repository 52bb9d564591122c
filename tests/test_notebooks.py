"""The weekly review through the runner: every figure of a known history."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from history import EXPECTED, EXPECTED_DAYS, EXPECTED_DURATIONS, LAST_DAY, seed_history

from runbook_lib.archive.store import open_store
from runbook_lib.database import Database
from runbook_lib.procedures.runner import run
from runbook_lib.settings import Settings


def test_the_review_of_a_known_history_has_every_figure_right(
    database: Database, settings: Settings
) -> None:
    seed_history(database)
    record = run(
        "weekly/performance_review",
        {"last_day": LAST_DAY},
        "tester",
        database=database,
        settings=settings,
    )
    assert (record.status, record.verdict, record.error) == ("succeeded", "warning", None)
    assert {name: record.results[name] for name in EXPECTED} == EXPECTED
    for stage, figures in EXPECTED_DURATIONS.items():
        assert record.results["durations"][stage] == pytest.approx(figures)
    days = {
        day["day"]: (day["completed"], day["error"], day["lost"], day["released"], day["left_out"],
                     day["failures_percent"])
        for day in record.results["days"]
    }  # fmt: skip
    assert days == EXPECTED_DAYS
    assert record.archive.html is not None
    page = open_store(settings).read(record.archive.html).decode()
    assert page.count("<img") == 2
    assert "16 of 136 attempts" in page.split("<main>")[0]


def test_the_review_of_an_empty_database_is_not_enough_data_on_the_command_line(
    database: Database, home: Path
) -> None:
    """Also the keys of the answer that other programs rely on."""
    environment = {**os.environ, "DATABASE_URL": database.url, "RUNBOOK_HOME": str(home)}
    answer = subprocess.run(
        [sys.executable, "-m", "runbook_lib.cli", "run", "performance_review", "-p", "days=3", "--json"],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert {"run_id", "status", "verdict", "results", "archive"} <= found.keys()
    assert (found["status"], found["verdict"]) == ("succeeded", "not_enough_data")
    assert len(found["results"]["days"]) == 3
    assert Path(found["archive"]).is_file()
    assert "cell 4 of 12, Look" in answer.stderr


def test_the_review_counts_days_of_the_calendar(database: Database) -> None:
    """Whole days up to now: the first one begins at midnight, not at this hour a week ago."""
    from runbook_lib.health.performance import performance_review
    from runbook_lib.health.sources import Sources

    window = performance_review(Sources(database, database), days=1).window
    assert window is not None
    assert window.since == datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
