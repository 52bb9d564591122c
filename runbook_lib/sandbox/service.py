"""The sandbox as a service: its files, its credentials, and a thread that serves."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import threading
import time
from pathlib import Path
from typing import Any

from runbook_lib.errors import ServiceNotStarted
from runbook_lib.sandbox.application import Application
from runbook_lib.sandbox.openai_usage import ADMIN_KEY
from runbook_lib.sandbox.server import Server
from runbook_lib.sandbox.storage import Storage

OWNER = "admin"
LOGIN, ROLE = "content-bot", "author"
CREDENTIALS_FILE = "credentials.json"
STORAGE_FILE = "sandbox.sqlite"
PORT_FILE = "port"
START_SECONDS = 20


class SandboxService:
    """Serves from a thread of its own, with everything kept in `directory`.

    `port` 0 takes the port of last time if it is free, else any: addresses survive a restart.
    """

    def __init__(self, directory: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        self._directory = directory
        self._host = host
        self._wanted_port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self.url = ""

    def start(self) -> dict[str, Any]:
        """Serves; returns the state that others need, without secrets. Raises `ServiceNotStarted`."""
        self._started.clear()
        self._thread = threading.Thread(target=self._run, name="sandbox", daemon=True)
        self._thread.start()
        if not self._started.wait(START_SECONDS) or self._failure is not None:
            raise ServiceNotStarted(
                f"The sandbox does not serve: {self._failure or 'it is not ready in time'}."
            )
        return {"url": self.url}

    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        loop = self._loop
        if loop is not None and self.alive():
            loop.call_soon_threadsafe(self._stopping.set)
        if self._thread is not None:
            self._thread.join(5)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # told to `start`, which waits in another thread
            self._failure = error
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        storage = Storage(self._directory / STORAGE_FILE)
        application = Application(storage)
        prepare_credentials(self._directory, storage, application)
        server = Server(application)
        port = await self._listen(server)
        self.url = application.wordpress.site = f"http://{self._host}:{port}"
        application.wordpress.resume_late_writes()
        (self._directory / PORT_FILE).write_text(str(port), "ascii")
        self._failure = None
        self._started.set()
        await self._stopping.wait()
        await server.close()
        storage.close()

    async def _listen(self, server: Server) -> int:
        if self._wanted_port:
            return await server.start(self._host, self._wanted_port)
        try:
            return await server.start(
                self._host, int((self._directory / PORT_FILE).read_text("ascii"))
            )
        except (OSError, ValueError, OverflowError):
            return await server.start(self._host, 0)


def prepare_credentials(directory: Path, storage: Storage, application: Application) -> None:
    """Makes the keys and the application password at the first start, readable to the owner only."""
    file = directory / CREDENTIALS_FILE
    users = application.wordpress.users
    found = json.loads(file.read_text("utf-8")) if file.exists() else {}
    if "openai_admin_key" in found and users.find(LOGIN) is not None:
        return
    if not found or users.find(LOGIN) is None:
        users.make(OWNER, "administrator")  # the first user of a site, whom nobody logs in as
        _, password = users.make(LOGIN, ROLE)
        key = f"sk-sandbox-{secrets.token_urlsafe(24)}"
        found = {"openai_api_key": key, "wordpress_user": LOGIN, "wordpress_app_password": password}
    found["openai_admin_key"] = f"{ADMIN_KEY}{secrets.token_urlsafe(24)}"
    for name in ("openai_api_key", "openai_admin_key"):
        storage.execute("add_api_key", api_key=found[name], now=time.time())
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(json.dumps(found))
    new.replace(file)
