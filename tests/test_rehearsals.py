"""The score: some scenes of each kind staged for real, and what the rows of a run amount to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Server
from openai import OpenAI

from benchmarks import rehearsals
from benchmarks.rehearsals import Task
from benchmarks.rehearsals_page import page
from benchmarks.rehearsals_table import measures, misses
from runbook_lib.database.disposable import DisposableServer
from runbook_lib.policy import Policy
from runbook_lib.rehearsal import expected_actions, harm, recomputing
from runbook_lib.rehearsal.catalogue import CATALOGUE, HEALTHY, NOT_STAGED, UNKNOWN
from runbook_lib.rehearsal.laboratory import Laboratory, laboratory
from runbook_lib.triage.causes import BY_ID
from runbook_lib.triage.diagnosis import assess
from runbook_lib.triage.evidence import Evidence

# Of each kind what is quick to stage. The rest is in `make rehearsals`.
QUICK = (
    ("catalogue", "login"), ("catalogue", "redirect"), ("catalogue", "db-grant"), ("catalogue", "db-table-locked"),
    ("compound", "quota+login"), ("unknown", "model-gone"), ("unknown", "site-refuses-posts"),
    ("healthy", "few-jobs-one-failed"), ("healthy", "idle-pooled-connections"), ("healthy", "planned-maintenance"),
    ("control", "quota"), ("black-hole", "wordpress-black-holed"), ("broken", "database-down"), ("broken", "job-runs-empty"),
)  # fmt: skip


@pytest.fixture(scope="module")
def a_laboratory(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    home = tmp_path_factory.mktemp("laboratory")
    with laboratory(DisposableServer(server.url, home)) as found:
        yield found


def all_is_well(row: dict[str, Any]) -> None:
    assert row["right"], row
    assert row.get("action_right", True), row["action_problem"]
    assert not row.get("harm"), row["harm"]
    assert not row.get("figures_amiss"), row["figures_amiss"]
    assert not row["paid"]


@pytest.mark.parametrize(("kind", "name"), QUICK)
def test_a_scene_is_answered_rightly_and_its_advice_harms_nobody(
    a_laboratory: Laboratory, kind: str, name: str
) -> None:
    all_is_well(rehearsals.perform(a_laboratory, Task(kind, name, 0), keeps_evidence=False))


REST = [task for task in rehearsals.tasks() if task.seed == 0 and (task.kind, task.name) not in QUICK]  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("task", REST, ids=lambda task: f"{task.kind} {task.name}")
def test_the_other_scenes_can_be_staged(a_laboratory: Laboratory, task: Task) -> None:
    """How they are answered is the score's to say; a scene that cannot be staged would say nothing."""
    row = rehearsals.perform(a_laboratory, task, keeps_evidence=False)
    assert row["right"] is not None, row["problem"]
    assert not row.get("harm"), row["harm"]
    assert not row.get("paid")


# what is staged


def test_the_set_is_as_large_as_the_bars_ask_for() -> None:
    assert len(HEALTHY) * rehearsals.MOST_SEEDS["healthy"] >= 100
    assert len(UNKNOWN) >= 15
    assert not any(fault.truth for fault, _ in UNKNOWN.values())
    staged = {cause for fault in CATALOGUE for cause in fault.truth}
    # Whatever is not staged says why.
    assert set(BY_ID) - staged <= set(NOT_STAGED)
    assert set(expected_actions.FIRST_ACTIONS) == set(BY_ID)


def test_what_was_run_is_left_out_and_what_could_not_be_staged_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsals, "RESULTS", tmp_path / "rows.jsonl")
    monkeypatch.setenv("ONLY", "quota,idle")
    monkeypatch.setenv("SEEDS", "1")
    done, again = Task("catalogue", "quota", 0), Task("healthy", "idle", 0)
    assert {done, again} <= set(rehearsals.left_to_do())
    rehearsals.keep(row(kind=done.kind, name=done.name))
    rehearsals.keep(row(kind=again.kind, name=again.name, right=None, problem="no room"))
    left = set(rehearsals.left_to_do())
    assert done not in left
    assert again in left
    assert Task("control", "quota", 0) in left


# what it amounts to


def row(**given: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kind": "catalogue", "name": "quota", "seed": 0, "right": True, "truth": ["openai-quota-exhausted"], "found": ["openai-quota-exhausted"],
        "verdict": "fault", "layer": "generate", "seconds": 1.0, "scene_seconds": 5.0, "paid": 0, "action_right": True, "action_problem": None,
        "outcome": "applied", "harm": [], "figures": 4, "figures_amiss": [], "problem": None,
    }  # fmt: skip
    return {**found, **given}


