"""The sandbox as a process: shared, restarted, killed, and what of it lasts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from running_sandbox import RunningSandbox

from runbook_lib import sandbox
from runbook_lib.processes import SharedProcess
from runbook_lib.sandbox import Sandbox, SandboxControl

HOLD = "import sys; from pathlib import Path; from runbook_lib import sandbox; s = sandbox.acquire(Path(sys.argv[1])); print(s.url, flush=True); sys.stdin.read()"


@pytest.fixture
def acquired(home: Path) -> Iterator[Sandbox]:
    with sandbox.acquire(home) as found:
        yield found
    assert SharedProcess(home / "sandbox", "runbook_lib.sandbox").wait_until_stopped(20)


def _kill(home: Path) -> None:
    os.kill(json.loads((home / "sandbox" / "state.json").read_text())["pid"], signal.SIGKILL)
    assert SharedProcess(home / "sandbox", "runbook_lib.sandbox").wait_until_stopped(20)


@contextmanager
def _running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that does not outlive its test."""
    with subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _post(found: Sandbox, title: str, timeout: float = 10) -> requests.Response:
    login = (found.wordpress_user, found.wordpress_app_password)
    address = f"{found.wordpress_url}/wp-json/wp/v2/posts"
    return requests.post(
        address, json={"title": title, "status": "publish"}, auth=login, timeout=timeout
    )


def test_processes_share_one_sandbox_until_the_last_lets_go(acquired: Sandbox, home: Path) -> None:
    with _running("-c", HOLD, str(home)) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline().strip() == acquired.url
        acquired.release()
        assert SandboxControl(acquired.url).faults() == []
        other.stdin.close()
        assert other.wait(20) == 0


def test_everything_lasts_through_a_kill_at_the_same_address(acquired: Sandbox, home: Path) -> None:
    control = acquired.control
    control.ensure_categories(["Field notes"])
    control.set_fault("openai", "quota", count=3)
    posted = _post(acquired, "Kept").json()
    control.set_fault("wordpress", "commit_delay", delay_seconds=1.5, answer="status")
    assert _post(acquired, "Owed").status_code == 504
    before = acquired.url
    _kill(home)
    acquired.ensure()
    assert acquired.url == before
    assert {fault["kind"] for fault in control.faults()} == {"quota", "commit_delay"}
    assert control.ensure_categories(["Field notes"]) == {"Field notes": 4}
    assert len(control.journal()) == 2
    end = time.monotonic() + 20
    while len(posts := control.posts()) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert [post["title"] for post in posts] == ["Kept", "Owed"]
    assert posts[0]["post_id"] == posted["id"]


def test_credentials_stay_and_only_the_owner_can_read_them(home: Path) -> None:
    logins = []
    for _ in range(2):
        with sandbox.acquire(home) as found:
            logins.append(
                (found.openai_api_key, found.wordpress_user, found.wordpress_app_password)
            )
            for name in ("credentials.json", "sandbox.sqlite", "log.txt"):
                assert (home / "sandbox" / name).stat().st_mode & 0o077 == 0
            for name in ("state.json", "log.txt"):
                assert found.openai_api_key not in (home / "sandbox" / name).read_text()
            assert found.openai_api_key not in repr(found)
        assert SharedProcess(home / "sandbox", "runbook_lib.sandbox").wait_until_stopped(20)
    assert logins[0] == logins[1]


def test_credentials_are_the_owners_whatever_the_umask(running_sandbox: RunningSandbox) -> None:
    assert (running_sandbox.directory / "credentials.json").stat().st_mode & 0o077 == 0


def test_a_hundred_slow_answers_are_served_side_by_side(acquired: Sandbox) -> None:
    acquired.control.set_fault("openai", "latency", delay_seconds=0.3)
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Topic: Bees"}]}
    headers = {"Authorization": f"Bearer {acquired.openai_api_key}"}
    together = threading.Barrier(100)

    def ask(_: int) -> int:
        together.wait(30)
        address = f"{acquired.openai_base_url}/chat/completions"
        return requests.post(address, json=body, headers=headers, timeout=30).status_code

    with ThreadPoolExecutor(100) as pool:
        assert set(pool.map(ask, range(100))) == {200}
    entries = acquired.control.journal()
    waited = sum(entry["ended_at"] - entry["started_at"] for entry in entries)
    taken = max(entry["ended_at"] for entry in entries) - min(
        entry["started_at"] for entry in entries
    )
    assert waited > 5 * taken


def test_it_runs_alone_at_a_port_of_choice(tmp_path: Path) -> None:
    directory = tmp_path / "alone"
    with _running(
        "-m", "runbook_lib.sandbox", "--directory", str(directory), "--port", "0"
    ) as alone:
        assert alone.stdout is not None
        url = alone.stdout.readline().strip().removeprefix("OPENAI_BASE_URL=").removesuffix("/v1")
        assert urlsplit(url).hostname == "127.0.0.1"
        assert SandboxControl(url).posts() == []
        for name in ("credentials.json", "sandbox.sqlite"):
            assert (directory / name).stat().st_mode & 0o077 == 0
        alone.terminate()
        assert alone.wait(20) == 0
