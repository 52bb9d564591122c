"""Trying the project out touches nothing of the caller's: not their database, keys, site or `.env`.

A copy of the clone is given a hostile surrounding: a foreign database, keys and sites in the environment
and in `.env`, each of them a real server that counts who comes. The demo and some tests then run there.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import FAST

from runbook_lib.database import Database, embedded
from runbook_lib.settings import PROJECT_DIRECTORY

CLONE = (
    "runbook_lib",
    "notebooks",
    "schedules",
    "examples",
    "docs",
    "tests",
    "worker.py",
    "pyproject.toml",
    "README.md",
)
# It asks for the database in every way that there is: it would find the foreign one.
QUICK_TESTS = ("tests/test_db_command.py", "-k", "keeps_the_server")


class CountingServer:
    """Listens, counts connections, and passes them on to `target` where there is one."""

    def __init__(self, target: tuple[str, int] | None = None) -> None:
        self.connections = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self._target is None:
                client.close()
                continue
            server = socket.create_connection(self._target)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=_copy, args=(source, sink), daemon=True).start()

    def close(self) -> None:
        self._listener.close()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with closing(source), closing(sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass


@dataclass
class Surrounding:
    """The copy of the clone, the environment to run it in, and who counts."""

    clone: Path
    home: Path
    environment: dict[str, str]
    servers: dict[str, CountingServer] = field(default_factory=dict)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.clone,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def connections(self) -> dict[str, int]:
        return {name: server.connections for name, server in self.servers.items()}


@pytest.fixture
def empty_database(new_database: Callable[..., Database]) -> Database:
    return new_database(migrated=False)


@pytest.fixture
def surrounding(tmp_path: Path, empty_database: Database) -> Iterator[Surrounding]:
    host, port = empty_database.address.split("/")[0].split(":")
    servers = {
        "database": CountingServer((host, int(port))),
        "OpenAI": CountingServer(),
        "WordPress": CountingServer(),
        "proxy": CountingServer(),
    }
    theirs = {
        "DATABASE_URL": empty_database.url.replace(f":{port}/", f":{servers['database'].port}/"),
        "OPENAI_API_KEY": "sk-foreign",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{servers['OpenAI'].port}/v1",
        "WORDPRESS_URL": f"http://127.0.0.1:{servers['WordPress'].port}",
        "WORDPRESS_USER": "foreign",
        "WORDPRESS_APP_PASSWORD": "foreign password",
        "RUNBOOK_HOME": str(tmp_path / "their home"),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(servers["database"].port),
    }
    clone = tmp_path / "a clone"
    clone.mkdir()
    for name in CLONE:
        source = PROJECT_DIRECTORY / name
        if source.is_dir():
            shutil.copytree(source, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, clone / name)
    (clone / ".env").write_text("".join(f"{name}={value}\n" for name, value in theirs.items()))
    proxy = f"http://127.0.0.1:{servers['proxy'].port}"
    environment = {
        **os.environ,
        **theirs,
        "http_proxy": proxy,
        "HTTPS_PROXY": proxy,
        "PYTHONPATH": str(clone),
    }
    for name in ("RUNBOOK_ENV_FILE", "NO_PROXY", "no_proxy", "PYTEST_XDIST_WORKER"):
        environment.pop(name, None)
    home = tmp_path / "demo home"
    # Only so that the first start need not sync a new data folder.
    with embedded.acquire(home, server_settings=FAST)[1]:
        yield Surrounding(clone, home, environment, servers)
    for server in servers.values():
        server.close()


def tables(database: Database) -> int:
    with database.transaction() as transaction:
        return int(
            transaction.value(
                "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            )
        )


DEMO = ("-m", "runbook_lib.cli", "demo", "--json", "--home")


def test_the_demo_publishes_every_topic_and_comes_near_nothing_of_the_callers(
    surrounding: Surrounding, empty_database: Database
) -> None:
    demo = surrounding.run(*DEMO, str(surrounding.home))
    assert demo.returncode == 0, demo.stderr
    outcome = json.loads(demo.stdout)
    assert outcome["added"] >= 40
    assert outcome["completed"] == outcome["added"]
    assert outcome["report"]["status"] == "succeeded"
    assert Path(outcome["report"]["archive"]).exists()
    assert surrounding.connections() == dict.fromkeys(surrounding.servers, 0)
    assert tables(empty_database) == 0
    assert not (surrounding.clone.parent / "their home").exists()


@pytest.mark.long
def test_a_second_demo_publishes_nothing_again_and_ends_well(surrounding: Surrounding) -> None:
    first = json.loads(surrounding.run(*DEMO, str(surrounding.home)).stdout)
    again = surrounding.run(*DEMO, str(surrounding.home))
    assert again.returncode == 0, again.stderr
    outcome = json.loads(again.stdout)
    assert (outcome["added"], outcome["duplicates"]) == (0, first["added"])
    assert outcome["completed"] == first["completed"]


def test_the_tests_come_near_nothing_of_the_callers(
    surrounding: Surrounding, empty_database: Database
) -> None:
    answer = surrounding.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *QUICK_TESTS)
    assert answer.returncode == 0, answer.stdout
    assert "1 passed" in answer.stdout
    assert surrounding.connections() == dict.fromkeys(surrounding.servers, 0)
    assert tables(empty_database) == 0


def test_without_that_care_the_same_surrounding_is_reached(surrounding: Surrounding) -> None:
    surrounding.run("-m", "runbook_lib.cli", "doctor")
    reached = surrounding.connections()
    assert reached["database"] > 0
    assert reached["WordPress"] > 0
