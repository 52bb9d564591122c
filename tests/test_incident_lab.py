"""The lab as responders have it: a real JupyterLab, its HTTP interface, and a kernel that it starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket

from runbook_lib.database import Database
from runbook_lib.incidents import copies, lab, records
from runbook_lib.incidents.timeline import cells_by_hand, read_timeline
from runbook_lib.procedures.runner import run
from runbook_lib.settings import PROJECT_DIRECTORY, Settings
from runbook_lib.spool import open_spool

pytestmark = pytest.mark.long
START_SECONDS = 180


class Lab:
    """A lab that is up, and what its pages do over HTTP."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        until = time.monotonic() + START_SECONDS
        while True:
            found = lab.running(settings)
            if found and self._answers(str(found["url"])):
                break
            assert time.monotonic() < until, "the lab did not start"
            time.sleep(0.2)
        self.url, self.token = str(found["url"]).rstrip("/"), str(found["token"])

    @staticmethod
    def _answers(url: str) -> bool:
        try:
            return requests.get(f"{url}api", timeout=5).ok
        except requests.RequestException:
            return False

    def ask(self, method: str, address: str, **body: Any) -> requests.Response:
        headers = {"Authorization": f"token {self.token}"}
        return requests.request(method, self.url + address, headers=headers, json=body or None, timeout=60)  # fmt: skip

    def execute(self, path: str, cell_id: str, source: str) -> None:
        """Opens a notebook as the page does, and runs one of its cells."""
        session = self.ask(
            "POST", "/api/sessions", path=path, name=path.rpartition("/")[2], type="notebook",
            kernel={"name": "python3"},
        ).json()  # fmt: skip
        address = (
            f"{self.url.replace('http', 'ws', 1)}/api/kernels/{session['kernel']['id']}/channels"
        )
        socket = websocket.create_connection(
            f"{address}?session_id=test", header={"Authorization": f"token {self.token}"}, timeout=60
        )  # fmt: skip
        request = uuid.uuid4().hex
        header = {"msg_id": request, "msg_type": "execute_request", "session": "test", "username": "",
                  "version": "5.3", "date": "2026-11-26T00:00:00Z"}  # fmt: skip
        content = {"code": source, "silent": False, "store_history": True, "user_expressions": {},
                   "allow_stdin": False, "stop_on_error": True}  # fmt: skip
        socket.send(json.dumps({"header": header, "parent_header": {}, "metadata": {"cellId": cell_id},
                                "content": content, "channel": "shell", "buffers": []}))  # fmt: skip
        while True:
            message = json.loads(socket.recv())
            about = message["parent_header"].get("msg_id") == request
            if about and message["header"]["msg_type"] == "execute_reply":
                break
        socket.close()
        self.ask("DELETE", f"/api/sessions/{session['id']}")


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
