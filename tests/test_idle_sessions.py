"""The change `sessions.end_idle`: exactly the idle sessions of one program that were shown, and none that works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest
from roles import MakeRole, name_of

from runbook_lib import changes
from runbook_lib.changes.kinds import kind_named
from runbook_lib.database import Database
from runbook_lib.errors import PlanRefused, UsageError
from runbook_lib.maintenance import sessions

LEAKING = "reports"
Session = psycopg2.extensions.connection
Open = Callable[..., Session]


@pytest.fixture
def open_session(database: Database) -> Iterator[Open]:
    """Opens a session of a program; by default one that has answered a question and sits idle."""
    with ExitStack() as stack:

        def opened(application: str = LEAKING, url: str | None = None) -> Session:
            session = psycopg2.connect(url or database.url, application_name=application)
            stack.callback(session.close)
            session.autocommit = True
            ask(session)
            return session

        yield opened


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is idle counts at once: nobody waits for a minute in a test."""
    monkeypatch.setattr(sessions, "LEAST_IDLE_SECONDS", 0)


def ask(session: Session, statement: str = "SELECT 1") -> None:
    with session.cursor() as cursor:
        cursor.execute(statement)


def lives(session: Session) -> bool:
    try:
        ask(session)
    except psycopg2.Error:
        return False
    return True


def plan(database: Database, **given: Any) -> Any:
    time.sleep(
        0.02
    )  # the clocks of this process and of the server are the same one, read one after the other
    return changes.plan(database, "sessions.end_idle", {"application": LEAKING, "idle_seconds": 0, **given}, actor="ana")  # fmt: skip


def apply(database: Database, planned: Any) -> Any:
    return changes.apply(database, planned.change_id, actor="ana", dry_run=False)


def test_the_idle_sessions_of_one_program_are_shown_and_ended_and_nobody_elses(
    database: Database, open_session: Open
) -> None:
    idle, other = [open_session() for _ in range(3)], open_session("the site's pool")
    in_transaction, at_work = open_session(), open_session()
    ask(in_transaction, "BEGIN")
    planned = plan(database)
    # What works, or is in the middle of something, is not among them.
    assert planned.row_count == 4
    ask(at_work)
    with pytest.raises(PlanRefused, match="has changed since"):
        apply(database, planned)
    assert all(lives(each) for each in [*idle, other, in_transaction, at_work])
    ask(at_work, "BEGIN")
    planned = plan(database)
    assert {row["application"] for row in planned.sample} == {LEAKING}
    result = apply(database, planned)
    assert (result.changed, result.undo) == (3, None)
    assert [lives(each) for each in idle] == [False] * 3
    assert all(lives(each) for each in (other, in_transaction, at_work))
    with pytest.raises(PlanRefused, match="applied already"):
        apply(database, planned)


def test_a_session_that_is_used_between_the_last_look_and_its_turn_is_passed_over(
    database: Database, open_session: Open
) -> None:
    session = open_session()
    time.sleep(0.02)
    kind = sessions.EndIdleSessions()
    parameters = kind.checked({"application": LEAKING, "idle_seconds": 0})
    with database.transaction() as transaction:
        seen = kind.preview(transaction, parameters, 10).rows
        ask(session)
        (row,) = kind.apply(transaction, seen, parameters, "ana")
    assert not row.changed
    assert lives(session)


def test_only_those_of_a_role_and_only_those_that_may_be_ended(
    database: Database, make_role: MakeRole, open_session: Open
) -> None:
    mine, others = make_role(), make_role()
    open_session(url=mine.url), open_session(url=others.url)
    assert plan(database, role=name_of(mine)).row_count == 1
    assert plan(database).row_count == 2
    # A role that may read what others do, and may not end it.
    with database.transaction() as transaction:
        transaction.run(f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {name_of(mine)}")  # fmt: skip
        transaction.run(f"GRANT pg_monitor TO {name_of(mine)}")
    assert plan(mine, role=name_of(mine)).row_count == 1
    with pytest.raises(PlanRefused, match=f"may not end sessions of {name_of(others)}"):
        plan(mine, role=name_of(others))
    with database.transaction() as transaction:
        transaction.run(f"GRANT pg_signal_backend TO {name_of(mine)}")
    assert plan(mine, role=name_of(others)).row_count == 1


def test_sessions_that_may_not_be_looked_into_are_not_called_none(
    database: Database, make_role: MakeRole, open_session: Open
) -> None:
    blind = make_role("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}")
    open_session()
    with pytest.raises(PlanRefused, match=f"may not look into 1 sessions of {LEAKING}"):
        plan(blind)


def test_the_limit_holds(database: Database, open_session: Open) -> None:
    for _ in range(3):
        open_session()
    time.sleep(0.02)
    given = {"application": LEAKING, "idle_seconds": 0}
    planned = changes.plan(database, "sessions.end_idle", given, actor="ana", row_limit=2)
    with pytest.raises(PlanRefused, match="would touch 3 rows; the limit is 2"):
        apply(database, planned)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "No program is named"),
        ({"application": " "}, "No program is named"),
        ({"application": "runbook-worker"}, "runbook workers drain"),
        ({"application": "Runbook console"}, "needs the sessions"),
        ({"application": LEAKING, "idle_seconds": "soon"}, "whole number"),
        ({"application": LEAKING, "idle_seconds": -1}, "in use"),
    ],
)
def test_what_is_no_program_to_be_ended_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        kind_named("sessions.end_idle").checked(given)
