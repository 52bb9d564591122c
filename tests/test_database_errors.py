"""Connection limit, deadlock and time-out are told apart, and only who holds others up is ever ended."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from foreign_pipeline import as_role

from runbook_lib import changes, propose
from runbook_lib.database import Database
from runbook_lib.errors import CouldNotBeDone, PlanRefused, UsageError
from runbook_lib.health.sources import Sources
from runbook_lib.maintenance.database_errors import KINDS, REFUSED, database_errors, kind_of
from runbook_lib.procedures.workplace import Workplace
from runbook_lib.settings import load_settings


@pytest.fixture
def sources(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    """Whoever waits for a lock is told at once, and not after five seconds."""
    policy = tmp_path / "policy.toml"
    policy.write_text("[thresholds]\nlock_wait_warning_seconds = 0\n")
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("RUNBOOK_CONFIG", str(policy))
    load_settings.cache_clear()
    return Sources(database, database)


def fail(database: Database, error: str, sqlstate: str | None = None, count: int = 1) -> None:
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO job_runs (job_id, attempt, status, error, sqlstate)"
            " SELECT gen_random_uuid(), 1, 'error', %(error)s, %(sqlstate)s FROM generate_series(1, %(count)s)",
            error=error, sqlstate=sqlstate, count=count,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("sqlstate", "text", "kind"),
    [
        ("40P01", "anything", "database_deadlock"),
        ("53300", None, "database_connections"),
        ("57014", None, "database_timeout"),
        ("55P03", None, "database_timeout"),
        ("42P01", None, "database_trouble"),
        (None, "FATAL: sorry, too many clients already", "database_connections"),
        (None, "deadlock detected", "database_deadlock"),
        (None, "canceling statement due to statement timeout", "database_timeout"),
        (None, "Incorrect API key provided", None),
        (None, None, None),
    ],
)
def test_an_attempts_error_is_told_by_its_sqlstate_first(
    sqlstate: str | None, text: str | None, kind: str | None
) -> None:
    assert kind_of(sqlstate, text) == kind


def test_nothing_wrong_is_ok_and_nobody_is_to_be_ended(sources: Sources) -> None:
    found = database_errors(sources)
    assert (found.verdict, dict(found.seen), found.blocker_pid) == ("ok", {}, None)
    assert found.kinds._repr_html_().count("not seen") == len(KINDS)
    assert len(found.refused.frame) == len(REFUSED)
    proposal = propose(Workplace(sources, {}), "sessions.end", {"pid": found.blocker_pid})
    assert "no session to end" in repr(proposal)
    assert proposal.apply(dry_run=False).outcome == "refused"


def test_what_attempts_met_is_counted_by_kind(database: Database, sources: Sources) -> None:
    fail(database, "deadlock detected", "40P01", 3)
    fail(database, "canceling statement due to statement timeout", None, 2)
    fail(database, "Insufficient quota", None, 5)
    found = database_errors(sources)
    assert found.results()["attempts"] == {"database_deadlock": 3, "database_timeout": 2}
    assert found.verdict == "warning"
    assert list(found.seen) == ["database_deadlock", "database_timeout"]
    assert found.check.next == KINDS["database_deadlock"].first
    assert len(found.attempts.frame) == 2


class Chain:
    """Somebody reads in a transaction and goes idle; an exclusive lock waits for him, a reader for that one."""

    def __init__(self, database: Database) -> None:
        self.idle = psycopg2.connect(database.url, application_name="idle one")
        self._execute(self.idle, "SELECT count(*) FROM content_jobs")
        self.waiters = [psycopg2.connect(database.url, application_name=name) for name in ("locker", "reader")]  # fmt: skip
        statements = ("LOCK TABLE content_jobs IN ACCESS EXCLUSIVE MODE", "SELECT count(*) FROM content_jobs")  # fmt: skip
        self.done: list[str] = []
        self.threads = []
        for waiter, statement in zip(self.waiters, statements, strict=True):
            thread = threading.Thread(target=self._wait, args=(waiter, statement), daemon=True)
            thread.start()
            self.threads.append(thread)
            self._until_waiting(database, waiter.info.backend_pid)

    def _wait(self, raw: psycopg2.extensions.connection, statement: str) -> None:
        self._execute(raw, statement)
        self.done.append(raw.info.parameter_status("application_name") or "")
        raw.rollback()

    @staticmethod
    def _execute(raw: psycopg2.extensions.connection, statement: str) -> None:
        with raw.cursor() as cursor:
            cursor.execute(statement)

    @staticmethod
    def _until_waiting(database: Database, pid: int) -> None:
        with database.connect() as connection:
            while True:
                with connection.transaction(read_only=True) as transaction:
                    if transaction.value(
                        "SELECT cardinality(pg_blocking_pids(%(pid)s)) > 0", pid=pid
                    ):
                        return

    def close(self) -> None:
        self.idle.close()
        for thread in self.threads:
            thread.join(30)
        for waiter in self.waiters:
            waiter.close()


@pytest.fixture
def chain(database: Database, sources: Sources) -> Iterator[Chain]:
    staged = Chain(database)
    yield staged
    staged.close()


def test_the_root_alone_is_ended_and_those_behind_it_go_on(
    database: Database, sources: Sources, chain: Chain
) -> None:
    root, locker = chain.idle.info.backend_pid, chain.waiters[0].info.backend_pid
    found = database_errors(sources)
    assert (found.blocker_pid, found.may_be_ended.verdict) == (root, "warning")
    assert next(iter(found.seen)) == "database_locked"
    assert "idle one" in found.locks._repr_html_()
    assert found.locks.frame["session"].iloc[0].startswith(f"process {root}")

    # who waits is never ended, whatever is asked for
    of_waiter = database_errors(sources, blocker_pid=locker)
    assert of_waiter.may_be_ended.verdict == "critical"
    workplace = Workplace(sources, {})
    refused = propose(workplace, "sessions.end", {"pid": locker}, guards=(of_waiter.may_be_ended,))
    assert refused.apply(dry_run=False).outcome == "refused"

    # an idle one has nothing that could be cancelled
    with pytest.raises(UsageError, match="nothing to cancel"):
        changes.plan(database, "sessions.end", {"pid": root}, actor="ana")
    proposal = propose(
        workplace, "sessions.end", {"pid": root, "how": "terminate"}, guards=(found.may_be_ended,)
    )
    assert proposal.row_count == 1
    assert proposal.apply().outcome == "dry"
    applied = proposal.apply(dry_run=False, reason="it holds others up")
    assert applied.outcome == "applied", applied
    for thread in chain.threads:
        thread.join(30)
    assert sorted(chain.done) == ["locker", "reader"]
    assert database_errors(sources).blocker_pid is None
    assert proposal.apply(dry_run=False).outcome == "refused"


def test_another_transaction_of_the_same_session_is_not_the_one_that_was_looked_at(
    database: Database,
) -> None:
    raw = psycopg2.connect(database.url)
    Chain._execute(raw, "SELECT 1")
    plan = changes.plan(database, "sessions.end", {"pid": raw.info.backend_pid, "how": "terminate"}, actor="ana")  # fmt: skip
    raw.rollback()
    Chain._execute(raw, "SELECT 2")
    with pytest.raises(PlanRefused, match="has changed since"):
        changes.apply(database, plan.change_id, actor="ana", dry_run=False)
    raw.close()


@pytest.mark.long
def test_a_role_that_may_not_end_a_session_is_told_who_may(database: Database) -> None:
    name = f"errors_{uuid.uuid4().hex[:8]}"
    with database.transaction() as transaction:
        transaction.run(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
        transaction.run(f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {name}")
        transaction.run(f"GRANT pg_monitor TO {name}")
    raw = psycopg2.connect(database.url)
    Chain._execute(raw, "SELECT 1")
    limited = Database(as_role(database, name))
    plan = changes.plan(limited, "sessions.end", {"pid": raw.info.backend_pid, "how": "terminate"}, actor="ana")  # fmt: skip
    with pytest.raises(CouldNotBeDone, match="pg_signal_backend"):
        changes.apply(limited, plan.change_id, actor="ana", dry_run=False)
    raw.close()


def test_a_connection_limit_is_told_from_a_database_that_is_away(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"errors_{uuid.uuid4().hex[:8]}"
    with database.transaction() as transaction:
        transaction.run(f"CREATE ROLE {name} LOGIN PASSWORD '{name}' CONNECTION LIMIT 1")
    only = psycopg2.connect(as_role(database, name))
    limited = Database(as_role(database, name))
    monkeypatch.setenv("DATABASE_URL", limited.url)
    found = database_errors(Sources(limited, limited))
    assert list(found.seen) == ["database_connections"]
    assert found.verdict == "critical"
    only.close()
    away = Database("postgresql://somebody:guess@127.0.0.1:1/nowhere")
    gone = database_errors(Sources(away, away))
    assert (list(gone.seen), gone.verdict) == (["database_trouble"], "critical")
    assert "guess" not in repr(gone) + gone._repr_html_() + gone.kinds._repr_html_()
    assert gone.problem
