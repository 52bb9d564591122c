"""A real JupyterLab, its HTTP interface, and a kernel that it starts."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import requests
import websocket

from runbook_lib.incidents import lab
from runbook_lib.settings import Settings

START_SECONDS = 180


class Lab:
    """A lab that is up, and what its pages do over HTTP."""

    def __init__(self, settings: Settings) -> None:
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

    def execute(self, path: str, cell_id: str, source: str) -> str:
        """Opens a notebook as the page does, runs one of its cells, and gives what it shows."""
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
        shown = []
        while True:
            message = json.loads(socket.recv())
            about = message["parent_header"].get("msg_id") == request
            if about and message["channel"] == "iopub":
                shown.append(json.dumps(message["content"]))
            if about and message["header"]["msg_type"] == "execute_reply":
                break
        socket.close()
        self.ask("DELETE", f"/api/sessions/{session['id']}")
        return "\n".join(shown)
