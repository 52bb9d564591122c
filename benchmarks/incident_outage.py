"""Incidents driven by a script through real kernels: is every executed cell in the timeline?

First three notebooks, two people, one kernel killed; then the database away for six cells of two people;
then what a cell waits for its entries. `INCIDENT_OUTAGES` is how often the second is done.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import scratch
from benchmarks.figures import report
from benchmarks.incident_scene import Kernel, running_kernel
from runbook_lib.archive.store import open_store
from runbook_lib.archive.verification import verify_archive
from runbook_lib.health.context import Context
from runbook_lib.health.sources import Sources
from runbook_lib.incidents import copies, records
from runbook_lib.incidents.closing import close_incident
from runbook_lib.incidents.timeline import read_timeline
from runbook_lib.policy import Policy
from runbook_lib.sandbox.proxy import NetworkProxy
from runbook_lib.settings import Settings
from runbook_lib.spool import open_spool

OUTAGES = int(os.environ.get("INCIDENT_OUTAGES", "3"))
TIMED_CELLS = 40
WORKED_IN = (
    ("ana", "daily/health_check"),
    ("ben", "daily/failure_rate"),
    ("ben", "weekly/performance_review"),
)
KILLS = "import os; os.kill(os.getpid(), 9)"


class Scene:
    """One incident over a database of its own."""

    def __init__(self, server: scratch.Server, home: Path) -> None:
        self.database = server.new_database()
        self.settings = Settings(database_url=self.database.url, runbook_home=home)
        self.context = Context(self.settings, Policy(), Sources(self.database, self.database))
        self.spool = open_spool(self.settings)
        made = records.new_incident("Nothing goes out", "critical", "ana", "ana")
        records.open_incident(self.database, self.spool, made)
        self.incident = made.incident

    def copy(self, person: str, notebook: str) -> Path:
        return copies.make_copies(self.settings, self.incident, person).folder / f"{notebook}.ipynb"

    def environment(self, address: str | None = None) -> dict[str, str]:
        return {
            "DATABASE_URL": address or self.database.url, "RUNBOOK_ENV_FILE": "",
            "RUNBOOK_HOME": str(self.settings.runbook_home),
        }  # fmt: skip

    def recorded(self) -> Counter[tuple[str, str, int]]:
        """How often each executed cell is in the timeline."""
        return Counter(
            (each["actor"], each["notebook"], each["cell_number"])
            for each in read_timeline(self.database, self.incident)
            if each["kind"] == "cell"
        )

    def findings(self) -> int:
        """What `archive verify` finds."""
        store = open_store(self.settings)
        return len(verify_archive(self.database, store, self.settings).findings)


def main() -> None:
    with scratch.server() as server:
        _killed_kernel(Scene(server, server.home / "killed"))
        _outages(server)
        _waiting(server)


def _killed_kernel(scene: Scene) -> None:
    """Three notebooks are stepped through; the last one's kernel is killed in a cell."""
    executed: Counter[tuple[str, str, int]] = Counter()
    for person, notebook in WORKED_IN:
        path = scene.copy(person, notebook)
        last = notebook == WORKED_IN[-1][1]
        if last:
            _add_cell(path, KILLS)
        with running_kernel(path, scene.environment()) as kernel:
            for number in range(1, len(kernel.cells()) + 1):
                executed[person, notebook, number] += 1
                if kernel.execute(number) == "died":
                    break
    found = scene.recorded()
    lost = [
        each for each in read_timeline(scene.database, scene.incident) if each["status"] == "lost"
    ]
    percent = 100 * sum((found & executed).values()) / sum(executed.values())
    report(
        "executed cells in the timeline: 3 notebooks, 2 people, one kernel killed", percent, "%",
        bar="100 %", met=found == executed and len(lost) == 1,
        samples={"executed": sum(executed.values()), "recorded": sum(found.values()), "lost": len(lost)},
    )  # fmt: skip
    closed = close_incident(
        scene.context, scene.incident, "ana", "The kernel was killed on purpose."
    )
    report(
        "findings of archive verify after closing it", scene.findings(), "findings", bar="0",
        met=scene.findings() == 0 and len(closed.runs) == len(WORKED_IN) and not closed.notices,
    )  # fmt: skip


