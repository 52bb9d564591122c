"""Bytes written for a notebook of 200 cells with 250 kB of output each, beside the file that is kept."""

from __future__ import annotations

import threading
from pathlib import Path

import psutil

from benchmarks.figures import report
from benchmarks.notebook_scene import Scene, scene
from runbook_lib.archive.store import open_store
from runbook_lib.procedures.fork_server import MODULE
from runbook_lib.processes import SharedProcess

CELLS = 200
CHARACTERS = 250_000


def main() -> None:
    """Counts what the two processes write that write files; the page in HTML is counted as well."""
    with scene() as place:
        place.add("bench/small", ["1"])
        place.add("bench/large", [f"print(('x' * 99 + '\\n') * {CHARACTERS // 100})"] * CELLS)
        place.run("bench/small")
        ended, engine = threading.Event(), [0]
        watching = threading.Thread(target=watch, args=(place, ended, engine))
        before = written(psutil.Process().pid)
        watching.start()
        record = place.run("bench/large")
        ended.set()
        watching.join()
        assert record.status == "succeeded", record.error
        ours = written(psutil.Process().pid) - before
        kept = len(open_store(place.settings).read(record.archive.notebook))
        assert kept > CELLS * CHARACTERS
        ratio = (ours + engine[0]) / kept
        report("200 cells × 250 kB: bytes written", (ours + engine[0]) / 1e6, "MB", ratio=ratio,
               against="the archived notebook", bar="≤ 3 times", met=ratio <= 3,
               samples={"engine": engine[0], "runner": ours, "kept": kept})  # fmt: skip


def watch(place: Scene, ended: threading.Event, most: list[int]) -> None:
    """The most that the engine is seen to have written; its last look is at its last cell's end."""
    state = SharedProcess(place.settings.fork_server, MODULE).status().state
    server = psutil.Process(state["server_pid"])
    while not ended.wait(0.005):
        for engine in server.children():
            most[0] = max(most[0], written(engine.pid))


def written(pid: int) -> int:
    """What this process has written to files and pipes."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))
