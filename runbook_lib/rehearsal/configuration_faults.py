"""Faults of configuration and of those who add jobs: too much at once, a worker that was left behind, silence."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import SecretStr

from runbook_lib.database.statements import load
from runbook_lib.rehearsal import past, programs
from runbook_lib.rehearsal.faults import Fault, failed_as
from runbook_lib.rehearsal.scene import Scene
from runbook_lib.settings import PROJECT_DIRECTORY

_SQL = load("rehearsal_processes")
BEGIN_SECONDS = 90.0
USUAL_CONCURRENCY, FAR_TOO_MANY = 4, (70, 120)
# What the account is good for at a time; more than a usual worker asks for.
ALLOWED_REQUESTS, ANSWER_SECONDS = (8, 16), 1.0
FEWEST_REFUSED, FEWEST_FAILED = 10, 5
# An earlier release that does not know how jobs look by now, and says so as programs do.
_OLDER_RELEASE = """

def _write_as_before(self, attempt):
    raise KeyError("tone_of_voice")


Process._write = _write_as_before
"""
OLDER_VERSION = "0.0.9"


@contextmanager
def too_many_at_once(scene: Scene) -> Iterator[None]:
    """A worker whose concurrency was set to about 100, where the account takes a dozen requests at a time."""
    chance = scene.chance("concurrency")
    limit = scene.control.set_fault(
        "openai", "rate_limit", retry_after=1, above=chance.randint(*ALLOWED_REQUESTS)
    )
    slow = scene.control.set_fault("openai", "latency", delay_seconds=ANSWER_SECONDS, path="chat")
    try:
        with programs.worker(scene, USUAL_CONCURRENCY) as before:
            scene.add(USUAL_CONCURRENCY)
            scene.until(
                lambda: scene.completed() >= USUAL_CONCURRENCY, "all goes well with four", BEGIN_SECONDS
            )  # fmt: skip
            programs.stop_in_order(before)
        far_too_many = chance.randint(*FAR_TOO_MANY)
        scene.add(2 * far_too_many)
        with programs.worker(scene, far_too_many):
            yield
    finally:
        for number in (limit, slow):
            scene.control.clear_faults(fault_id=number)


@contextmanager
def worker_with_the_old_key(scene: Scene) -> Iterator[None]:
    """The key was rotated, and one of two workers still has the old one, which OpenAI takes no longer."""
    old, new = (scene.control.make_api_key(f"sk-lab-{secrets.token_hex(12)}") for _ in range(2))
    scene.move(openai_api_key=SecretStr(new))
    with (
        programs.worker(scene, environment={"OPENAI_API_KEY": old}) as left_behind,
        programs.worker(scene) as restarted,
    ):
        programs.wait_until_registered(scene, left_behind, restarted)
        scene.control.remove_api_key(old)
        _until(scene, lambda: _attempts(scene, left_behind, "error") >= 1, "it is refused")
        yield


@contextmanager
def worker_of_an_older_release(scene: Scene) -> Iterator[None]:
    """One of two workers was not restarted after the release, and fails at jobs as they look now."""
    with TemporaryDirectory(prefix="runbook-release-") as name:
        directory = Path(name)
        _lay_out_older_release(directory)
        with (
            programs.worker(scene, directory=directory) as left_behind,
            programs.worker(scene) as restarted,
        ):
            programs.wait_until_registered(scene, left_behind, restarted)
            _until(
                scene,
                lambda: (
                    _attempts(scene, left_behind, "error") >= FEWEST_FAILED
                    and _attempts(scene, restarted, "completed") >= FEWEST_FAILED
                ),
                "the one fails while the other works",
            )
            yield


def _lay_out_older_release(directory: Path) -> None:
    shutil.copy2(PROJECT_DIRECTORY / "worker.py", directory)
    package = directory / "runbook_lib"
    shutil.copytree(PROJECT_DIRECTORY / "runbook_lib", package)
    for file, old, new in (
        ("__init__.py", '__version__ = "', f'__version__ = "{OLDER_VERSION}"  # before "'),
        ("pipeline/process.py", None, _OLDER_RELEASE),
    ):
        text = (package / file).read_text("utf-8")
        text = text + new if old is None else text.replace(old, new, 1)
        (package / file).write_text(text, "utf-8")


def _until(scene: Scene, holds: Callable[[], bool], what: str) -> None:
    """While jobs come in."""

    def look() -> bool:
        if scene.counts().pending < 2 * USUAL_CONCURRENCY:
            scene.add(USUAL_CONCURRENCY)
        return holds()

    scene.until(look, what, BEGIN_SECONDS)


def _attempts(scene: Scene, worker: subprocess.Popen[bytes], status: str) -> int:
    """How many attempts of a worker ended so."""
    return int(scene.ask(_SQL["ended_as"], pid=worker.pid, status=status))


@contextmanager
def stopped_producer(scene: Scene) -> Iterator[None]:
    """Weeks in which jobs came each hour; then none, and no holiday explains it. A worker waits."""
    chance = scene.chance("producer")
    past.weeks_of_work(scene, jobs_an_hour=chance.randint(7, 12), silent_hours=chance.uniform(5, 8))
    yield


# The ordinary past of a scene ends a minute before it.
SILENT_SECONDS = 3600.0


def nothing_came(scene: Scene) -> bool:
    """No job is there that is not done, and the last one was done hours ago."""
    counts = scene.counts()
    silent_seconds = scene.value("seconds_since_completed")
    return bool(counts.pending + counts.processing == 0 and silent_seconds >= SILENT_SECONDS)


CONFIGURATION_FAULTS: tuple[Fault, ...] = (
    Fault("hundred-at-once", ("concurrency-too-high",), too_many_at_once, failed_as("openai_rate_limited", FEWEST_REFUSED), own_workers=True),
    Fault("old-key", ("one-worker-outdated",), worker_with_the_old_key, failed_as("openai_key_invalid"), own_workers=True),
    Fault("old-release", ("one-worker-outdated",), worker_of_an_older_release, failed_as("unexpected_error", FEWEST_FAILED), own_workers=True),
    Fault("producer-stopped", ("producer-stopped",), stopped_producer, nothing_came),
)  # fmt: skip
