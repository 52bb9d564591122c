"""Faults inside the database: locks, rights, limits of a role, tables that changed, an index that is gone."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2
from psycopg2.extras import DictCursor
from pydantic import SecretStr

from runbook_lib.database.statements import Statement, load
from runbook_lib.rehearsal.faults import Fault, Shows, Stage, failures, seen_to_work, stands_still
from runbook_lib.rehearsal.links import DATABASE, linked
from runbook_lib.rehearsal.pooler import pooler
from runbook_lib.rehearsal.roles import Role, is_refused, login_fails_with, ordinary_role
from runbook_lib.rehearsal.scene import LOOK_SECONDS, Scene

_SQL = load("rehearsal_database")
_CONSOLE, _REPORTS = "a forgotten console", "nightly reports"
# Long enough that no ordinary transaction of a worker sits so long.
_SITTING_SECONDS = 6.0
# A worker whose transaction waited in vain tries again after two seconds at most.
_COMES_BACK_SECONDS = 3.0
_MANY_JOBS, _MANY_BLOCKS = 60_000, 500


# the way in


def _stalled(fault: str) -> Stage:
    """Something between the worker and the database takes connections, and lets nothing through."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        with linked(scene, DATABASE) as links, scene.working():
            seen_to_work(scene)
            scene.add(4)
            links[DATABASE].set_fault(fault)
            try:
                yield
            finally:
                links[DATABASE].clear_fault()

    return stage


def _new_sessions_hang(scene: Scene) -> bool:
    return login_fails_with(scene.workers_url, "timeout expired")


def _with_role(strike: Callable[[Scene, Role], None], *, again: bool = False) -> Stage:
    """A worker that works as an ordinary role, to which something then happens.

    `again`: the worker's sessions are ended, so that it must log in anew.
    """

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        with ordinary_role(scene) as role:
            scene.move(database_url=SecretStr(role.url))
            with scene.working():
                seen_to_work(scene)
                strike(scene, role)
                if again:
                    scene.execute(_SQL["end_sessions_of_workers"])
                scene.add(4)
                yield

    return stage


def _for_role(name: str, **parameters: str) -> Callable[[Scene, Role], None]:
    """A statement about the role."""
    return lambda scene, role: scene.execute(_SQL[name], role=role.name, **parameters)


def _on_database(name: str) -> Callable[[Scene, Role], None]:
    return lambda scene, role: scene.execute(_SQL[name])


def _login_fails(words: str) -> Shows:
    return lambda scene: login_fails_with(scene.workers_url, words)


def _refused(name: str, sqlstate: str) -> Shows:
    """Whether the worker's login is refused a statement with a code, and nothing is published for a while."""
    return lambda scene: is_refused(scene.workers_url, _SQL[name], sqlstate) and stands_still(scene)


@contextmanager
def _full_pool(scene: Scene) -> Iterator[None]:
    """A pooler with two connections, and a program that sits in transactions on both of them."""
    with (
        tempfile.TemporaryDirectory(prefix="runbook-pooler-") as directory,
        pooler(scene.database.url, Path(directory), pool_size=2, wait_seconds=2) as url,
    ):
        scene.move(database_url=SecretStr(url))
        with scene.working(), _sessions(url, _REPORTS, 2) as sitting:
            seen_to_work(scene, seconds=60)
            scene.add(4)
            for session in sitting:
                session.cursor().execute(str(_SQL["is_there"]))
            yield


def _pool_is_full(scene: Scene) -> bool:
    """As the pooler says itself: clients wait for a connection to the server; and nothing gets done."""
    return _within_moments(lambda: _clients_waiting(scene) >= 1) and stands_still(scene)


def _clients_waiting(scene: Scene) -> int:
    console = urlunsplit(urlsplit(scene.workers_url)._replace(path="/pgbouncer"))
    try:
        connection = psycopg2.connect(console)
    except psycopg2.OperationalError:
        return 0  # there is no pooler in between
    connection.autocommit = True
    try:
        with connection.cursor(cursor_factory=DictCursor) as cursor:
            cursor.execute(str(_SQL["pools"]))
            return sum(int(pool["cl_waiting"]) for pool in cursor.fetchall())
    finally:
        connection.close()


