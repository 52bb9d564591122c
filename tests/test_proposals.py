"""A change as a notebook proposes it: dry unless told otherwise, refused in words, never raising."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runbook_lib import changes, propose
from runbook_lib.database import Database
from runbook_lib.health.checks import Check
from runbook_lib.health.sources import Sources
from runbook_lib.procedures.proposals import Proposal
from runbook_lib.procedures.workplace import Workplace

FAILED = """
    UPDATE content_jobs SET status = 'error', error_class = 'openai_timeout', last_error = 'late',
        worker = NULL, lease_until = NULL
    WHERE status = 'processing'
"""


@pytest.fixture
def workplace(database: Database) -> Workplace:
    with database.transaction() as transaction:
        for topic in ("one", "two", "three"):
            transaction.run("INSERT INTO content_jobs (topic) VALUES (%(topic)s)", topic=topic)
        transaction.run(
            "UPDATE content_jobs SET status = 'processing', attempt = 1, worker = 'w', lease_until = now()"
        )
        transaction.run(FAILED)
    return Workplace(Sources(database, database), {})


def retry(workplace: Workplace, **more: Any) -> Proposal:
    return propose(workplace, "jobs.retry", {"class": "openai_timeout", "since": None}, **more)


def statuses(workplace: Workplace) -> set[str]:
    with workplace.database.transaction(read_only=True) as transaction:
        return {row.status for row in transaction.rows("SELECT status FROM content_jobs")}


def test_a_proposal_is_dry_until_it_is_told_otherwise_and_is_taken_back(
    workplace: Workplace,
) -> None:
    proposal = retry(workplace)
    assert "3 would be changed by jobs.retry" in repr(proposal)
    assert proposal.undo().outcome == "nothing_to_do"
    dry = proposal.apply()
    assert (dry.outcome, dry.check.verdict, statuses(workplace)) == ("dry", "ok", {"error"})
    applied = proposal.apply(dry_run=False, reason="the outage is over")
    assert (applied.outcome, applied.results()["changed"], statuses(workplace)) == ("applied", 3, {"pending"})  # fmt: skip
    again = proposal.apply(dry_run=False)
    assert (again.outcome, again.check.verdict) == ("refused", "warning")
    assert proposal.undo().outcome == "dry"
    assert statuses(workplace) == {"pending"}
    assert proposal.undo(dry_run=False).outcome == "applied"
    assert statuses(workplace) == {"error"}


def test_what_drifted_since_it_was_looked_at_is_refused(workplace: Workplace) -> None:
    proposal = retry(workplace)
    [first, *_] = proposal.sample.frame["key"]
    one = changes.plan(
        workplace.database, "jobs.retry", {"job_ids": [first]}, actor="somebody else"
    )
    changes.apply(workplace.database, one.change_id, actor="somebody else", dry_run=False)
    applied = proposal.apply(dry_run=False)
    assert applied.outcome == "refused"
    assert statuses(workplace) == {"error", "pending"}


@pytest.mark.parametrize("verdict", ["critical", "not_allowed", "not_enough_data"])
def test_a_guard_that_is_not_well_or_has_no_answer_refuses_it(
    workplace: Workplace, verdict: Any
) -> None:
    guard = Check("backup.age", verdict, "The newest backup is 9 days old.")
    proposal = retry(workplace, guards=(guard,))
    assert "9 days old" in proposal._repr_html_()
    assert proposal.apply(dry_run=False).outcome == "refused"
    assert statuses(workplace) == {"error"}
    assert retry(workplace, guards=(replace(guard, verdict="warning"),)).apply().outcome == "dry"


def test_more_rows_than_the_limit_are_refused(workplace: Workplace) -> None:
    proposal = retry(workplace, row_limit=2)
    assert "more than the limit of 2" in repr(proposal)
    assert proposal.apply(dry_run=False).outcome == "refused"
    assert statuses(workplace) == {"error"}


def test_what_cannot_be_planned_is_told_and_never_raises(workplace: Workplace) -> None:
    unknown = propose(workplace, "jobs.delete")
    assert "no kind of change" in repr(unknown)
    theirs = replace(workplace, sources=replace(workplace.sources, attached=True))
    assert "not ours" in repr(retry(theirs))
    away = replace(workplace, problem="No connection to the database.")
    for proposal in (unknown, retry(theirs), retry(away)):
        assert proposal.apply(dry_run=False).outcome == "refused"
        assert proposal.undo(dry_run=False).outcome == "nothing_to_do"
    assert statuses(workplace) == {"error"}


def test_a_run_by_schedule_that_does_not_allow_it_changes_nothing(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runbook_lib.settings import load_settings

    proposal = retry(workplace)
    monkeypatch.setenv("RUNBOOK_ALLOWED_CHANGES", "posts.unpublish")
    load_settings.cache_clear()
    refused = proposal.apply(dry_run=False)
    assert (refused.outcome, statuses(workplace)) == ("refused", {"error"})
    assert "allow_changes" in refused.message


def test_nothing_to_change_is_well(workplace: Workplace) -> None:
    proposal = propose(workplace, "jobs.retry", {"class": "openai_quota_exhausted"})
    assert repr(proposal) == "There is nothing to change."
    assert proposal.apply(dry_run=False).outcome == "nothing_to_do"
