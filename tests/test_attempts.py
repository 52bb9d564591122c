"""What the newest attempts say: a burst that is over is told from one that goes on, and slow from hanging."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.triage.attempts import SLOWER_FACTOR, Attempts

NOW = datetime(2026, 5, 20, 12, tzinfo=UTC)
DEVIATIONS = 3.0


def attempts(outcomes: str, **columns: Any) -> Attempts:
    """The newest first, one a second: `.` completed, `x` failed; a capital letter is one of another category."""
    rows = []
    for place, word in enumerate(outcomes):
        ended = NOW - timedelta(seconds=place)
        bad = word in "xX"
        rows.append(
            SimpleNamespace(
                job_id=f"job {place}", status="error" if bad else "completed", error_class="openai_overloaded" if bad else None,
                execution_time=ended, age_seconds=float(place), worker="one", category="Guides" if word in ".x" else "News",
                model="small", stage="write", error="answered 503" if bad else None, tokens=100, write_seconds=1.0,
                started_at=ended - timedelta(seconds=1), completed_at=ended, **columns,
            )
        )  # fmt: skip
    return Attempts(rows)


def seen(outcomes: str) -> Any:
    return attempts(outcomes).classes["openai_overloaded"]


@pytest.mark.parametrize(
    ("outcomes", "over"),
    [
        ("................xxx" + "." * 40, True),  # a burst, and a long calm
        ("...x......x.......x.....x" + "." * 40, False),  # one in eight, all the time
        ("..xxx....xxx.....xxx" + "." * 40, False),  # bursts that come again
        (".........x" + "." * 40, True),  # one, and nothing after it
    ],
)
def test_a_calm_longer_than_chance_makes_it_ends_a_burst(outcomes: str, over: bool) -> None:
    assert seen(outcomes).over is over


def test_a_share_is_counted_from_its_beginning_and_not_diluted_by_what_went_well_before() -> None:
    found = seen("..x....x......x....x" + "." * 120)
    assert (found.attempts, found.of) == (4, 20)
    assert found.going_on
    assert found.partial


def test_all_of_one_category_fails_while_others_succeed() -> None:
    # One in ten of all attempts would be too few; but nothing of News succeeded since.
    found = seen("." * 14 + "X" + "." * 12 + "X" + "." * 12 + "X" + "." * 60 + "C" * 9)
    assert (found.going_on, found.within) == (True, "category")
    # One that succeeded between them: it is not the category.
    found = seen("." * 14 + "X" + "." * 12 + "X" + "C" + "." * 12 + "X" + "." * 60)
    assert (found.going_on, found.within) == (False, None)


def test_what_is_under_way_counts_as_slow_only_where_others_came_to_an_end_as_late() -> None:
    given = attempts("." * 60)
    late = [6.0, 6.5, 5.5, 5.8]
    for row in given.counted[:2]:
        row.write_seconds = 5.0
    # Two that ended are too few by themselves; with those under way it is no chance.
    assert given.slower("write_seconds", 3.0)[2] < DEVIATIONS  # type: ignore[index]
    new, old, deviations = given.slower("write_seconds", 3.0, late)  # type: ignore[misc]
    assert new > SLOWER_FACTOR * old
    assert deviations > DEVIATIONS
    # Where none came to an end, they may hang: that is something else than slow.
    assert attempts("." * 60).slower("write_seconds", 3.0, late)[2] < DEVIATIONS  # type: ignore[index]
    # And the young ones say nothing.
    assert given.slower("write_seconds", 3.0, [0.5] * 8) == given.slower("write_seconds", 3.0)
