"""The laboratory: a server and a sandbox, on which one scene after the other gets a system of its own."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from itertools import count
from pathlib import Path

from pydantic import SecretStr

from runbook_lib.database import Database
from runbook_lib.database.disposable import NOTHING_SURVIVES, DisposableServer, disposable_server
from runbook_lib.rehearsal.faults import Fault
from runbook_lib.rehearsal.scene import QUICK, Scene
from runbook_lib.rehearsal.server import own_server, template_of
from runbook_lib.sandbox.control import SandboxControl
from runbook_lib.sandbox.service import CREDENTIALS_FILE, SandboxService
from runbook_lib.settings import Settings

CATEGORIES = ("News", "Guides")


class Laboratory:
    """A server with a template to copy, and one sandbox for all scenes, which come one at a time."""

    def __init__(
        self, server: DisposableServer, home: Path, url: str, credentials: dict[str, str]
    ) -> None:
        self.server, self.home, self.url, self.credentials = server, home, url, credentials
        self.template = server.new_database()
        self._numbers = count(1)

    @contextmanager
    def scene(
        self, seed: int, fault: Fault | None = None, *, severity: float = 1.0, past: bool = True
    ) -> Iterator[Scene]:
        """A system of its own; what was staged on the sandbox is gone at the end.

        `fault` says what the system must have for it, such as a server of its own. Without a `past`, it has
        just been set up.
        """
        name = f"scene_{os.getpid()}_{next(self._numbers)}"
        with ExitStack() as stack:
            server = None
            if fault is not None and fault.needs_own_server:
                server = stack.enter_context(own_server(self.home / name, self._own_template))
                database = Database(server.url)
            else:
                database = self.server.copy(self.template, name)
                stack.callback(self.server.drop, name)
            control = SandboxControl(self.url)
            _empty(control)
            scene = Scene(
                database, self._settings(database), control, severity, server=server, seed=seed
            )
            if past:
                scene.past(count=40 + 20 * (seed % 5), hours=3 + seed % 7)
            stack.callback(control.clear_faults)
            yield scene

    @cached_property
    def _own_template(self) -> Path:
        return template_of(self.server, self.template, self.home / "own")

    def _settings(self, database: Database) -> Settings:
        return Settings(
            database_url=SecretStr(database.url), runbook_home=self.home,
            openai_api_key=SecretStr(self.credentials["openai_api_key"]), openai_base_url=f"{self.url}/v1",
            wordpress_url=self.url, wordpress_user=self.credentials["wordpress_user"],
            wordpress_app_password=SecretStr(self.credentials["wordpress_app_password"]), **QUICK,
        )  # fmt: skip


def _empty(control: SandboxControl) -> None:
    control.clear_faults()
    control.clear_posts()
    control.clear_journal()
    control.ensure_categories(CATEGORIES)


@contextmanager
def laboratory(running: DisposableServer | None = None) -> Iterator[Laboratory]:
    """Starts a server, unless one is `running`, and a sandbox; stops what it started at the end."""
    with ExitStack() as stack:
        server = running or stack.enter_context(disposable_server(NOTHING_SURVIVES))
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="runbook-sandbox-"))
        )
        service = SandboxService(directory)
        url = service.start()["url"]
        stack.callback(service.stop)
        credentials = json.loads((directory / CREDENTIALS_FILE).read_text("utf-8"))
        yield Laboratory(server, server.home, url, credentials)
