"""Faults of the database's server as a whole: gone, hung, crashing, out of connections, out of room.

Each has a server of its own.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg2
from pydantic import SecretStr

from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone
from runbook_lib.rehearsal.clock import SettableClock
from runbook_lib.rehearsal.faults import Fault, Stage, seen_to_work, stands_still
from runbook_lib.rehearsal.roles import is_refused, login_fails_with, ordinary_role
from runbook_lib.rehearsal.scene import Scene
from runbook_lib.rehearsal.server import SceneServer

_SQL = load("rehearsal_database")
_SMALL_DISK = "16m"
_CRASH_SECONDS = 2.5
# More than a server of a scene has connections.
_MANY_SESSIONS = 200
_HELD_SECONDS, _FINISHED_JOBS, _CHURNS = 3 * 3600, 3_000, 10


def _server(scene: Scene) -> SceneServer:
    if scene.server is None:
        raise CouldNotBeDone("This fault needs a server of its own, and the scene has none.")
    return scene.server


def _struck(strike: Callable[[SceneServer], None], repair: Callable[[SceneServer], None]) -> Stage:
    """Something happens to the server while a worker works."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        server = _server(scene)
        seen_to_work(scene)
        scene.add(4)
        strike(server)
        try:
            yield
        finally:
            repair(server)

    return stage


def _nobody_listens(scene: Scene) -> bool:
    return not _server(scene).listens()


def _connects_and_hangs(scene: Scene) -> bool:
    server = _server(scene)
    return server.listens() and login_fails_with(server.url, "timeout expired")


def _is_a_standby(scene: Scene) -> bool:
    return is_refused(_server(scene).url, _SQL["adds_run"], "25006")


@contextmanager
def _crashing(scene: Scene) -> Iterator[None]:
    """A program's sessions are killed again and again, and each time the server recovers."""
    server, ended = _server(scene), threading.Event()
    seen_to_work(scene)

    def crash_until_ended() -> None:
        while not ended.wait(_CRASH_SECONDS):
            server.crash()

    culprit = threading.Thread(target=crash_until_ended, daemon=True)
    scene.add(4)
    culprit.start()
    try:
        yield
    finally:
        ended.set()
        culprit.join()
        scene.until(lambda: not login_fails_with(server.url, ""), "the server has recovered", 30)


def _crashed_twice(scene: Scene) -> bool:
    return _server(scene).logged("was terminated by signal 9") >= 2


def _exhausted(*, as_the_worker: bool) -> Stage:
    """A program that opens sessions and never closes one, until nobody but superusers gets in.

    Whoever looks has the worker's role, or one that still gets in.
    """

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        with ordinary_role(scene) as role, ordinary_role(scene) as leaking, ExitStack() as sessions:
            of_the_role = {"database_url": SecretStr(role.url)}
            scene.settings = scene.settings.model_copy(update=of_the_role)
            if as_the_worker:
                scene.looking = scene.looking.model_copy(update=of_the_role)
            sessions.enter_context(scene.working())
            seen_to_work(scene)
            scene.add(4)
            with suppress(psycopg2.OperationalError):
                for _ in range(_MANY_SESSIONS):
                    session = psycopg2.connect(leaking.url, application_name="reports")
                    sessions.callback(session.close)
            yield

    return stage


def _no_slot_left(scene: Scene) -> bool:
    return login_fails_with(scene.workers_url, "remaining connection slots are reserved")


@contextmanager
def _full_disk(scene: Scene) -> Iterator[None]:
    """The pipeline's tables are on a small disk, which another program's file fills."""
    server = _server(scene)
    directory = server.home / "small-disk"
    server.at_end.enter_context(_mounted(directory, _SMALL_DISK))
    (directory / "tables").mkdir(mode=0o700)
    server.give(directory / "tables")
    server.outside_transactions(_SQL["make_tablespace"], directory=str(directory / "tables"))
    with scene.working():
        for move in ("move_tables", "move_indexes"):
            scene.execute(_SQL[move])
        seen_to_work(scene)
        scene.add(40)
        other = directory / "other-program.log"
        try:
            _fill(other)
            yield
        finally:
            other.unlink(missing_ok=True)


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as open_file, suppress(OSError):
        for size in (65_536, 1_024):
            with suppress(OSError):
                while True:
                    if open_file.write(b"x" * size) < size:
                        break


