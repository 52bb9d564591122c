"""High failure rate and stuck jobs: every figure of a known month, and changes that are refused where they harm."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from uuid import UUID

import pytest
from month import COMPLETED_NOW, FAILED_JOBS_NOW, FAILED_NOW, LIVING_WORKER, LOST_WORKER, seed_month

from runbook_lib import changes, propose
from runbook_lib.database import Database
from runbook_lib.health.high_failure_rate import HighFailureRate, high_failure_rate
from runbook_lib.health.sources import Sources
from runbook_lib.health.stuck_review import stuck_jobs_review
from runbook_lib.procedures.workplace import Workplace


@pytest.fixture
def workplace(database: Database, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.setenv("DATABASE_URL", database.url)
    seed_month(database)
    return Workplace(Sources(database, database), {})


def run(database: Database, statement: str, **binds: object) -> None:
    with database.transaction() as transaction:
        transaction.run(statement, **binds)


def statuses(database: Database) -> dict[str, int]:
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows("SELECT status, count(*) AS jobs FROM content_jobs GROUP BY 1")
    return {row.status: row.jobs for row in rows}


def test_what_fails_since_when_and_with_whom_the_fault_lies(workplace: Workplace) -> None:
    found = high_failure_rate(workplace.sources, hours=1)
    results = found.results()
    assert (results["attempts"], results["attempts_failed"]) == (COMPLETED_NOW + FAILED_NOW, FAILED_NOW)  # fmt: skip
    assert results["attempts_failed_percent"] == 33.33
    # Wilson's bounds of 12 of 36
    assert results["attempts_failed_low_percent"] == pytest.approx(20.2, abs=0.1)
    assert results["attempts_failed_high_percent"] == pytest.approx(49.7, abs=0.1)
    assert (results["jobs"], results["jobs_failed"]) == (COMPLETED_NOW + FAILED_JOBS_NOW, FAILED_JOBS_NOW)  # fmt: skip
    assert results["causes"] == {"wordpress_unavailable": FAILED_NOW}
    assert results["failed_jobs"] == {"wordpress_unavailable": FAILED_JOBS_NOW}
    assert (found.verdict, found.at_fault) == ("critical", "WordPress")
    assert found.check.procedure == "troubleshooting/wordpress_errors"
    assert "wordpress_unavailable, 12 attempts since" in found.check.message
    assert found.rates.frame["of"].tolist() == ["attempts", "jobs that ended"]
    assert found.by_hour_chart().words.startswith("Attempts by hour and outcome: 36 attempts")


def test_the_worker_that_stands_out_is_named_and_those_that_do_not_are_not(
    workplace: Workplace,
) -> None:
    """1 of 2 is more than the rate of all, and proves nothing."""
    for job, attempt in (("now 1", 2), ("now 30", 1)):
        run(workplace.database, "UPDATE job_runs SET category = 'Few' WHERE job_id = %(job)s AND attempt = %(attempt)s", job=_id(job), attempt=attempt)  # fmt: skip
    places = high_failure_rate(workplace.sources, hours=1).places.frame
    few = places[places["which"] == "Few"].iloc[0]
    assert (few["failed"], few["attempts"], few["failures_percent"]) == (1, 2, 50.0)
    out = places[places["stands_out"]]
    assert out[["by", "which"]].to_numpy().tolist() == [["worker", LOST_WORKER]]
    assert set(places["by"]) == {"stage", "model", "category", "worker"}


def test_a_month_is_counted_with_its_everyday_noise(workplace: Workplace) -> None:
    found = high_failure_rate(workplace.sources, hours=24 * 40)
    assert found.results()["causes"] == {"openai_overloaded": 120, "wordpress_unavailable": 12}
    assert (found.verdict, found.at_fault) == ("ok", "OpenAI")


def test_failures_without_classes_are_told_by_their_text(workplace: Workplace) -> None:
    run(workplace.database, "UPDATE job_runs SET error_class = NULL, error = 'rate_limit_exceeded for org-' || attempt WHERE status = 'error'")  # fmt: skip
    found = high_failure_rate(workplace.sources, hours=1)
    assert found.causes.frame[["cause", "attempts", "jobs"]].to_numpy().tolist() == [["openai_rate_limit", 12, None]]  # fmt: skip
    assert found.at_fault == "OpenAI"


def test_a_retry_is_refused_until_the_cause_is_gone(workplace: Workplace) -> None:
    def proposal(minutes: int) -> object:
        found: HighFailureRate = high_failure_rate(workplace.sources, hours=1)
        gone = found.cause_gone("wordpress_unavailable", minutes=minutes)
        return propose(workplace, "jobs.retry", found.retry(), guards=(gone,)).apply(dry_run=False)

    before = statuses(workplace.database)
    still, too_early = proposal(60), proposal(5)
    assert (still.outcome, too_early.outcome) == ("refused", "refused")  # type: ignore[attr-defined]
    assert "The cause is still there" in str(still)
    assert "Nothing shows yet that it works again" in str(too_early)
    assert statuses(workplace.database) == before
    run(workplace.database, "UPDATE job_runs SET execution_time = now() - interval '1 minute' WHERE job_id = %(job)s AND status = 'completed'", job=_id("now 1"))  # fmt: skip
    assert proposal(5).outcome == "applied"  # type: ignore[attr-defined]
    assert "error" not in statuses(workplace.database)


def test_what_is_stuck_is_told_with_whoever_holds_it(workplace: Workplace) -> None:
    found = stuck_jobs_review(workplace.sources)
    jobs = {row["topic"]: row for row in found.jobs.frame.to_dict("records")}
    assert (jobs["Left"]["may_be_swept"], jobs["Held"]["may_be_swept"]) == ("yes", "no")
    assert jobs["Left"]["holder"].startswith("silent, heard of")
    assert jobs["Held"]["holder"].startswith("lives")
    assert (found.verdict, found.holders_gone.verdict) == ("critical", "ok")
    assert "1 of 2 jobs in processing have an expired lease" in found.check.message
    assert found.workers.frame["state"].tolist() == ["runs", "silent"]
    assert found.results()["may_be_swept"] == 1


def test_only_what_was_left_is_swept_and_a_second_time_is_refused(workplace: Workplace) -> None:
    guard = stuck_jobs_review(workplace.sources).holders_gone
    proposal = propose(workplace, "jobs.sweep", {"worker": None}, guards=(guard,))
    assert (proposal.row_count, proposal.apply().outcome) == (1, "dry")
    assert statuses(workplace.database)["processing"] == 2
    assert proposal.apply(dry_run=False).outcome == "applied"
    assert statuses(workplace.database)["processing"] == 1
    assert proposal.apply(dry_run=False).outcome == "refused"
    with workplace.database.transaction(read_only=True) as transaction:
        lost = transaction.rows("SELECT job_id, worker FROM job_runs WHERE status = 'lost'")
    assert [(row.job_id, row.worker) for row in lost] == [(_id("left"), LOST_WORKER)]
    assert stuck_jobs_review(workplace.sources).verdict == "ok"


def test_nothing_is_taken_from_a_worker_that_lives(workplace: Workplace) -> None:
    run(workplace.database, "UPDATE content_jobs SET lease_until = now() - interval '1 minute' WHERE worker = %(worker)s", worker=LIVING_WORKER)  # fmt: skip
    found = stuck_jobs_review(workplace.sources)
    assert found.holders_gone.verdict == "critical"
    assert LIVING_WORKER in found.holders_gone.message
    proposal = propose(workplace, "jobs.sweep", {"worker": LIVING_WORKER})
    assert proposal.row_count == 0
    both = propose(workplace, "jobs.sweep", {}, guards=(found.holders_gone,))
    assert (both.row_count, both.apply(dry_run=False).outcome) == (1, "refused")
    assert statuses(workplace.database)["processing"] == 2


def test_a_worker_that_wakes_up_after_the_plan_keeps_its_job(workplace: Workplace) -> None:
    proposal = propose(workplace, "jobs.sweep", {})
    run(workplace.database, "UPDATE workers SET heartbeat_at = now() WHERE worker = %(worker)s", worker=LOST_WORKER)  # fmt: skip
    assert proposal.apply(dry_run=False).outcome == "refused"
    assert statuses(workplace.database)["processing"] == 2


def test_the_kind_is_found_by_its_name(workplace: Workplace) -> None:
    named = changes.plan(
        workplace.database, "jobs.sweep", {"job_ids": str(_id("held"))}, actor="ana"
    )
    assert named.row_count == 0


@pytest.mark.parametrize("look", [high_failure_rate, stuck_jobs_review])
def test_without_a_database_both_say_so(look: Callable[..., object]) -> None:
    away = Database("postgresql://runbook:hidden-word@127.0.0.1:1/x")
    found = look(Sources(away, away))
    shown = repr(found) + found._repr_html_() + str(found.results())  # type: ignore[attr-defined]
    assert "127.0.0.1:1" in shown
    assert "hidden-word" not in shown


def _id(text: str) -> UUID:
    return UUID(hashlib.md5(text.encode()).hexdigest())
