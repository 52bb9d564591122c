"""The monitor as it runs: real processes over a real pipeline, its database and its addresses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from fault_server import FaultServer
from test_alerts import SECRET, Webhook

from benchmarks.pipeline_scene import Scene
from runbook_lib import sandbox
from runbook_lib.cli import runbook
from runbook_lib.database import Database
from runbook_lib.health.beats import beat
from runbook_lib.sandbox.proxy import NetworkProxy
from runbook_lib.settings import PROJECT_DIRECTORY, environment_without_callers

# Bad once is bad and good once is good, and a survey comes each second.
QUICK = """
[alerting]
survey_interval_seconds = 2
bad_times = 1
bad_minutes = 0
good_minutes = 0
flapping_changes = 1000
delivery_deadline_seconds = 3
delivery_retry_seconds = 5
"""
WAIT_SECONDS = 120


class Monitors:
    """Monitor processes over a database that is reached through a proxy."""

    def __init__(self, home: Path, proxied_url: str, urls: str) -> None:
        policy = home / "policy.toml"
        policy.write_text(QUICK)
        self.log = home / "monitors.log"
        self._environment = {
            **environment_without_callers(home), "DATABASE_URL": proxied_url,
            "RUNBOOK_ALERT_URLS": urls, "RUNBOOK_CONFIG": str(policy),
            "RUNBOOK_DATABASE_DEADLINE_SECONDS": "5",
        }  # fmt: skip
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "runbook_lib.cli", "monitor", "--json"],
                env=self._environment, cwd=PROJECT_DIRECTORY, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


def wait_for(condition: Callable[[], object], what: Callable[[], str]) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < until, what()
        time.sleep(0.1)


@pytest.fixture
def scene(database: Database, home: Path) -> Iterator[Scene]:
    home.mkdir()
    with sandbox.acquire(home) as running:
        scene = Scene(database, running, home, RUNBOOK_PROVIDER_PAUSE_SECONDS=1)
        yield scene
        scene.end()


@pytest.mark.long
def test_two_monitors_tell_once_of_a_key_that_fails_of_the_database_and_of_an_address_that_hangs(
    scene: Scene, home: Path, database: Database
) -> None:
    parts = urlsplit(database.url)
    assert parts.hostname
    assert parts.port
    with (
        Webhook() as webhook,
        FaultServer(lambda server, _: server.closing.wait() and None) as black_hole,
        NetworkProxy(parts.hostname, parts.port) as proxy,
    ):
        proxied = database.url.replace(f":{parts.port}/", f":{proxy.port}/")
        monitors = Monitors(home, proxied, f"{webhook.url} json://127.0.0.1:{black_hole.port}/hang")

        def told(cause: str) -> list[str]:
            """What was told of a cause, in order, as the first word of each title."""
            mine = [title for title in webhook.titles if f": {cause} · " in title]
            return [title.split(":")[0].split(",")[0] for title in mine]

        def wait_until_told(cause: str, *words: str) -> None:
            wait_for(
                lambda: told(cause) == list(words),
                lambda: (
                    f"{cause}: {told(cause)}\n{webhook.titles}\n{monitors.log.read_text()[-4000:]}"
                ),
            )

        try:
            first, second = monitors.start(), monitors.start()
            wait_for(lambda: monitors.log.read_text().count("monitor_started") == 2, lambda: "none")
            scene.sandbox.control.set_fault("openai", "invalid_key")
            scene.add(3)
            scene.start_worker()
            wait_until_told("openai.key", "CRITICAL")
            # One address takes connections and never answers: it holds nothing up, and is an alarm.
            wait_until_told("alerts.delivery", "CRITICAL")
            scene.sandbox.control.clear_faults()
            wait_until_told("openai.key", "CRITICAL", "RECOVERED")

            # The database is gone, and it is told all the same; then it is back, and that is told.
            proxy.set_fault("refuse")
            wait_until_told("database.reachable", "CRITICAL")
            proxy.clear_fault()
            wait_until_told("database.reachable", "CRITICAL", "RECOVERED")

            # One monitor is killed: the other one misses it.
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
            before = told("monitor.alive")
            wait_until_told("monitor.alive", *before, "WARNING")
            # Another that comes in its place is what was missed.
            monitors.start()
            wait_until_told("monitor.alive", *before, "WARNING", "RECOVERED")
            second.send_signal(signal.SIGTERM)
            assert second.wait(WAIT_SECONDS) == 0
            assert SECRET not in monitors.log.read_text()
        finally:
            monitors.end()
        with database.transaction() as transaction:
            filed = transaction.rows("SELECT cause, filed_late FROM alerts WHERE cause = 'database.reachable'")  # fmt: skip
        assert [tuple(row) for row in filed] == [("database.reachable", True)]


def test_a_monitor_that_is_gone_without_a_word_is_closed_by_one_that_comes_in_its_place(
    database: Database,
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO monitor_beats (monitor, host, pid, boot_id, version, interval_seconds) "
            "SELECT 'gone', %(host)s, %(pid)s, 'another boot', '1', 60 UNION ALL "
            "SELECT 'elsewhere', 'another host', 1, 'another boot', '1', 60",
            host=os.uname().nodename, pid=ended.pid,
        )  # fmt: skip
    beat(database, "new", 60)
    with database.transaction() as transaction:
        rows = transaction.rows("SELECT monitor FROM monitor_beats WHERE stopped_at IS NULL")
    assert {row.monitor for row in rows} == {"new", "elsewhere"}


def run(database: Database, home: Path, *arguments: str, urls: str = "") -> tuple[int, str]:
    """A command of `runbook` in this process: exit status and what it printed."""
    environment = {"DATABASE_URL": database.url, "RUNBOOK_HOME": str(home), "RUNBOOK_ALERT_URLS": urls}  # fmt: skip
    answer = CliRunner().invoke(runbook, arguments, env=environment, standalone_mode=False)
    if answer.exception is not None:
        raise answer.exception
    status = answer.return_value
    return (status if isinstance(status, int) else 0), answer.output


def test_alerts_are_listed_shown_and_acknowledged_and_one_that_does_not_arrive_is_an_alarm(
    database: Database, home: Path
) -> None:
    with database.transaction() as transaction:
        transaction.run("INSERT INTO events (kind, level, message) VALUES ('job_quarantined', 'critical', 'Job 7.')")  # fmt: skip
    status, said = run(database, home, "monitor", "--once", "--json", urls="json://127.0.0.1:1/no")
    turn = next(line for line in map(json.loads, said.splitlines()) if line["event"] == "surveyed")
    assert status == 1
    assert [each["cause"] for each in turn["told"]] == ["event.job_quarantined"]
    status, said = run(database, home, "alerts", "list")
    assert status == 1
    assert "json 1 at 127.0.0.1" in said
    status, said = run(database, home, "alerts", "list", "--json")
    (alert,) = json.loads(said.splitlines()[0])
    assert (status, alert["waiting"], alert["status"]) == (1, 1, "open")
    run(database, home, "alerts", "ack", alert["alert_id"][:8], "--actor", "ada", "--note", "mine")
    status, said = run(database, home, "alerts", "show", alert["alert_id"][:8])
    assert "ada" in said
    assert "Connection refused" in said


def test_alerts_test_says_of_each_address_whether_it_arrived(database: Database, home: Path) -> None:  # fmt: skip
    with Webhook() as webhook:
        urls = f"{webhook.url} json://127.0.0.1:1/nobody"
        status, said = run(database, home, "alerts", "test", urls=urls)
    assert status == 1
    assert "arrived  json 1 at 127.0.0.1" in said
    assert "FAILED   json 2 at 127.0.0.1" in said
    assert "refused" in said
    assert SECRET not in said
    assert webhook.titles == ["TEST: alerts of the runbook workbench"]