def _outages(server: scratch.Server) -> None:
    """The database goes away for three cells of each of two people, again and again."""
    missing = doubled = late = executed = findings = 0
    for number in range(OUTAGES):
        scene = Scene(server, server.home / f"outage-{number}")
        place = urlsplit(scene.database.url)
        with NetworkProxy(place.hostname or "127.0.0.1", place.port or 5432) as proxy:
            address = (
                f"postgresql://{place.username}:{place.password}@127.0.0.1:{proxy.port}{place.path}"
            )
            _six_cells(scene, proxy, address, ("stall", "reset", "black_hole")[number % 3])
        scene.spool.file(scene.database)
        found = scene.recorded()
        wanted = {
            (person, "weekly/performance_review", cell)
            for person in ("ana", "ben")
            for cell in range(1, 5)
        }
        executed += len(wanted)
        missing += len(wanted - found.keys())
        doubled += sum(count - 1 for count in found.values())
        late += sum(each["filed_late"] for each in read_timeline(scene.database, scene.incident))
        findings += scene.findings()
    samples = {"outages": OUTAGES, "executed": executed, "filed late": late}
    report(
        "entries lost in an outage of 6 cells by 2 people",
        missing,
        "entries",
        bar="0",
        met=missing == 0,
        samples=samples,
    )
    report("entries doubled", doubled, "entries", bar="0", met=doubled == 0, samples=samples)
    report(
        "findings of archive verify afterwards", findings, "findings", bar="0", met=findings == 0
    )


def _six_cells(scene: Scene, proxy: NetworkProxy, address: str, fault: str) -> None:
    with ExitStack() as stack:
        kernels: list[Kernel] = [
            stack.enter_context(
                running_kernel(
                    scene.copy(person, "weekly/performance_review"), scene.environment(address)
                )
            )
            for person in ("ana", "ben")
        ]
        for path in (kernel.notebook for kernel in kernels):
            _only_cells(path, ["1 + 1", "2 + 2", "3 + 3", "4 + 4"])
        for kernel in kernels:
            kernel.execute(1)
        proxy.set_fault(fault)
        for number in (2, 3, 4):
            for kernel in kernels:
                kernel.execute(number)
        proxy.clear_fault()


def _waiting(server: scratch.Server) -> None:
    """What a cell waits for its two entries: the same cells in kernels that record, and that do not."""
    scene = Scene(server, server.home / "waiting")
    path = scene.copy("ana", "weekly/performance_review")
    _only_cells(path, ["1 + 1"])
    seconds = {}
    for name, more in (
        ("recorded", {}),
        ("not recorded", {"RUNBOOK_RUN_ID": "00000000-0000-0000-0000-000000000000"}),
    ):
        with running_kernel(path, {**scene.environment(), **more}) as kernel:
            kernel.execute(1, save=False)
            seconds[name] = [_timed(kernel) for _ in range(TIMED_CELLS)]
    medians = {name: statistics.median(each) * 1000 for name, each in seconds.items()}
    report(
        "what a cell waits for its entries, at the median", medians["recorded"] - medians["not recorded"], "ms",
        ratio=medians["recorded"] / medians["not recorded"], against="the same cell in a kernel that records nothing",
        samples=seconds,
    )  # fmt: skip


def _timed(kernel: Kernel) -> float:
    begun = time.perf_counter()
    kernel.execute(1, save=False)
    return time.perf_counter() - begun


def _add_cell(path: Path, source: str) -> None:
    notebook = json.loads(path.read_text("utf-8"))
    notebook["cells"].append(_cell("kills", source))
    path.write_text(json.dumps(notebook))


def _only_cells(path: Path, sources: list[str]) -> None:
    notebook = json.loads(path.read_text("utf-8"))
    notebook["cells"] = [_cell(f"cell-{number}", source) for number, source in enumerate(sources)]
    path.write_text(json.dumps(notebook))


def _cell(identifier: str, source: str) -> dict[str, object]:
    return {"cell_type": "code", "id": identifier, "metadata": {}, "source": source, "outputs": [],
            "execution_count": None}  # fmt: skip
