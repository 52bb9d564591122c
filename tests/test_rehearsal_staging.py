"""What faults are staged with: clocks that go wrong, programs that are started again, weeks of a past."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from running_sandbox import RunningSandbox

from runbook_lib.database import Database
from runbook_lib.rehearsal import clock, past
from runbook_lib.rehearsal.catalogue import CATALOGUE, NOT_STAGED
from runbook_lib.rehearsal.compounds import COMPOUNDS
from runbook_lib.rehearsal.configuration_faults import CONFIGURATION_FAULTS
from runbook_lib.rehearsal.faults import Fault
from runbook_lib.rehearsal.laboratory import Laboratory, laboratory
from runbook_lib.rehearsal.programs import Supervised
from runbook_lib.rehearsal.scene import Scene
from runbook_lib.rehearsal.time_faults import TIME_FAULTS
from runbook_lib.rehearsal.worker_faults import WORKER_FAULTS
from runbook_lib.settings import read_settings

needs_wrong_clocks = pytest.mark.skipif(clock.why_not() is not None, reason=str(clock.why_not()))
TELL = "import time; print(time.time(), time.monotonic(), flush=True)"


@pytest.fixture
def scene(database: Database, running_sandbox: RunningSandbox) -> Scene:
    return Scene(database, read_settings(None), running_sandbox.control)


def test_a_fault_of_clocks_is_staged_or_the_reason_is_told() -> None:
    staged = {cause for fault in CATALOGUE for cause in fault.truth}
    assert ("worker-clock-skewed" in staged) == (clock.why_not() is None)
    assert ("worker-clock-skewed" in NOT_STAGED) == (clock.why_not() is not None)


@needs_wrong_clocks
@pytest.mark.parametrize("seconds", [7200, -7200])
def test_a_clock_is_off_and_what_is_measured_is_not(seconds: int) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", TELL], env=clock.off_by(seconds), capture_output=True, text=True, check=True
    )  # fmt: skip
    told, measured = (float(each) for each in answer.stdout.split())
    assert told - time.time() == pytest.approx(seconds, abs=600)
    assert measured == pytest.approx(time.monotonic(), abs=600)


@needs_wrong_clocks
def test_a_clock_is_set_back_under_a_program_that_runs(tmp_path: Path) -> None:
    hands = clock.SettableClock(tmp_path / "clock")
    ask = f"import sys\nfor line in sys.stdin:\n    {TELL}"
    with subprocess.Popen(
        [sys.executable, "-c", ask], env=hands.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def told() -> float:
            process.stdin.write("?\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return float(process.stdout.readline().split()[0])  # type: ignore[union-attr]

        assert told() == pytest.approx(time.time(), abs=600)
        hands.set_off_by(-7200)
        end = time.monotonic() + 30
        while abs(told() - time.time() + 7200) > 600:
            assert time.monotonic() < end, "The program did not notice."
            time.sleep(0.05)
        process.stdin.close()


def test_a_program_that_ends_is_started_again_until_nobody_wants_it(scene: Scene) -> None:
    with Supervised(scene, [sys.executable, "-S", "-c", "raise SystemExit(3)"]) as loop:
        scene.until(lambda: len(loop.lived_seconds) >= 2, "it ends twice")
    assert len(set(loop.process_ids)) == len(loop.process_ids) >= 2
    assert not any(psutil.pid_exists(each) for each in loop.process_ids)


def test_a_program_that_runs_is_ended_with_its_supervisor(scene: Scene) -> None:
    with Supervised(scene, [sys.executable, "-S", "-c", "import time; time.sleep(600)"]) as loop:
        scene.until(lambda: bool(loop.process_ids), "it runs")
    assert loop.lived_seconds == []
    assert not any(psutil.pid_exists(each) for each in loop.process_ids)


def test_weeks_of_work_and_then_silence_are_told_from_the_silence_of_every_week(
    scene: Scene,
) -> None:
    for before, same_gap in (((), False), ((past.WEEK_HOURS,), True)):
        past.weeks_of_work(scene, weeks=2, jobs_an_hour=3, same_silence_hours_ago=before)
        with scene.database.transaction(read_only=True) as transaction:
            last_week = transaction.value(
                "SELECT count(*) FROM job_runs WHERE execution_time > now() - interval '173 hours' AND execution_time < now() - interval '168 hours'"
            )
            newest = transaction.value(
                "SELECT extract(epoch FROM now() - max(execution_time)) FROM job_runs"
            )
            runs = transaction.value("SELECT count(*) FROM job_runs")
            hours = transaction.value("SELECT sum(completed) FROM run_slots WHERE minutes = 60")
        assert 5 <= newest / 3600 < 9
        assert runs == hours == pytest.approx(2 * 168 * 3, rel=0.2)
        assert (last_week == 0) == same_gap


# with real processes


@pytest.fixture(scope="module")
def own_laboratory() -> Iterator[Laboratory]:
    with laboratory() as found:
        yield found


@pytest.mark.long
@pytest.mark.parametrize(
    "fault",
    [*WORKER_FAULTS, *TIME_FAULTS, *CONFIGURATION_FAULTS, *COMPOUNDS],
    ids=lambda fault: fault.name,
)
def test_a_fault_takes_hold_and_leaves_no_process_behind(
    fault: Fault, own_laboratory: Laboratory
) -> None:
    before = _own_processes()
    with own_laboratory.scene(1, fault) as scene, ExitStack() as stack:
        if not fault.own_workers:
            stack.enter_context(scene.working())
        stack.enter_context(fault.stage(scene))
        scene.until(lambda: fault.shows(scene), "it takes hold", 120)
    assert _own_processes() <= before


def _own_processes() -> set[int]:
    return {each.pid for each in psutil.Process().children(recursive=True)}