def test_each_bar_is_told_as_met_missed_or_not_yet_measured() -> None:
    rows = [
        row(),
        row(seed=1, right=False, found=["openai-rate-limited"], action_right=False, action_problem="for openai-rate-limited"),
        row(kind="healthy", name="idle", truth=[], found=[], verdict="healthy", layer=None),
        row(kind="unknown", name="model-gone", truth=[], found=[], verdict="unknown", figures_amiss=["a.fact: no statement"]),
        row(kind="black-hole", name="openai-black-holed", truth=[], found=[], seconds=31.0),
        row(seed=2, right=None, problem="no room"),
    ]  # fmt: skip
    found = {measure.name: measure for measure in measures(rows)}
    catalogue = found["top cause right, catalogue"]
    assert (catalogue.value, catalogue.met, catalogue.samples) == (50, False, 2)
    # One healthy scene is no proof that there are no false alarms, and four trials none of harmlessness.
    assert found["false alarms on healthy systems"].met is None
    assert found["harm done by following the advice"].met is None
    assert found["unknown causes called unknown, with the layer"].met is True
    assert found["cited figures that can be had again"].met is False
    assert found["open to verdict, one dependency black-holed, p95"].met is False
    told = "\n".join(misses(rows))
    assert "miss catalogue quota#1: openai-rate-limited" in told
    assert "not staged catalogue quota#2: no room" in told
    # A harm is a miss of its bar, however few trials there were.
    harmed = {m.name: m for m in measures([row(harm=["2 jobs are gone"])])}
    assert harmed["harm done by following the advice"].met is False


def test_the_page_needs_nothing_from_elsewhere_and_shows_text_as_text() -> None:
    made = page([row(right=False, found=["<script>"]), row(kind="healthy", name="idle", truth=[])], {"database-disk-full": "needs a disk"})  # fmt: skip
    assert not re.search(r"https?://|<script|<link|<img|@import|url\(", made)
    assert "&lt;script&gt;" in made
    assert "needs a disk" in made


def test_the_right_first_action_is_of_the_true_cause_with_the_catalogues_automation() -> None:
    pause = {
        "id": "openai-quota-exhausted", "first_action": "Pause OpenAI", "command": "runbook pause openai",
        "plan": {"kind": "provider.pause"}, "safe_to_automate": "Y",
    }  # fmt: skip
    quota = ("openai-quota-exhausted",)
    assert expected_actions.against(quota, pause) is None
    assert expected_actions.against(("openai-overloaded",), pause) is not None
    assert "automation" in (
        expected_actions.against(quota, {**pause, "safe_to_automate": "N"}) or ""
    )
    other = {**pause, "first_action": "Raise it", "command": "limits", "plan": None}
    assert expected_actions.against(quota, other) is not None
    # Where nothing is known, whatever changes something is wrong.
    assert expected_actions.against((), pause) is not None
    assert expected_actions.against((), None) is None


def test_harm_is_seen(a_laboratory: Laboratory) -> None:
    with a_laboratory.scene(0) as scene:
        before = harm._jobs(scene)
        with harm._bystanders(scene) as pids:
            assert len(pids) == 2
            assert harm._ended_sessions(scene, pids) == []
            a_laboratory.server.run(f"SELECT pg_terminate_backend({pids[0]}, 5000)")
            assert harm._ended_sessions(scene, pids) == ["a healthy session was ended"]
        after = dict(harm._jobs(scene))
        gone = next(iter(after))
        del after[gone]
        assert harm._lost(before, after) == [f"1 jobs are gone: {gone}"]
        assert harm._lost(before, before) == []
        assert harm.requests_by_others(scene) == 0
        asked = OpenAI(api_key=a_laboratory.credentials["openai_api_key"], base_url=f"{a_laboratory.url}/v1")  # fmt: skip
        asked.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Topic: no job's topic"}]
        )
        assert harm.requests_by_others(scene) == 1


def test_a_figure_that_the_evidence_does_not_give_again_is_named() -> None:
    anew = assess(Evidence(), Policy())
    fact = next(iter(anew.facts))
    assert recomputing._problem(fact, anew) is None
    assert "recomputed" in (recomputing._problem(replace(fact, value="other"), anew) or "")
    assert recomputing._problem(replace(fact, source=""), anew) == "no statement or probe is named"
    assert recomputing._problem(replace(fact, name="made.up"), anew) is not None
