"""The change `sessions.end_idle`: exactly the idle sessions of one program that were shown, and none that is used."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest
from click.testing import CliRunner
from roles import MakeRole, name_of

from runbook_lib import changes
from runbook_lib.changes import Plan
from runbook_lib.changes.kinds import kind_named
from runbook_lib.cli.changes import changes as changes_command
from runbook_lib.database import Database
from runbook_lib.errors import CouldNotBeDone, DatabaseUnreachable, PlanRefused, UsageError
from runbook_lib.maintenance import sessions
from runbook_lib.rehearsal.server import own_server

KIND = "sessions.end_idle"
LEAKING = "monthly reports"
OPERATOR = "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}"
Session = psycopg2.extensions.connection
Open = Callable[..., Session]


@pytest.fixture
def program(make_role: MakeRole) -> Database:
    """The role of the program that leaks: an ordinary one."""
    return make_role()


@pytest.fixture
def open_session(program: Database) -> Iterator[Open]:
    """Opens a session; by default one of the program that leaks, which has asked something and sits idle."""
    with ExitStack() as stack:

        def opened(application: str = LEAKING, role: Database = program) -> Session:
            session = psycopg2.connect(role.url, application_name=application)
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


def pid(session: Session) -> str:
    return str(session.info.backend_pid)


def lives(session: Session) -> bool:
    try:
        ask(session)
    except psycopg2.Error:
        return False
    return True


def plan(database: Database, *, row_limit: int | None = None, **given: Any) -> Plan:
    return changes.plan(
        database, KIND, {"application": LEAKING, "idle_seconds": 0, **given}, actor="ana", row_limit=row_limit
    )  # fmt: skip


def plan_once_idle(database: Database, *sessions: Session, **given: Any) -> Plan:
    """The plan as soon as these sessions, and no others, have been idle for long enough."""
    wanted, end, found = {pid(each) for each in sessions}, time.monotonic() + 20, None
    while time.monotonic() < end:
        try:
            found = plan(database, **given)
            if {row["key"] for row in found.sample} == wanted:
                return found
        except PlanRefused:
            pass
        time.sleep(0.05)
    raise AssertionError(f"never exactly {wanted}: {found}")


def apply(database: Database, planned: Plan, *, dry_run: bool = False) -> changes.ChangeResult:
    return changes.apply(database, planned.change_id, actor="ana", dry_run=dry_run)


def run(database: Database, statement: str) -> None:
    with database.transaction() as transaction:
        transaction.run(statement)


def recorded(database: Database, planned: Plan) -> dict[str, tuple[str, str, dict[str, Any]]]:
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows(
            "SELECT row_key, outcome, before, after FROM change_rows WHERE change_id = %(id)s::uuid",
            id=planned.change_id,
        )
    return {row.row_key: (row.outcome, row.before["application"], row.after) for row in rows}


def test_the_idle_sessions_that_were_shown_are_ended_and_no_others(
    database: Database, program: Database, open_session: Open
) -> None:
    idle = [open_session() for _ in range(3)]
    pids = [pid(each) for each in idle]
    others = [open_session("the site's pool"), open_session()]
    ask(others[1], "BEGIN")
    planned = plan_once_idle(database, *idle)
    shown = {row["key"]: row for row in planned.sample}[pids[0]]
    assert shown["role"] == name_of(program)
    assert {"client", "idle_since", "backend_start", "application"} <= shown.keys()
    later = open_session()
    assert apply(database, planned, dry_run=True).left == 3
    result = apply(database, planned)
    assert (result.status, result.changed, result.unchanged, result.undo) == ("applied", 3, 0, None)
    assert [lives(each) for each in idle] == [False] * 3
    assert all(lives(each) for each in (*others, later))
    assert recorded(database, planned) == {
        each: ("changed", LEAKING, {"ended_by": "terminate"}) for each in pids
    }
    with pytest.raises(PlanRefused, match="applied already"):
        apply(database, planned)


def test_one_that_was_used_since_is_spared_and_the_others_are_ended(
    database: Database, open_session: Open
) -> None:
    idle, used, begun, gone = (open_session() for _ in range(4))
    planned = plan_once_idle(database, idle, used, begun, gone)
    ask(used)
    ask(begun, "BEGIN")
    gone.close()
    result = apply(database, planned)
    assert (result.status, result.changed, result.unchanged) == ("applied", 1, 3)
    assert [lives(each) for each in (idle, used, begun)] == [False, True, True]
    spared = recorded(database, planned)[pid(used)]
    assert spared == ("unchanged", LEAKING, {"spared": "used or ended since"})


def test_one_that_is_used_after_the_last_look_is_spared_in_its_turn(
    database: Database, open_session: Open
) -> None:
    idle, used = open_session(), open_session()
    planned = plan_once_idle(database, idle, used)
    kind = kind_named(KIND)
    assert isinstance(kind, changes.TransactionalKind)
    with database.transaction() as transaction:
        seen = kind.preview(transaction, planned.parameters, 10).rows
        # The server keeps for a whole transaction what it said of sessions first.
        ask(used)
        done = {
            row.key: row.changed for row in kind.apply(transaction, seen, planned.parameters, "")
        }
    assert done == {pid(idle): True, pid(used): False}
    assert lives(used)


def test_nothing_is_done_when_all_were_used_since(database: Database, open_session: Open) -> None:
    session = open_session()
    planned = plan_once_idle(database, session)
    ask(session)
    with pytest.raises(PlanRefused, match=r"None of the 1 sessions is idle as it was.*Plan again"):
        apply(database, planned)
    assert lives(session)


def test_no_more_are_ended_than_asked_for_and_the_longest_idle_first(
    database: Database, open_session: Open
) -> None:
    first, second, third = (open_session() for _ in range(3))
    plan_once_idle(database, first, second, third)
    planned = plan_once_idle(database, first, second, at_most=2)
    with pytest.raises(PlanRefused, match="would touch 3 rows; the limit is 2"):
        apply(database, plan(database, row_limit=2))
    assert apply(database, planned).changed == 2
    assert [lives(each) for each in (first, second, third)] == [False, False, True]


def test_a_session_that_is_idle_for_a_reason_is_no_idle_one(
    database: Database, open_session: Open
) -> None:
    locking, listening, begun = (open_session() for _ in range(3))
    ask(locking, "SELECT pg_advisory_lock(7)")
    ask(listening, "LISTEN orders")
    ask(begun, "BEGIN")
    owner = psycopg2.connect(database.url, application_name=LEAKING)
    refusals = (
        "1 idle with a lock",
        "1 idle because it listens",
        "1 idle in transaction",
        "1 of a superuser",
    )
    end, told = time.monotonic() + 20, ""
    while time.monotonic() < end and not all(words in told for words in refusals):
        with pytest.raises(
            PlanRefused, match="No session of monthly reports is to be ended"
        ) as refused:
            plan(database)
        told = str(refused.value)
    assert all(words in told for words in refusals), told
    owner.close()


def test_one_that_was_used_a_moment_ago_is_left_alone(
    database: Database, open_session: Open
) -> None:
    open_session()
    with pytest.raises(PlanRefused, match="1 used within 60 s"):
        changes.plan(database, KIND, {"application": LEAKING}, actor="ana")


def test_a_program_without_sessions_has_none_to_end(database: Database) -> None:
    assert plan(database).row_count == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "No program is named"),
        ({"application": " "}, "No program is named"),
        ({"application": "runbook-worker"}, "runbook workers drain"),
        ({"application": "runbook"}, "is a program of the workbench"),
        ({"application": "Runbook console"}, "needs the sessions"),
        ({"application": LEAKING, "idle_seconds": "soon"}, "at least 0, not 'soon'"),
        ({"application": LEAKING, "idle_seconds": -1}, "in use"),
        ({"application": LEAKING, "at_most": 0}, "at_most is a whole number of at least 1"),
    ],
)
def test_what_may_not_be_ended_or_makes_no_sense_is_refused(
    given: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        kind_named(KIND).checked(given)


def test_who_may_not_end_them_is_told_who_may(
    database: Database, make_role: MakeRole, program: Database, open_session: Open
) -> None:
    session, operator = open_session(), make_role(OPERATOR, "GRANT pg_monitor TO {role}")
    words = rf"may not end sessions of {name_of(program)}.*pg_signal_backend"
    plan_once_idle(database, session)
    with pytest.raises(PlanRefused, match=words):
        plan(operator)
    run(database, f"GRANT pg_signal_backend TO {name_of(operator)}")
    planned = plan_once_idle(operator, session)
    run(database, f"REVOKE pg_signal_backend FROM {name_of(operator)}")
    with pytest.raises(PlanRefused, match=words):
        apply(operator, planned)
    # As if the right was taken between the last look and the act.
    kind = kind_named(KIND)
    assert isinstance(kind, changes.TransactionalKind)
    with database.transaction(read_only=True) as transaction:
        seen = kind.preview(transaction, planned.parameters, 10).rows
    with (
        operator.transaction() as transaction,
        pytest.raises(CouldNotBeDone, match=r"0 were ended before it.*pg_signal_backend"),
    ):
        kind.apply(transaction, seen, planned.parameters, "")
    run(database, f"GRANT pg_signal_backend TO {name_of(operator)}")
    assert apply(operator, planned).changed == 1


def test_sessions_that_may_not_be_looked_into_are_not_called_none(
    database: Database, make_role: MakeRole, open_session: Open
) -> None:
    open_session()
    with pytest.raises(PlanRefused, match=r"1 hidden from this role.*pg_monitor"):
        plan(make_role(OPERATOR))


def test_only_sessions_of_the_role_that_is_named(
    database: Database, make_role: MakeRole, open_session: Open
) -> None:
    other = make_role()
    one, another = open_session(), open_session(role=other)
    plan_once_idle(database, one, another)
    assert {row["key"] for row in plan(database, role=name_of(other)).sample} == {pid(another)}


def test_the_plan_says_in_words_what_follows_for_the_program(
    database: Database, open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session()
    plan_once_idle(database, session)
    monkeypatch.setenv("DATABASE_URL", database.url)
    told = CliRunner().invoke(
        changes_command, ["plan", KIND, "-p", f"application={LEAKING}", "-p", "idle_seconds=0"]
    )
    assert told.exit_code == 0, told.output
    assert "A program with a pool opens new ones" in told.output
    assert pid(session) in told.output
    # What the plan keeps of each session is in the table, not among the parameters.
    (parameters,) = [line for line in told.output.splitlines() if line.startswith("Parameters: ")]
    assert f"application = {LEAKING}" in parameters
    assert pid(session) not in parameters


@pytest.mark.long
def test_without_a_connection_left_it_is_told_how_to_get_in(tmp_path: Path) -> None:
    with own_server(tmp_path / "own") as server, ExitStack() as stack:
        database = Database(server.url)
        run(database, "CREATE ROLE ordinary LOGIN PASSWORD 'ordinary'")
        ordinary = Database(
            server.url.replace(server.url.split("@")[0], "postgresql://ordinary:ordinary")
        )
        with suppress(psycopg2.OperationalError):
            while True:
                stack.callback(psycopg2.connect(ordinary.url, application_name=LEAKING).close)
        with pytest.raises(
            DatabaseUnreachable, match=r"None is left for this role.*SIGTERM.*reserved"
        ):
            plan(ordinary)
        # A superuser still gets in, and makes room for the others.
        planned = plan(database, at_most=5)
        assert apply(database, planned).changed == 5
        ordinary.connect().close()
