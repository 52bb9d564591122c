"""Where the time goes, what grew, and that more jobs at once are never advised where they do harm."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from month import seed_month

from runbook_lib.database import Database
from runbook_lib.health.checks import Check
from runbook_lib.health.sources import Sources
from runbook_lib.health.survey import Survey
from runbook_lib.maintenance.slow_jobs import Part, _check, _more_at_once, slow_jobs
from runbook_lib.policy import Policy


@pytest.fixture
def sources(database: Database, monkeypatch: pytest.MonkeyPatch) -> Sources:
    monkeypatch.setenv("DATABASE_URL", database.url)
    return Sources(database, database)


def test_the_parts_of_a_known_month(database: Database, sources: Sources) -> None:
    seed_month(database)
    found = slow_jobs(sources, hours=168)
    averages = {part.name: part.average_seconds for part in found.parts}
    assert (averages["writing"], averages["publishing"]) == (pytest.approx(15), pytest.approx(1))
    # 24 attempts of today's 10 s do not say how long the calls took; how many others there are depends on the hour.
    assert 4 < averages["own"] < 5
    writing = found.by_part.frame.set_index("part").loc["writing"]
    assert writing["share_percent"] == pytest.approx(73, abs=5)
    assert writing["times_before"] == pytest.approx(1)
    assert found.results()["grown"] == []
    assert found.parts_chart().words.startswith("writing\n(OpenAI) 7")
    assert found.durations_chart().words.startswith("Durations by stage.")
    assert found.more_at_once.verdict == "warning"


def test_what_grew_beside_the_week_before_is_named_with_whose_it_is(
    database: Database, sources: Sources
) -> None:
    seed_month(database)
    with database.transaction() as transaction:
        transaction.run("DELETE FROM content_jobs WHERE status <> 'completed'")
        transaction.run(
            "INSERT INTO job_runs (job_id, attempt, status, started_at, completed_at, write_seconds, publish_seconds)"
            " SELECT gen_random_uuid(), 1, 'completed', now() - interval '70 seconds', now(), 60, 1 FROM generate_series(1, 200)"
        )
    found = slow_jobs(sources, hours=1)
    assert (found.verdict, found.results()["grown"]) == ("warning", ["writing", "own"])
    assert found.check.message.startswith("Writing takes 4")
    assert found.check.procedure == "troubleshooting/openai_errors"
    assert "writing takes" in found.more_at_once.message


def test_an_empty_database_and_one_that_is_away_say_what_is_not_known(sources: Sources) -> None:
    found = slow_jobs(sources)
    assert (found.verdict, found.more_at_once.verdict) == ("not_enough_data", "warning")
    assert found.parts_chart().words == "No attempt completed in this time."
    away = Database("postgresql://somebody:guess@127.0.0.1:1/nowhere")
    gone = slow_jobs(Sources(away, away))
    assert gone.verdict == "not_enough_data"
    assert "guess" not in repr(gone) + gone._repr_html_()
    assert gone.durations_chart().words == "Durations are not known."


WORKERS = {"running": [{"capacity": 4, "in_flight": 4}]}
WELL = {
    "queue.depth": Check("queue.depth", "ok", "9 jobs are due.", 9),
    "queue.oldest_pending": Check("queue.oldest_pending", "ok", "waits", 60),
    "workers.alive": Check("workers.alive", "ok", "1 workers run.", 1, details=WORKERS),
    "database.connections": Check("database.connections", "ok", "5 of 100", 5),
    "queue.pauses": Check("queue.pauses", "ok", "none"),
    "openai.api": Check("openai.api", "ok", "answers"),
}
PART = Part("writing", 100, 20.0, 18.0, 40.0, 100, 18.0)


def asked(*changed: Check) -> Survey:
    return Survey(
        tuple({**WELL, **{each.name: each for each in changed}}.values()), datetime.now(UTC), 0.0
    )


def test_nothing_against_it_is_said_as_a_trial_for_level_two() -> None:
    found = _more_at_once(asked(), [PART], 0, Policy())
    assert found.verdict == "ok"
    assert "only a trial tells" in found.message
    assert "Level 2" in (found.next or "")


@pytest.mark.parametrize(
    ("changed", "part", "limited", "words"),
    [
        (replace(WELL["database.connections"], verdict="warning"), PART, 0, "connections are short"),
        (replace(WELL["database.connections"], verdict="not_allowed"), PART, 0, "not known whether connections are left"),
        (WELL["openai.api"], PART, 7, "7 attempts met a rate limit"),
        (WELL["openai.api"], replace(PART, p50_seconds=40.0), 0, "times as long as before"),
        (WELL["openai.api"], replace(PART, p95_seconds=300.0), 0, "writing is slow"),
        (WELL["openai.api"], replace(PART, name="publishing", p95_seconds=30.0), 0, "publishing is slow"),
        (replace(WELL["queue.pauses"], verdict="warning"), PART, 0, "a provider is paused"),
        (replace(WELL["queue.depth"], value=0), PART, 0, "no job waits"),
        (replace(WELL["workers.alive"], details={}), PART, 0, "no worker runs"),
        (replace(WELL["workers.alive"], details={"running": [{"capacity": 4, "in_flight": 1}]}), PART, 0, "3 jobs more could be in hand"),
        (Check("queue.concurrency", "warning", "full"), PART, 0, "the limit of jobs at once"),
        (Check("database.blockers", "critical", "locks"), PART, 0, "sessions wait for locks"),
    ],
)  # fmt: skip
def test_more_jobs_at_once_are_never_advised_where_they_do_harm(
    changed: Check, part: Part, limited: int, words: str
) -> None:
    found = _more_at_once(asked(changed), [part], limited, Policy())
    assert found.verdict == "warning"
    assert found.message.startswith("More jobs at once would not help")
    assert words in found.message
    assert "worse" in (found.next or "")


def test_jobs_that_wait_are_told_with_their_reason_and_not_as_slowness() -> None:
    waits = Check("queue.oldest_pending", "critical", "The oldest job has waited for 2 h.", 7200)
    paused = Check(
        "queue.pauses",
        "warning",
        "openai is paused.",
        next="Resume it.",
        procedure="troubleshooting/openai_errors",
    )
    found = _check(asked(waits, paused), [PART], 24)
    assert (found.verdict, found.next, found.procedure) == (
        "critical",
        "Resume it.",
        "troubleshooting/openai_errors",
    )
    assert "The reason: openai is paused." in found.message
    busy = _check(asked(waits), [PART], 24)
    assert "they are busy" in busy.message
    assert "RUNBOOK_CONCURRENCY" not in f"{busy.next}"


def test_few_attempts_are_not_compared() -> None:
    few = replace(PART, attempts=19, p50_seconds=90.0)
    assert not few.grew
    assert few.times_before != few.times_before
