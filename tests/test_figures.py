"""What benchmarks report: pinned keys, honest medians, and samples that are kept."""

from __future__ import annotations

import json
import subprocess
import sys
from uuid import uuid4

import pytest

from runbook_lib.settings import PROJECT_DIRECTORY

sys.path.insert(0, str(PROJECT_DIRECTORY))

from benchmarks import figures


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=PROJECT_DIRECTORY, capture_output=True, text=True)


def test_the_list_says_in_a_line_what_each_benchmark_measures() -> None:
    lines = bench().stdout.splitlines()
    assert len(lines) >= 5
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)


def test_a_benchmark_that_does_not_exist_is_wrong_use() -> None:
    answer = bench("queue_thruput")
    assert answer.returncode == 2
    assert "queue_throughput" in answer.stderr


def test_a_figure_is_one_json_line_with_its_samples_in_a_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = f"no-op, test {uuid4().hex}"
    figures.report(
        name,
        20123.4,
        "jobs/s",
        ratio=2.345678,
        against="pgqueuer",
        bar="≥ 2",
        met=True,
        samples=[1, 2],
    )
    line = json.loads(capsys.readouterr().out)
    assert line == {
        "name": name, "value": 20123, "unit": "jobs/s", "ratio": 2.346,
        "against": "pgqueuer", "bar": "≥ 2", "met": True,
    }  # fmt: skip
    (file,) = figures.RESULTS.glob(f"no_op_test_{name.split()[-1]}-*.json")
    kept = json.loads(file.read_text())
    file.unlink()
    assert kept["samples"] == [1, 2]
    assert kept["machine"]["cores"] >= 1


def test_two_things_are_measured_in_turns_and_who_is_first_alternates() -> None:
    order: list[str] = []
    ours, theirs = iter([4.0, 40.0, 6.0]), iter([2.0, 10.0, 3.0])

    def our() -> float:
        order.append("ours")
        return next(ours)

    def their() -> float:
        order.append("theirs")
        return next(theirs)

    pairs = figures.interleaved(3, our, their)
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert (pairs.our_median, pairs.their_median, pairs.ratio) == (6.0, 3.0, 2.0)


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 50), (99, 99), (100, 100)])
def test_a_percentile_is_a_sample_that_was_measured(percent: float, expected: float) -> None:
    assert figures.percentile(range(100, 0, -1), percent) == expected
