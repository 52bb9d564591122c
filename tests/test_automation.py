"""First actions by themselves: only what the policy names, within the budget, recorded, told and taken back."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from running_sandbox import RunningSandbox

from runbook_lib import changes
from runbook_lib.cli import runbook
from runbook_lib.database import Database
from runbook_lib.errors import ConfigurationError
from runbook_lib.health.checks import Check
from runbook_lib.health.context import Context, open_context
from runbook_lib.health.monitor import Monitor
from runbook_lib.pipeline.permits import Permits
from runbook_lib.policy import Automation as Rules
from runbook_lib.procedures.automation import Automation, done_lately, may_be_automated
from runbook_lib.procedures.first_action import plan_command, who
from runbook_lib.rehearsal.scene import QUICK, Scene
from runbook_lib.settings import Settings
from runbook_lib.triage.causes import BY_ID, FirstAction
from runbook_lib.triage.diagnosis import Diagnosis, diagnose_context
from runbook_lib.triage.facts import Fact
from runbook_lib.triage.judgement import Found

CRITICAL = (Check("failures", "critical", "Most attempts fail."),)
RATE = "openai-rate-limited"


@pytest.fixture
def scene(database: Database, running_sandbox: RunningSandbox, home: Path) -> Scene:
    settings = Settings(
        database_url=database.url, runbook_home=home,
        openai_api_key=running_sandbox.api_key, openai_base_url=f"{running_sandbox.url}/v1",
        wordpress_url=running_sandbox.url, wordpress_user=running_sandbox.user, wordpress_app_password=running_sandbox.app_password,
        **QUICK,
    )  # fmt: skip
    running_sandbox.control.ensure_categories(["News", "Guides"])
    return Scene(database, settings, running_sandbox.control)


def rules(**given: Any) -> Automation:
    return Automation(
        Rules(**{"causes": (RATE,), "least_confidence": 0.6, "look_every_minutes": 0, **given})
    )


def rows(database: Database, statement: str) -> list[Any]:
    with database.transaction(read_only=True) as transaction:
        return transaction.rows(statement)


ACTIONS = "SELECT actor, action, outcome, target, reason, error, change_id::text FROM admin_actions WHERE actor = 'automation' ORDER BY action_id"
LIMIT = "SELECT concurrency FROM provider_limits WHERE provider = 'openai'"


def test_a_cause_that_is_not_safe_by_itself_is_refused_when_the_monitor_starts(
    home: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, words in {
        "openai-key-invalid": r"not safe without a person \(N",
        "database-table-locked": r"not safe without a person \(P",
        "database-deadlocks": "nothing to be done by itself",
        "openai-quota-exausted": "Did you mean openai-quota-exhausted",
    }.items():
        with pytest.raises(ConfigurationError, match=words):
            rules(causes=(name,))
    assert may_be_automated()
    for cause in may_be_automated().values():
        assert BY_ID[cause.id].action.automation == "Y"
    home.mkdir(exist_ok=True)
    policy = home / "policy.toml"
    policy.write_text('[automation]\ncauses = ["openai-key-invalid"]\n')
    monkeypatch.setenv("RUNBOOK_CONFIG", str(policy))
    monkeypatch.setenv("DATABASE_URL", database.url)
    ended = CliRunner().invoke(runbook, ["monitor", "--once"])
    assert isinstance(ended.exception, ConfigurationError)
    assert "the first action for openai-key-invalid is not safe" in str(ended.exception)


def test_what_the_policy_names_is_done_recorded_told_and_taken_back(scene: Scene) -> None:
    with open_context(scene.settings, require_schema=False) as context:
        diagnosis = rate_limited(scene, context)
        # Off by default; not for another cause; not for one that triage is not sure enough of.
        for off in (rules(causes=()), rules(causes=("wordpress-down",)), rules(least_confidence=1)):
            assert off.act(context, diagnosis) == []
        (deed,) = rules().act(context, diagnosis)
        assert (deed.cause, deed.kind, deed.outcome) == (RATE, "limits.lower", "applied")
        assert rows(scene.database, LIMIT)[0].concurrency == 2
        (action,) = rows(scene.database, ACTIONS)
        assert (action.action, action.outcome) == ("limits.lower", "done")
        assert action.reason.startswith(f"{RATE}, ")
        told = rows(scene.database, "SELECT level, message FROM events WHERE kind = 'automation_acted'")  # fmt: skip
        assert [event.level for event in told] == ["warning"]
        assert f"runbook changes undo {deed.change_id}" in told[0].message
        (kept,) = changes.list_changes(scene.database, kind="limits.lower")
        assert (kept.applied_by, kept.status) == ("automation", "applied")
        # It is so already: said once, and not every time that triage is asked.
        assert [each.outcome for each in rules().act(context, diagnosis)] == ["refused"]
        assert rules().act(context, diagnosis) == []
        # Taken back; the budget of one is spent, so it is not done again.
        undo = changes.plan_undo(scene.database, str(deed.change_id), actor="ana")
        changes.apply(scene.database, undo.change_id, actor="ana", dry_run=False)
        (refused,) = rules(actions_per_day=1).act(context, diagnosis)
        assert (refused.outcome, "budget of 1" in refused.why) == ("refused", True)
        assert rows(scene.database, LIMIT)[0].concurrency is None
        outcomes = [row.outcome for row in done_lately(scene.database)]
        assert outcomes == ["refused", "refused", "done"]


def rate_limited(scene: Scene, context: Context) -> Diagnosis:
    scene.past()
    number = scene.control.set_fault("openai", "rate_limit", retry_after=1)
    scene.add(6)
    try:
        with scene.working():
            scene.until(lambda: scene.failed_as("openai_rate_limited") >= 3, "it is refused")
            found = diagnose_context(context)
    finally:
        scene.control.clear_faults(fault_id=number)
    assert [each.cause.id for each in found.causes] == [RATE]
    return found


def test_the_plan_of_a_first_action_names_whom_the_evidence_is_about() -> None:
    about = {"worker": "host-1 it's me", "provider": "openai"}
    drain = FirstAction("", "", "Y", "workers.drain", {"worker": "{worker}"})
    cause = replace(BY_ID["one-worker-outdated"], action=drain)
    seen = Fact("scope.one_worker", "workers", True, "one", source="a", subject=about)
    found = Found(cause, 0.9, (seen,))
    assert (
        plan_command(found)
        == """runbook changes plan workers.drain -p 'worker=host-1 it'"'"'s me'"""
    )
    assert who(found) == "worker host-1 it's me, provider openai"
    # A pause is for all: which job met the fault first does not matter.
    assert who(Found(BY_ID["wordpress-down"], 0.9, (seen,))) == ""
    # For whom it is about is not known: there is nothing to plan.
    assert plan_command(Found(cause, 0.9, ())) is None


def test_the_monitor_asks_triage_only_while_something_is_critical_and_not_too_often(
    scene: Scene,
) -> None:
    with open_context(scene.settings, require_schema=False) as context:
        automation = rules(look_every_minutes=5)
        assert not automation._is_due(context, (Check("failures", "warning", "Some."),))
        assert automation._is_due(context, CRITICAL)
        assert automation.after_survey(context, CRITICAL) == []
        assert not automation._is_due(context, CRITICAL)
        assert not rules(causes=())._is_due(context, CRITICAL)


def test_a_monitor_says_what_it_did_and_what_stopped_it_from_acting_ends_nothing(
    scene: Scene,
) -> None:
    said: list[dict[str, Any]] = []
    Monitor(scene.settings, said.append, lambda context, checks: [{"cause": "x"}]).once()

    def broken(context: Context, checks: Any) -> Any:
        raise RuntimeError("no triage today")

    Monitor(scene.settings, said.append, broken).once()
    turns = [json.loads(json.dumps(line)) for line in said if line["event"] == "surveyed"]
    assert turns[0]["done"] == [{"cause": "x"}]
    assert "no triage today" in turns[1]["problems"][0]


def test_a_pause_with_a_trial_ends_when_one_job_succeeds_and_nobody_has_to_resume(
    database: Database,
) -> None:
    given = {"provider": "openai", "reason": "overloaded", "minutes": "0.001"}
    plan = changes.plan(database, "provider.pause", given, actor="automation")
    changes.apply(database, plan.change_id, actor="automation", dry_run=False)
    assert changes.plan_undo(database, plan.change_id, actor="ana").row_count == 1
    end = time.monotonic() + 20
    while True:
        with database.transaction() as transaction:
            allowed = Permits(transaction, "w-1", trial_seconds=60).allowed("write")
        if allowed or time.monotonic() > end:
            break
    assert allowed == 1