@contextmanager
def _mounted(directory: Path, size: str) -> Iterator[None]:
    """A disk in memory of so many bytes. Raises `CouldNotBeDone` where none can be mounted."""
    directory.mkdir()
    answer = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(directory)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if answer.returncode or os.geteuid() != 0:
        raise CouldNotBeDone(f"No small disk can be mounted here: {answer.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], capture_output=True, check=False)


def _no_room(scene: Scene) -> bool:
    """Whether rows that need new pages are refused, and the worker gets nothing done either."""
    return is_refused(_server(scene).url, _SQL["needs_room"], "53100") and stands_still(scene)


def _bloated(hold: Callable[[psycopg2.extensions.connection], None]) -> Stage:
    """Hours ago a transaction began that never ended, and since then every change left a dead row.

    The server goes by a clock of its own: it is hours ago while the transaction begins, and right from then on.
    """

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        server = _server(scene)
        hands = SettableClock(server.home / "clock")
        hands.set_off_by(-_HELD_SECONDS)
        server.restart({"autovacuum": "off"}, hands.environment)
        holder = psycopg2.connect(scene.database.url, application_name="nightly export")
        try:
            hold(holder)
            scene.execute(_SQL["finished_jobs"], count=_FINISHED_JOBS)
            for _ in range(_CHURNS):
                scene.execute(_SQL["churn"])
            hands.set_off_by(0)
            scene.until(_clock_is_right_again(scene), "the server's clock is right again")
            with scene.working():
                seen_to_work(scene)
                scene.add(6)
                yield
        finally:
            holder.close()

    return stage


def _clock_is_right_again(scene: Scene) -> Callable[[], bool]:
    return lambda: abs(scene.value("now").timestamp() - time.time()) < 60


def _sit_in_a_transaction(holder: psycopg2.extensions.connection) -> None:
    holder.set_session(isolation_level="REPEATABLE READ")
    holder.cursor().execute(str(_SQL["reads_priority"]))


def _prepare_and_forget(holder: psycopg2.extensions.connection) -> None:
    holder.autocommit = True
    for name in ("begin", "takes_an_id", "prepare"):
        holder.cursor().execute(str(_SQL[name]))


def _dead_rows_stay(scene: Scene) -> bool:
    """Vacuum, which would remove them, is tried: they are there after it."""
    _server(scene).outside_transactions(_SQL["vacuum_jobs"])
    return int(scene.asked(_SQL["dead_rows"])) >= _FINISHED_JOBS * (_CHURNS - 1)


SERVER_FAULTS: tuple[Fault, ...] = (
    Fault("db-down", ("database-down",), _struck(SceneServer.stop, SceneServer.start), _nobody_listens, needs_own_server=True),
    Fault("db-killed", ("database-down",), _struck(SceneServer.kill, SceneServer.start), _nobody_listens, needs_own_server=True),
    Fault("db-frozen", ("database-hung",), _struck(SceneServer.freeze, SceneServer.thaw), _connects_and_hangs, needs_own_server=True),
    Fault("db-crash-loop", ("database-crash-recovery-loop",), _crashing, _crashed_twice, needs_own_server=True),
    Fault("db-standby", ("database-read-only",), _struck(SceneServer.become_standby, SceneServer.become_primary), _is_a_standby, needs_own_server=True),
    Fault("db-connections-gone", ("database-connections-exhausted",), _exhausted(as_the_worker=True), _no_slot_left, own_workers=True, needs_own_server=True),
    Fault("db-connections-leaked", ("database-connections-exhausted",), _exhausted(as_the_worker=False), _no_slot_left, own_workers=True, needs_own_server=True),
    Fault("db-old-transaction", ("database-statistics-stale-or-bloated",), _bloated(_sit_in_a_transaction), _dead_rows_stay, own_workers=True, needs_own_server=True),
    Fault("db-prepared-forgotten", ("database-statistics-stale-or-bloated",), _bloated(_prepare_and_forget), _dead_rows_stay, own_workers=True, needs_own_server=True),
    Fault("db-disk-full", ("database-disk-full",), _full_disk, _no_room, own_workers=True, needs_own_server=True),
)  # fmt: skip
