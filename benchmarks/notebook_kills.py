"""kill -9 of kernel, engine, runner, fork server and database at random moments: what the records and the archive say."""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from typing import Any

import psutil
import psycopg2

from benchmarks.figures import report
from benchmarks.notebook_scene import Scene, scene
from runbook_lib.archive.notebook_files import read_notebook
from runbook_lib.archive.store import open_store
from runbook_lib.database import embedded
from runbook_lib.errors import RunbookError
from runbook_lib.procedures import kernels
from runbook_lib.procedures.fork_server import MODULE
from runbook_lib.procedures.runner import close_lost_runs, file_spool
from runbook_lib.processes import ProcessStatus, SharedProcess

KILLS = int(os.environ.get("KILLS", "120"))
CELLS = 8
VICTIMS = (*["kernel", "engine", "runner", "runner"] * 6, *["database"] * 4, "fork server")
ENDED_WITHIN_SECONDS = 60


def main() -> None:
    """One run after another, each with one kill; then what a next start does, and what is found."""
    chance = random.Random(20261125)
    faults: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    slowest = 0.0
    with scene() as place:
        place.add(
            "bench/kills",
            [f"import time; time.sleep(0.02); print('cell {n}')" for n in range(CELLS)],
        )
        typical = min(_seconds(place) for _ in range(3))
        killed = 0
        while killed < KILLS:
            process = _start(place)
            time.sleep(chance.uniform(0, typical))
            victim = chance.choice(VICTIMS)
            killed += _kill(place, process, victim)
            begun = time.monotonic()
            if victim != "runner":
                process.wait(600)
            _wait_until_gone(process.pid)
            _wait_for_the_database(place)
            file_spool(place.database, place.settings)
            close_lost_runs(place.database, place.settings)
            slowest = max(slowest, time.monotonic() - begun)
            for status in _check_newest(place, faults):
                statuses[status] += 1
            if killed % 20 == 0:
                print(
                    f"{killed} of {KILLS} kills, {dict(statuses)}, {dict(faults)}", file=sys.stderr
                )
        _check_archive(place, faults)
    report(
        "kills -9 at random moments",
        killed,
        "kills",
        bar="≥ 100",
        met=killed >= 100,
        samples=statuses,
    )
    report("slowest end of a record after a kill", slowest, "s", bar=f"≤ {ENDED_WITHIN_SECONDS} s",
           met=slowest <= ENDED_WITHIN_SECONDS)  # fmt: skip
    for fault in ("still running", "says succeeded and did not", "torn or missing file"):
        report(f"records or files: {fault}", faults[fault], "", bar="0", met=faults[fault] == 0)


def _start(place: Scene) -> kernels.ForkedProcess:
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        return kernels.fork(
            place.settings.fork_server, "run", {"command": ["run", "bench/kills", "--json"]},
            environment={**os.environ, "RUNBOOK_HANDED_OVER": "1"},
            working_directory=place.folder, files=(nowhere, nowhere, nowhere),
        )  # fmt: skip
    finally:
        os.close(nowhere)


def _seconds(place: Scene) -> float:
    begun = time.monotonic()
    _start(place).wait(600)
    return time.monotonic() - begun


def _kill(place: Scene, runner: kernels.ForkedProcess, victim: str) -> bool:
    try:
        server = psutil.Process(
            SharedProcess(place.settings.fork_server, MODULE).status().state["server_pid"]
        )
        engines = [child for child in server.children() if child.pid != runner.pid]
        found: list[Any] = {
            "runner": lambda: [psutil.Process(runner.pid)],
            "engine": lambda: engines,
            "kernel": lambda: [kernel for engine in engines for kernel in engine.children()],
            "fork server": lambda: [server],
            "database": lambda: [psutil.Process(_database_server(place).state["postmaster_pid"])],
        }[victim]()
        if not found:
            return False
        found[0].kill()
    except (psutil.Error, KeyError):
        return False
    return True


def _database_server(place: Scene) -> ProcessStatus:
    return embedded.server(place.folder.parent).status()


def _wait_for_the_database(place: Scene) -> None:
    """Its supervisor starts it again; crash recovery takes what it takes."""
    while True:
        try:
            with place.database.transaction(read_only=True):
                return
        except (RunbookError, psycopg2.Error):
            time.sleep(0.1)


def _wait_until_gone(pid: int) -> None:
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


def _check_newest(place: Scene, faults: Counter[str]) -> list[str]:
    """Every record has ended; those that say succeeded did."""
    with place.database.transaction() as transaction:
        rows = transaction.rows(
            "SELECT * FROM notebook_runs WHERE status = 'running' OR started_at > now() - interval '5 minutes' "
            "ORDER BY started_at DESC LIMIT 1"
        )
    for row in rows:
        if row.status == "running":
            faults["still running"] += 1
        elif row.status == "succeeded" and not _ran_whole(place, row.archive_notebook):
            faults["says succeeded and did not"] += 1
    return [row.status for row in rows]


def _ran_whole(place: Scene, name: str) -> bool:
    cells = read_notebook(open_store(place.settings).read(name)).cells
    printed = [cell.outputs[0].text for cell in cells if cell.cell_type == "code" and cell.outputs]
    return printed == [f"cell {number}\n" for number in range(CELLS)]


def _check_archive(place: Scene, faults: Counter[str]) -> None:
    """Every object that a record names is there, whole and as it was written."""
    with place.database.transaction() as transaction:
        rows = transaction.rows("SELECT archive_notebook, archive_sha256 FROM notebook_runs")
        running = transaction.value("SELECT count(*) FROM notebook_runs WHERE status = 'running'")
    faults["still running"] += running
    store = open_store(place.settings)
    for row in rows:
        if row.archive_notebook is None:
            continue
        found = store.found(row.archive_notebook)
        if found is None or found.sha256 != row.archive_sha256:
            faults["torn or missing file"] += 1
        else:
            read_notebook(store.read(row.archive_notebook))