def _within_moments(holds: Callable[[], bool]) -> bool:
    """Whether it is so at some time within seconds: who waits in vain gives up, and comes back."""
    end = time.monotonic() + _COMES_BACK_SECONDS
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(LOOK_SECONDS)
    return True


# locks


@contextmanager
def _sessions(url: str, name: str, count: int) -> Iterator[list[psycopg2.extensions.connection]]:
    opened = [psycopg2.connect(url, application_name=name) for _ in range(count)]
    try:
        yield opened
    finally:
        for each in opened:
            each.close()


def _held(statement: Statement) -> Stage:
    """A session does this in a transaction and then sits there, while a worker works."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        seen_to_work(scene)
        scene.add(8)
        with _sessions(scene.database.url, _CONSOLE, 1) as (session,):
            session.cursor().execute(str(statement))
            yield

    return stage


def _workers_wait(scene: Scene) -> bool:
    return _within_moments(
        lambda: int(scene.asked(_SQL["workers_blocked_by"], application=_CONSOLE)) >= 1
    )


@contextmanager
def _rows_held(scene: Scene) -> Iterator[None]:
    """A session locks what waits and sits there: workers find an empty queue."""
    slow = scene.control.set_fault("openai", "latency", delay_seconds=1.5)
    try:
        seen_to_work(scene)
        scene.add(10)
        with _sessions(scene.database.url, _CONSOLE, 1) as (session,):
            session.cursor().execute(str(_SQL["lock_pending_rows"]))
            scene.control.clear_faults(fault_id=slow)
            yield
    finally:
        scene.control.clear_faults(fault_id=slow)


def _queue_looks_empty(scene: Scene) -> bool:
    """Jobs wait, none can be had, and it has been so for a while."""
    sitting = scene.asked(_SQL["idle_seconds"], application=_CONSOLE) or 0
    return (
        sitting >= _SITTING_SECONDS
        and scene.counts().pending >= 3
        and scene.asked(_SQL["claimable"]) == 0
    )


@contextmanager
def _deadlocks(scene: Scene) -> Iterator[None]:
    """Two runs of a program change the jobs in hand in opposite orders, again and again."""
    scene.execute(_SQL["deadlocks_found_sooner"])
    slow = scene.control.set_fault("openai", "latency", delay_seconds=2.0)
    ended = threading.Event()
    try:
        with scene.working(concurrency=4):
            scene.add(16)
            scene.until(
                lambda: scene.counts().processing >= 4, "four jobs are in the worker's hands"
            )
            rivals = [
                threading.Thread(target=_change_in_order, args=(scene, backwards, ended), daemon=True)
                for backwards in (False, True)
            ]  # fmt: skip
            for rival in rivals:
                rival.start()
            try:
                yield
            finally:
                ended.set()
                for rival in rivals:
                    rival.join()
    finally:
        scene.control.clear_faults(fault_id=slow)


def _change_in_order(scene: Scene, backwards: bool, ended: threading.Event) -> None:
    """Changes the jobs in hand one after another in one transaction, with a little thought in between."""
    with _sessions(scene.database.url, _REPORTS, 1) as (session,):
        while not ended.wait(0.05):
            with suppress(psycopg2.Error), session.cursor() as cursor:
                cursor.execute(str(_SQL["in_hand"]))
                jobs = [job for (job,) in cursor.fetchall()]
                for job in reversed(jobs) if backwards else jobs:
                    cursor.execute(str(_SQL["touch_job"]), {"job_id": job})
                    ended.wait(0.1)
            session.rollback()


def _deadlocked(scene: Scene) -> bool:
    return int(scene.asked(_SQL["deadlocks"]) or 0) >= 3


# what the tables are


def _changed(*names: str, back: tuple[str, ...] = (), again: bool = False) -> Stage:
    """Statements on the tables, while a worker works; `back` are those that take it back."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        seen_to_work(scene)
        scene.add(12)
        for name in names:
            scene.execute(_SQL[name])
        if again:
            scene.execute(_SQL["end_sessions_of_workers"])
        try:
            yield
        finally:
            for name in back:
                scene.execute(_SQL[name])

    return stage


