"""The lab as responders have it: a real JupyterLab, its HTTP interface, and a kernel that it starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from running_lab import Lab

from runbook_lib.database import Database
from runbook_lib.incidents import copies, lab, records
from runbook_lib.incidents.timeline import cells_by_hand, read_timeline
from runbook_lib.procedures.runner import run
from runbook_lib.settings import PROJECT_DIRECTORY, Settings
from runbook_lib.spool import open_spool

pytestmark = pytest.mark.long


@pytest.fixture
def running(settings: Settings, database: Database) -> Iterator[Lab]:
    environment = {**os.environ, "DATABASE_URL": database.url, "RUNBOOK_ACTOR": "eve",
                   "JUPYTER_TOKEN": ""}  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "runbook_lib.cli", "lab", "--no-browser", "--port", "18888"],
        cwd=PROJECT_DIRECTORY, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield Lab(settings)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_cells_of_a_real_lab_are_in_the_timeline_and_procedures_stay_as_they_are(
    running: Lab, settings: Settings, database: Database
) -> None:
    made = records.new_incident("Nothing goes out", "critical", "ana", "ana")
    records.open_incident(database, open_spool(settings), made)
    folder = copies.make_copies(settings, made.incident, "ana").folder
    inside = folder.relative_to(copies.incidents_folder(settings))
    notebook = json.loads((folder / "daily/health_check.ipynb").read_text())
    cell = next(each for each in notebook["cells"] if each["cell_type"] == "code")
    running.execute(
        f"incidents/{inside}/daily/health_check.ipynb", cell["id"], "".join(cell["source"])
    )
    kept = json.loads(Path(PROJECT_DIRECTORY, "notebooks/daily/failure_rate.ipynb").read_text())
    cell = next(each for each in kept["cells"] if each["cell_type"] == "code")
    running.execute("notebooks/daily/failure_rate.ipynb", cell["id"], "".join(cell["source"]))
    (entry,) = [each for each in read_timeline(database, made.incident) if each["kind"] == "cell"]
    assert (entry["actor"], entry["notebook"], entry["cell_number"], entry["status"]) == (
        "ana", "daily/health_check", 1, "succeeded",
    )  # fmt: skip
    (by_hand,) = cells_by_hand(database)
    assert (by_hand["actor"], by_hand["notebook"]) == ("eve", "daily/failure_rate")
    run("daily/failure_rate", database=database, settings=settings)
    assert len(cells_by_hand(database)) == 1

    assert requests.get(f"{running.url}/api/contents", timeout=60).status_code == 403
    assert running.ask("POST", "/api/terminals").status_code == 404
    answer = running.ask("PUT", "/api/contents/notebooks/daily/failure_rate.ipynb", type="notebook",
                         format="json", content=kept)  # fmt: skip
    assert (answer.status_code, "not edited in place" in answer.text) == (403, True)
    page = running.ask("GET", "/lab").text
    assert '"news": {"disabled": true}' in page
    assert "apputils-extension:announcements" in page
    assert str(running.token) in str(lab.link_to(settings, folder))
