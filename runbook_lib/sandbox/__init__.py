"""Stand-ins for OpenAI and WordPress over HTTP, in one process that all workers share.

They answer with the bodies, headers and habits of the real ones, keep their posts on disk, and have a
switch for each fault. `acquire` starts the process if need be; it stops when nobody holds it. It can
also run alone: `python -m runbook_lib.sandbox --directory DIRECTORY --port 8099`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from runbook_lib.processes import Hold, SharedProcess
from runbook_lib.sandbox.control import SandboxControl

__all__ = ["Sandbox", "SandboxControl", "acquire", "runs"]

CREDENTIALS_FILE = "credentials.json"


@dataclass
class Sandbox:
    """A running sandbox that this process holds, and how to reach it."""

    url: str
    openai_api_key: str = field(repr=False)
    wordpress_user: str
    wordpress_app_password: str = field(repr=False)
    openai_admin_key: str = field(repr=False)
    _hold: Hold = field(repr=False)

    @property
    def openai_base_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def wordpress_url(self) -> str:
        return self.url

    @property
    def control(self) -> SandboxControl:
        return SandboxControl(self.url)

    def ensure(self) -> None:
        """Starts it again if it was killed; it comes back at the same address if that is free."""
        self.url = str(self._hold.ensure()["url"])

    def release(self) -> None:
        """Lets go; the process stops when nobody else holds it."""
        self._hold.release()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def acquire(home: Path, timeout_seconds: float = 30) -> Sandbox:
    """The sandbox of a RUNBOOK_HOME, started if it does not run. Raises `ServiceNotStarted`."""
    directory = home / "sandbox"
    hold = _process(home).acquire(timeout_seconds)
    credentials = json.loads((directory / CREDENTIALS_FILE).read_text("utf-8"))
    return Sandbox(
        url=str(hold.state["url"]),
        openai_api_key=credentials["openai_api_key"],
        wordpress_user=credentials["wordpress_user"],
        wordpress_app_password=credentials["wordpress_app_password"],
        openai_admin_key=credentials["openai_admin_key"],
        _hold=hold,
    )


def runs(home: Path) -> bool:
    """Whether the sandbox of a RUNBOOK_HOME is up; nothing is started."""
    return _process(home).status().ready


def _process(home: Path) -> SharedProcess:
    return SharedProcess(home / "sandbox", "runbook_lib.sandbox")