@contextmanager
def _slow_claims(scene: Scene) -> Iterator[None]:
    """So many jobs that a claim without its index reads them all, again and again."""
    scene.execute(_SQL["many_jobs"], count=_MANY_JOBS)
    scene.execute(_SQL["drop_claim_index"])
    scene.execute(_SQL["analyze_jobs"])
    yield


def _claims_are_slow(scene: Scene) -> bool:
    """By what the server reads for it: seconds would tell of the machine."""
    plan = scene.asked(_SQL["looks_for_jobs"])[0]["Plan"]
    return bool(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] >= _MANY_BLOCKS)


DATABASE_FAULTS: tuple[Fault, ...] = (
    Fault("db-hung", ("database-hung",), _stalled("stall"), _new_sessions_hang, own_workers=True),
    Fault("db-black-hole", ("database-hung",), _stalled("black_hole"), _new_sessions_hang, own_workers=True),
    Fault("db-password", ("database-password-wrong",), _with_role(_for_role("change_password")), _login_fails("password authentication failed"), own_workers=True),
    Fault("db-role-limit", ("database-role-or-pooler-limit",), _with_role(_for_role("limit_role")), _login_fails("too many connections for role"), own_workers=True),
    Fault("db-database-limit", ("database-role-or-pooler-limit",), _with_role(_on_database("limit_database")), _login_fails("too many connections for database"), own_workers=True),
    Fault("db-pooler-full", ("database-role-or-pooler-limit",), _full_pool, _pool_is_full, own_workers=True),
    Fault("db-table-locked", ("database-table-locked",), _held(_SQL["lock_jobs"]), _workers_wait),
    Fault("db-writes-locked", ("database-table-locked",), _held(_SQL["lock_writes"]), _workers_wait),
    Fault("db-runs-locked", ("database-table-locked",), _held(_SQL["lock_runs"]), _workers_wait),
    Fault("db-workers-locked", ("database-table-locked",), _held(_SQL["lock_workers"]), _workers_wait),
    Fault("db-open-migration", ("database-table-locked",), _held(_SQL["add_column"]), _workers_wait),
    Fault("db-index-in-transaction", ("database-table-locked",), _held(_SQL["make_index"]), _workers_wait),
    Fault("db-idle-transaction", ("database-rows-locked-by-idle-transaction",), _rows_held, _queue_looks_empty),
    Fault("db-deadlocks", ("database-deadlocks",), _deadlocks, _deadlocked, own_workers=True),
    Fault("db-grant", ("database-grant-revoked",), _with_role(_for_role("revoke", privilege="UPDATE", relation="content_jobs")), _refused("changes_job", "42501"), own_workers=True),
    Fault("db-grant-runs", ("database-grant-revoked",), _with_role(_for_role("revoke", privilege="INSERT", relation="job_runs")), _refused("adds_run", "42501"), own_workers=True),
    Fault("db-read-only", ("database-read-only",), _changed("read_only_database", back=("read_only_database_undone",), again=True), _refused("adds_run", "25006")),
    Fault("db-read-only-role", ("database-read-only",), _with_role(_for_role("read_only_role"), again=True), _refused("adds_run", "25006"), own_workers=True),
    Fault("db-column-renamed", ("database-schema-drift",), _changed("rename_column", back=("rename_column_back",)), _refused("reads_priority", "42703")),
    Fault("db-column-dropped", ("database-schema-drift",), _changed("drop_column", back=("add_column_back",)), _refused("reads_publish_seconds", "42703")),
    Fault("db-table-renamed", ("database-schema-drift",), _changed("rename_table", back=("rename_table_back",)), _refused("reads_articles", "42P01")),
    Fault("db-column-demanded", ("database-schema-drift",), _changed("demand_column", back=("demand_column_undone",)), _refused("adds_run", "23502")),
    Fault("db-status-rule", ("database-schema-drift",), _changed("drop_status_rule", "other_status_rule", back=("drop_status_rule", "status_rule_back")), _refused("claims_job", "23514")),
    Fault("db-status-rule-added", ("database-schema-drift",), _changed("add_status_rule", back=("added_status_rule_undone",)), _refused("claims_job", "23514")),
    Fault("db-title-rule-added", ("database-schema-drift",), _changed("add_title_rule", back=("title_rule_undone",)), failures(4)),
    Fault("db-index", ("database-index-missing",), _slow_claims, _claims_are_slow),
)  # fmt: skip
