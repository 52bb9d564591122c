"""A sandbox for tests: real HTTP on a thread of the test's own process, emptied before each test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from runbook_lib.sandbox.control import SandboxControl
from runbook_lib.sandbox.service import CREDENTIALS_FILE, SandboxService

TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class RunningSandbox:
    """Where the sandbox is and how to log in."""

    url: str
    api_key: str
    user: str
    app_password: str
    control: SandboxControl
    directory: Path

    def wordpress(self, method: str, route: str, **options: object) -> requests.Response:
        """A request to its WordPress as the sandbox's user; `auth=None` asks as nobody."""
        given: dict[str, Any] = {
            "auth": (self.user, self.app_password),
            "allow_redirects": False,
            "headers": {"Accept": "application/json"},
            "timeout": TIMEOUT_SECONDS,
            **options,
        }
        return requests.request(method, f"{self.url}/wp-json{route}", **given)

    def openai(self, path: str, body: object, **headers: str) -> requests.Response:
        """A request to its OpenAI."""
        headers = {"Authorization": f"Bearer {self.api_key}", **headers}
        return requests.post(
            f"{self.url}/v1{path}", json=body, headers=headers, timeout=TIMEOUT_SECONDS
        )

    def ask(self, topic: str, **options: object) -> requests.Response:
        """Asks for an article about a topic."""
        messages = [{"role": "user", "content": f"Topic: {topic}"}]
        return self.openai(
            "/chat/completions", {"model": "gpt-4o-mini", "messages": messages, **options}
        )


@pytest.fixture(scope="session")
def _sandbox_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSandbox]:
    directory = tmp_path_factory.mktemp("sandbox")
    service = SandboxService(directory)
    url = service.start()["url"]
    found = json.loads((directory / CREDENTIALS_FILE).read_text("utf-8"))
    yield RunningSandbox(
        url,
        found["openai_api_key"],
        found["wordpress_user"],
        found["wordpress_app_password"],
        SandboxControl(url),
        directory,
    )
    service.stop()


@pytest.fixture
def running_sandbox(_sandbox_of_the_run: RunningSandbox) -> Iterator[RunningSandbox]:
    """The sandbox without faults, posts and journal."""
    control = _sandbox_of_the_run.control
    control.clear_faults()
    control.clear_posts()
    control.clear_journal()
    yield _sandbox_of_the_run
    control.clear_faults()
