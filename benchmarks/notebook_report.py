"""A report notebook from `run()` to its closed record, beside papermill in one process and papermill's command."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from benchmarks.figures import report
from benchmarks.notebook_scene import REPORT, Scene, scene
from runbook_lib.archive.notebook_files import skip_unused_parsers
from runbook_lib.procedures.fork_server import MODULE
from runbook_lib.processes import SharedProcess

TURNS = 9
QUEUED = 20


def main() -> None:
    """In turns, so that a slow moment of the machine hits all three; then twenty in a queue."""
    skip_unused_parsers()  # papermill in this process gets the quicker import as well
    import papermill

    with scene() as place:
        source = place.add("bench/report", REPORT)
        output = place.folder / "out.ipynb"

        def ours() -> None:
            record = place.run("bench/report")
            assert record.status == "succeeded", record.error
            assert record.archive.html

        def in_process() -> None:
            papermill.execute_notebook(str(source), str(output), progress_bar=False)

        def command() -> None:
            subprocess.run(
                [str(Path(sys.executable).with_name("papermill")), "--no-progress-bar", "--log-level",
                 "ERROR", str(source), str(output)], check=True, capture_output=True,
            )  # fmt: skip

        ours(), in_process()  # the process is up
        taken = in_turns([ours, in_process, command])
        report_single(*taken)
        report_queue(place, ours, in_process)


def in_turns(runs: list[Callable[[], None]]) -> list[list[float]]:
    taken: list[list[float]] = [[] for _ in runs]
    for turn in range(TURNS):
        order = list(enumerate(runs))
        for index, once in order[turn % len(order) :] + order[: turn % len(order)]:
            taken[index].append(seconds(once))
    return taken


def seconds(once: Callable[[], Any]) -> float:
    begun = time.monotonic()
    once()
    return time.monotonic() - begun


def report_single(ours: list[float], in_process: list[float], command: list[float]) -> None:
    median = statistics.median(ours)
    report(
        "report notebook, run() to closed record",
        median,
        "s",
        bar="≤ 0.6 s",
        met=median <= 0.6,
        samples=ours,
    )
    for name, theirs, least in (("papermill.execute_notebook in one process", in_process, 3.5),
                                ("the papermill command", command, 7)):  # fmt: skip
        times = statistics.median(their / our for our, their in zip(ours, theirs, strict=True))
        report(f"report notebook, times faster than {name}", times, "times", ratio=times, against=name,
               bar=f"≥ {least}", met=times >= least, samples=theirs)  # fmt: skip


def report_queue(place: Scene, ours: Callable[[], None], in_process: Callable[[], None]) -> None:
    one_after_another = seconds(lambda: [in_process() for _ in range(QUEUED)])
    memory: list[tuple[int, int]] = []

    def watched(_: int) -> None:
        place.run("bench/report", on_progress=lambda progress: progress.number == len(REPORT) and memory.append(private_bytes(place)))  # fmt: skip

    def queued() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: ours(), range(QUEUED)))

    two_at_a_time = seconds(queued)
    times = one_after_another / two_at_a_time
    report("20 reports, two at a time: throughput", times, "times", ratio=times,
           against="papermill.execute_notebook one after another", bar="≥ 5", met=times >= 5,
           samples=[two_at_a_time, one_after_another])  # fmt: skip
    for number in range(3):
        watched(number)
    kernel = max(each[0] for each in memory) / 1e6
    report(
        "private memory of a forked kernel",
        kernel,
        "MB",
        bar="≤ 80 MB",
        met=kernel <= 80,
        samples=memory,
    )
    engine = max(each[1] for each in memory) / 1e6
    report("private memory of the process that drives it", engine, "MB", samples=memory)


def private_bytes(place: Scene) -> tuple[int, int]:
    """Of the kernel and of its engine, while the last cell begins."""
    state = SharedProcess(place.settings.fork_server, MODULE).status().state
    (engine,) = psutil.Process(state["server_pid"]).children()
    (kernel,) = engine.children()
    return kernel.memory_full_info().uss, engine.memory_full_info().uss
