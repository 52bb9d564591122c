"""Rotation under load: 100 jobs in flight while OpenAI's key, WordPress's password and the database's password change."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from psycopg2.extensions import parse_dsn

from benchmarks.figures import report
from benchmarks.pipeline_scene import Scene, Verdict, wait_until
from benchmarks.scratch import server
from runbook_lib import known_secrets
from runbook_lib.credentials.staging import register
from runbook_lib.database.binaries import find_binaries
from runbook_lib.database.connection import Database
from runbook_lib.env_file import EnvFile
from runbook_lib.maintenance.trial_restore import without_password
from runbook_lib.sandbox import Sandbox, acquire
from runbook_lib.sandbox.control import SandboxControl
from runbook_lib.settings import PROJECT_DIRECTORY, environment_without_callers

IN_FLIGHT, WORKERS = 100, 2
# More slots than that, so that so many are in flight also while some are being handed over.
SLOTS_PERCENT = 130
WRITING_SECONDS, PUBLISHING_SECONDS = 3.0, 0.5
NAMES = ("OPENAI_API_KEY", "WORDPRESS_APP_PASSWORD", "DATABASE_URL")


@dataclass
class Outcome:
    """What became of the jobs and of the six values."""

    verdict: Verdict
    failed: int
    in_flight: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    refused: dict[str, bool] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)


class RotatedPipeline:
    """Workers whose `.env` names the sandbox as if it were real, with values that may all be revoked."""

    def __init__(
        self, database: Database, role: str, run_sql: Callable[[str], None], url: str,
        control: SandboxControl, home: Path,
    ) -> None:  # fmt: skip
        self.database, self.control, self.home = database, control, home
        self.env_file = EnvFile(home / "settings" / "env")
        self.env_file.path.parent.mkdir(parents=True)
        self.processes: list[subprocess.Popen[bytes]] = []
        self._seen_command_lines: set[bytes] = set()
        self._watching = threading.Event()
        self._make_account(role, run_sql, url)

    def _make_account(self, role: str, run_sql: Callable[[str], None], url: str) -> None:
        password = secrets.token_urlsafe(24)
        parts = urlsplit(self.database.url)
        run_sql(f"CREATE ROLE {role} LOGIN IN ROLE {parts.username} PASSWORD '{password}'")
        bot = f"bot-{secrets.token_hex(4)}"
        for name, value in {
            "DATABASE_URL": f"postgresql://{role}:{password}@{parts.hostname}:{parts.port}{parts.path}",
            "OPENAI_API_KEY": self.control.make_api_key(f"sk-rotated-{secrets.token_hex(12)}"),
            "OPENAI_BASE_URL": f"{url}/v1", "WORDPRESS_URL": url, "WORDPRESS_USER": bot,
            "WORDPRESS_APP_PASSWORD": self.control.make_user(bot),
        }.items():  # fmt: skip
            self.env_file.replace(name, value)
        self.remember()

    def remember(self) -> None:
        """Makes the present values known, so that they are found in whatever form they were written."""
        for name in NAMES:
            register(name, self.value(name))

    def value(self, name: str) -> str:
        return self.env_file.value(name) or ""

    @property
    def environment(self) -> dict[str, str]:
        return {
            **environment_without_callers(self.home), "RUNBOOK_ENV_FILE": str(self.env_file.path),
            "RUNBOOK_SITE_PROCESSING_SECONDS": "5", "RUNBOOK_ACTOR": "benchmark",
        }  # fmt: skip

    def start_workers(self, count: int, concurrency: int) -> None:
        for _ in range(count):
            with (self.home / "worker.log").open("ab") as log:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, str(PROJECT_DIRECTORY / "worker.py"), "--concurrency", str(concurrency)],
                        env=self.environment, cwd=PROJECT_DIRECTORY, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                        start_new_session=True,
                    )
                )  # fmt: skip

    def command(self, *words: str, value: str | None = None) -> int:
        """`runbook …`; what it says goes to a log that is searched like the others."""
        with (self.home / "commands.log").open("ab") as log:
            return subprocess.run(
                [sys.executable, "-m", "runbook_lib.cli", *words], env=self.environment, cwd=PROJECT_DIRECTORY,
                input=None if value is None else value.encode(), stdout=log, stderr=log, timeout=300,
            ).returncode  # fmt: skip

    def processing(self) -> int:
        with self.database.transaction(read_only=True) as transaction:
            return int(
                transaction.value("SELECT count(*) FROM content_jobs WHERE status = 'processing'")
            )

    def waiting(self) -> int:
        with self.database.transaction(read_only=True) as transaction:
            return int(
                transaction.value("SELECT count(*) FROM content_jobs WHERE status = 'pending'")
            )

    def failed_attempts(self) -> int:
        with self.database.transaction(read_only=True) as transaction:
            return int(transaction.value("SELECT count(*) FROM job_runs WHERE status IN ('error', 'lost')"))  # fmt: skip

    def watch_processes(self) -> None:
        """Collects the command lines, and the environments of what is ours, of every process that is seen."""
        own = os.geteuid()
        while not self._watching.wait(0.2):
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    self._seen_command_lines.add((folder / "cmdline").read_bytes())
                    if folder.stat().st_uid == own and int(folder.name) in {each.pid for each in self.processes}:  # fmt: skip
                        self._seen_command_lines.add((folder / "environ").read_bytes())
                except OSError:
                    continue

    def places(self) -> Iterable[tuple[str, bytes]]:
        """Everything in which a value could have been left: files, dump of the database, process list."""
        self._watching.set()
        yield "process list", b"\n".join(self._seen_command_lines)
        yield "database", self._dump()
        for file in sorted(self.home.rglob("*")):
            # The store itself, and what is the sandbox's own: as at a provider, the values are there.
            inside = file.relative_to(self.home).parts[0]
            if file.is_file() and inside not in ("settings", "sandbox"):
                yield str(file.relative_to(self.home)), file.read_bytes()

    def _dump(self) -> bytes:
        tool = find_binaries(self.home / "none").directory / "pg_dump"
        dump = subprocess.run(
            [str(tool), "--dbname", without_password(self.database.url)],
            env={**os.environ, "PGPASSWORD": parse_dsn(self.database.url)["password"]},
            capture_output=True,
        )
        assert dump.returncode == 0, dump.stderr.decode()[-500:]
        return dump.stdout

    def end(self) -> None:
        self._watching.set()
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()


def rotate_under_load(
    pipeline: RotatedPipeline, scene: Scene, *, in_flight: int, workers: int, server_log: Callable[[], bytes],
) -> Outcome:  # fmt: skip
    """Rotates all three, one after another, while jobs run; then looks at jobs, old values and every place."""
    rotated = threading.Event()
    feeder = threading.Thread(target=_feed, args=(pipeline, scene, in_flight, rotated), daemon=True)
    feeder.start()
    pipeline.start_workers(workers, -(-in_flight * SLOTS_PERCENT // 100 // workers))
    threading.Thread(target=pipeline.watch_processes, daemon=True).start()
    outcome = Outcome(scene.verdict(), 0)
    try:
        for name in NAMES:
            wait_until(lambda: pipeline.processing() >= in_flight, 120)
            _rotate_one(pipeline, name, outcome)
    finally:
        rotated.set()
        feeder.join(60)
    wait_until(lambda: scene.unfinished() == 0, 300)
    assert pipeline.command("run", "monthly/secret_rotation") in (0, 1)
    pipeline.end()
    outcome.verdict, outcome.failed = scene.verdict(), pipeline.failed_attempts()
    for place, data in [*pipeline.places(), ("server log", server_log())]:
        outcome.found += [f"{name} in {place}" for name in known_secrets.found_in(data)]
    return outcome


def _feed(
    pipeline: RotatedPipeline, scene: Scene, in_flight: int, rotated: threading.Event
) -> None:
    """Keeps jobs waiting until everything is rotated."""
    number = 0
    while not rotated.wait(0.2):
        if pipeline.waiting() < in_flight:
            number += 1
            scene.add(in_flight, f"Topic {number}")


def _rotate_one(pipeline: RotatedPipeline, name: str, outcome: Outcome) -> None:
    old, begun = pipeline.value(name), time.monotonic()
    outcome.in_flight[name] = pipeline.processing()
    _rotate(pipeline, name)
    outcome.seconds[name] = round(time.monotonic() - begun, 1)
    if name == "OPENAI_API_KEY":
        pipeline.control.remove_api_key(old)
    revoke = ["--revoke"] if name == "WORDPRESS_APP_PASSWORD" else []
    outcome.refused[name] = pipeline.command("secrets", "retire", name, *revoke) == 0
    pipeline.remember()


def _rotate(pipeline: RotatedPipeline, name: str) -> None:
    if name == "OPENAI_API_KEY":
        new = pipeline.control.make_api_key(f"sk-rotated-{secrets.token_hex(12)}")
        status = pipeline.command("secrets", "rotate", name, "--wait", "60", value=f"{new}\n")
    else:
        status = pipeline.command("secrets", "rotate", name, "--generate", "--wait", "60")
    assert status == 0, (pipeline.home / "commands.log").read_text()[-1000:]


def main() -> None:
    with server() as running, acquire(running.home) as sandbox:
        outcome = _measured(running.new_database(), running.run, sandbox, running.home)
    verdict = outcome.verdict
    samples = {"in_flight": outcome.in_flight, "seconds": outcome.seconds, "found": outcome.found}
    report("rotation: jobs in flight at least", min(outcome.in_flight.values()), "jobs", bar=f"≥ {IN_FLIGHT}", met=min(outcome.in_flight.values()) >= IN_FLIGHT, samples=samples)  # fmt: skip
    report(f"rotation: failed attempts of {verdict.jobs} jobs", outcome.failed + verdict.charged, "attempts", bar="0", met=outcome.failed + verdict.charged == 0)  # fmt: skip
    report(f"rotation: lost of {verdict.jobs} jobs", verdict.lost + verdict.unfinished, "jobs", bar="0", met=verdict.lost + verdict.unfinished == 0)  # fmt: skip
    report(f"rotation: published twice of {verdict.jobs} jobs", verdict.doubled, "jobs", bar="0", met=verdict.doubled == 0)  # fmt: skip
    report("rotation: old values refused afterwards", sum(outcome.refused.values()), "values", bar="3", met=all(outcome.refused.values()))  # fmt: skip
    report("rotation: places that hold a value", len(outcome.found), "places", bar="0", met=not outcome.found, samples=outcome.found)  # fmt: skip
    report("rotation: longest from staging to in use by all workers", max(outcome.seconds.values()), "s", samples=samples)  # fmt: skip


def _measured(
    database: Database, run_sql: Callable[[str], None], sandbox: Sandbox, home: Path
) -> Outcome:
    place = home / "rotation"
    place.mkdir()
    sandbox.control.set_fault("openai", "latency", delay_seconds=WRITING_SECONDS)
    sandbox.control.set_fault("wordpress", "latency", delay_seconds=PUBLISHING_SECONDS)
    pipeline = RotatedPipeline(
        database, "rotated_bot", run_sql, sandbox.url, sandbox.control, place
    )
    run_sql("ALTER ROLE rotated_bot SET log_statement = 'all'")
    try:
        return rotate_under_load(
            pipeline, Scene(database, sandbox, place), in_flight=IN_FLIGHT, workers=WORKERS,
            server_log=lambda: b"".join(file.read_bytes() for file in home.rglob("postgresql-*.log")),
        )  # fmt: skip
    finally:
        pipeline.end()


if __name__ == "__main__":
    main()
