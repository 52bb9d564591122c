"""What goes on around a fault: decoys that are recorded before the onset, noise that ends with it."""

from __future__ import annotations

import random

import pytest
from running_sandbox import RunningSandbox

from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.rehearsal.scene import Scene
from runbook_lib.rehearsal.surroundings import (
    COLLEAGUE,
    DECOYS,
    age_what_was_changed,
    noise,
    surroundings,
)
from runbook_lib.settings import read_settings


@pytest.fixture
def scene(database: Database, running_sandbox: RunningSandbox) -> Scene:
    return Scene(database, read_settings(None), running_sandbox.control)


def test_a_third_of_the_seeds_have_a_decoy_and_the_same_seed_has_the_same(scene: Scene) -> None:
    told = []
    for seed in (0, 1, 1, 2, 4):
        with surroundings(scene, "quota", seed) as decoy:
            told.append(decoy)
    assert [bool(decoy) for decoy in told] == [False, True, True, False, True]
    assert told[1] == told[2]
    assert scene.control.faults() == []


def test_every_decoy_is_a_recorded_change_from_a_minute_before(scene: Scene) -> None:
    for decoy in DECOYS.values():
        decoy(scene)
    age_what_was_changed(scene)
    with scene.database.transaction(read_only=True) as transaction:
        changes = transaction.rows(load("triage")["recent_changes"])
        replaced = transaction.rows("SELECT stopped_at FROM workers")
        now = transaction.value("SELECT now()")
    moments = [change.changed_at for change in changes if change.who == COLLEAGUE]
    moments += [row.stopped_at for row in replaced]
    assert len(moments) >= len(DECOYS)
    assert all(60 <= (now - moment).total_seconds() < 120 for moment in moments)


def test_noise_strikes_no_other_provider_and_ends(scene: Scene) -> None:
    with noise(scene, random.Random(3)):
        (switch,) = scene.control.faults()
        assert 0.004 < switch["probability"] <= 0.05
    assert scene.control.faults() == []
