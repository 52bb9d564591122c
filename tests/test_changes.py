"""Planned changes: bound to what was seen, applied once, recorded whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg2
import pytest

from runbook_lib import changes
from runbook_lib.changes import ChangedRow, Preview, SeenRow, StepwiseKind, TransactionalKind
from runbook_lib.database import Database, Transaction
from runbook_lib.errors import CouldNotBeDone, NotFoundError, PlanRefused, UsageError

SELECT_JOBS = """
    SELECT job_id::text, topic, priority, created_at
    FROM content_jobs
    WHERE category = %(category)s
    ORDER BY job_id
    LIMIT %(row_count)s
"""


def preview_jobs(transaction: Transaction, category: str, row_count: int) -> Preview:
    rows = transaction.rows(SELECT_JOBS, category=category, row_count=row_count)
    count = transaction.value(
        "SELECT count(*) FROM content_jobs WHERE category = %(category)s", category=category
    )
    seen = [
        SeenRow(row.job_id, {"priority": row.priority}, {"topic": row.topic}, row.created_at)
        for row in rows
    ]
    return Preview(seen, count)


class Hurry(TransactionalKind):
    """Sets the priority of a category's jobs to 1."""

    name = "test.hurry"
    summary = "Hurries the jobs of a category."
    parameters = {"category": "which"}  # noqa: RUF012
    inverse = "test.unhurry"
    lock_timeout_seconds = 0.2

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        if "category" not in given:
            raise UsageError("test.hurry needs a category.")
        return dict(given)

    def preview(self, transaction: Transaction, parameters: Any, row_count: int) -> Preview:
        return preview_jobs(transaction, parameters["category"], row_count)

    def lock(self, transaction: Transaction, rows: Sequence[SeenRow]) -> None:
        transaction.rows(
            "SELECT job_id FROM content_jobs WHERE job_id = ANY (%(keys)s::uuid[]) FOR UPDATE",
            keys=[row.key for row in rows],
        )

    def apply(
        self, transaction: Transaction, rows: Sequence[SeenRow], parameters: Any, actor: str
    ) -> list[ChangedRow]:
        transaction.run(
            "UPDATE content_jobs SET priority = 1 WHERE job_id = ANY (%(keys)s::uuid[])",
            keys=[row.key for row in rows],
        )
        if parameters["category"] == "explosive":
            raise CouldNotBeDone("it exploded with sk-proj-abcdefgh12345678")
        return [ChangedRow(row.key, before=row.seen, after={"priority": 1}) for row in rows]


class PatientHurry(Hurry):
    """As Hurry, and waits long for rows that somebody holds."""

    name = "test.patient"
    lock_timeout_seconds = 20


class Unhurry(Hurry):
    """Gives the jobs of a change their priority back."""

    name = "test.unhurry"
    parameters = {"change": "the change to take back"}  # noqa: RUF012
    inverse = None

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return dict(given)

    def preview(self, transaction: Transaction, parameters: Any, row_count: int) -> Preview:
        rows = changes.rows_changed(transaction, parameters["change"])
        return Preview([SeenRow(row.key, row.before) for row in rows], len(rows))

    def apply(
        self, transaction: Transaction, rows: Sequence[SeenRow], parameters: Any, actor: str
    ) -> list[ChangedRow]:
        for row in rows:
            transaction.run(
                "UPDATE content_jobs SET priority = %(priority)s WHERE job_id = %(key)s::uuid",
                key=row.key,
                **row.seen,
            )
        return [ChangedRow(row.key, after=row.seen) for row in rows]


class Append(StepwiseKind):
    """Appends a line a row to a file: an effect outside the database."""

    name = "test.append"
    summary = "Appends lines to a file."
    parameters = {"category": "which", "file": "where", "fail": "topics that fail"}  # noqa: RUF012
    row_deadline_seconds = 5

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {"fail": [], **given}

    def preview(self, transaction: Transaction, parameters: Any, row_count: int) -> Preview:
        return preview_jobs(transaction, parameters["category"], row_count)

    @contextmanager
    def applier(self, database: Database, parameters: Any, actor: str) -> Iterator[Any]:
        with open(parameters["file"], "a") as file:

            def append(row: SeenRow) -> ChangedRow:
                if row.seen["priority"] in parameters["fail"]:
                    raise CouldNotBeDone(f"priority {row.seen['priority']} does not fit")
                if row.seen["priority"] == -9:
                    os.kill(os.getpid(), signal.SIGKILL)
                file.write(f"{row.seen['priority']}\n")
                file.flush()
                return ChangedRow(row.key, before=row.seen, after={"line": row.seen["priority"]})

            yield append


for kind in (Hurry(), PatientHurry(), Unhurry(), Append()):
    changes.register(kind)


def add(database: Database, *priorities: int, category: str = "tea") -> None:
    with database.transaction() as transaction:
        for priority in priorities:
            transaction.run(
                "INSERT INTO content_jobs (topic, category, priority) VALUES ('Green tea', %(category)s, %(priority)s)",
                category=category,
                priority=priority,
            )


def priorities(database: Database) -> list[int]:
    with database.transaction() as transaction:
        return [
            row.priority
            for row in transaction.rows("SELECT priority FROM content_jobs ORDER BY job_id")
        ]


def actions(database: Database) -> list[Any]:
    with database.transaction() as transaction:
        return transaction.rows("SELECT * FROM admin_actions ORDER BY acted_at, action_id")


def test_a_plan_shows_count_ends_sample_and_limit_and_changes_nothing(database: Database) -> None:
    add(database, *range(10, 30))
    plan = changes.plan(database, "test.hurry", {"category": "tea"}, actor="ana")
    assert (plan.row_count, plan.row_limit, plan.status, plan.planned_by) == (
        20,
        10_000,
        "planned",
        "ana",
    )
    assert plan.oldest is not None
    assert [row["priority"] for row in plan.sample] == [10, 11, 12, 13, 14, 25, 26, 27, 28, 29]
    assert plan.sample[0]["topic"] == "Green tea"
    assert priorities(database) == list(range(10, 30))
    assert [each.change_id for each in changes.list_changes(database)] == [plan.change_id]


def test_apply_is_dry_unless_told_otherwise(database: Database) -> None:
    add(database, 10, 20)
    plan = changes.plan(database, "test.hurry", {"category": "tea"}, actor="ana")
    result = changes.apply(database, plan.change_id, actor="ana")
    assert (result.dry_run, result.status, result.changed, result.left) == (True, "planned", 0, 2)
    assert priorities(database) == [10, 20]
    assert actions(database) == []


def test_a_change_is_applied_once_and_recorded_with_who_what_before_and_after(
    database: Database,
) -> None:
    add(database, 10, 20)
    plan = changes.plan(database, "test.hurry", {"category": "tea"}, actor="ana")
    result = changes.apply(
        database, plan.change_id, actor="bo", dry_run=False, reason="token=sk-proj-abcdefgh1234"
    )
    assert (result.status, result.changed, result.left) == ("applied", 2, 0)
    assert priorities(database) == [1, 1]
    with pytest.raises(PlanRefused, match="applied already, by bo"):
        changes.apply(database, plan.change_id, actor="cy", dry_run=False)
    with pytest.raises(PlanRefused, match="applied already"):
        changes.apply(database, plan.change_id, actor="cy")
    done, refused = actions(database)
    assert (done.actor, done.action, done.outcome, done.after["changed"]) == (
        "bo",
        "test.hurry",
        "done",
        2,
    )
    assert [row["priority"] for row in done.before["sample"]] == [10, 20]
    assert "abcdefgh" not in done.reason
    assert (refused.actor, refused.outcome) == ("cy", "refused")
    assert "applied already" in refused.error


def test_a_change_can_be_taken_back(database: Database) -> None:
    add(database, 10, 20)
    plan = changes.plan(database, "test.hurry", {"category": "tea"}, actor="ana")
    with pytest.raises(UsageError, match="is planned"):
        changes.plan_undo(database, plan.change_id, actor="ana")
    changes.apply(database, plan.change_id, actor="ana", dry_run=False)
    undo = changes.plan_undo(database, plan.change_id[:13], actor="ana")
    result = changes.apply(database, undo.change_id, actor="ana", dry_run=False)
    assert priorities(database) == [10, 20]
    assert result.undo is None
    with pytest.raises(UsageError, match="cannot be undone"):
        changes.plan_undo(database, undo.change_id, actor="ana")


@pytest.mark.parametrize(
    "drift",
    [
        "UPDATE content_jobs SET priority = 11",
        "DELETE FROM content_jobs",
        "INSERT INTO content_jobs (topic, category) VALUES ('Black tea', 'tea')",
    ],
)
def test_a_plan_is_refused_when_what_it_saw_has_changed(database: Database, drift: str) -> None:
    add(database, 10)
    plan = changes.plan(database, "test.hurry", {"category": "tea"}, actor="ana")
    with database.transaction() as transaction:
        transaction.run(drift)
    before = priorities(database)
    for dry_run in (True, False):
        with pytest.raises(PlanRefused, match="has changed since"):
            changes.apply(database, plan.change_id, actor="ana", dry_run=dry_run)
    assert priorities(database) == before
    assert [row.outcome for row in actions(database)] == ["refused"]


def test_a_plan_does_not_drift_by_what_it_does_not_depend_on(database: Database) -> None:
    add(database, 10)
    plan = changes.plan(database, "test.hurry", {"category": "tea"}, actor="ana")
    with database.transaction() as transaction:
        transaction.run("UPDATE content_jobs SET topic = 'White tea'")
    assert changes.apply(database, plan.change_id, actor="ana", dry_run=False).changed == 1


def test_the_order_in_which_rows_are_read_is_no_drift() -> None:
    rows = [SeenRow("a", {"x": 1}), SeenRow("b", {"x": 2})]
    assert Preview(rows, 2).digest == Preview(rows[::-1], 2).digest
    assert Preview(rows, 2).digest != Preview([rows[0]], 1).digest


def test_a_plan_beyond_its_limit_is_kept_and_refused(database: Database) -> None:
    add(database, 10, 20, 30)
    plan = changes.plan(database, "test.hurry", {"category": "tea"}, actor="ana", row_limit=2)
    assert plan.exceeds_limit
    assert plan.row_count == 3
    with pytest.raises(PlanRefused, match="would touch 3 rows; the limit is 2"):
        changes.apply(database, plan.change_id, actor="ana", dry_run=False)
    assert priorities(database) == [10, 20, 30]


def test_rows_that_somebody_holds_are_waited_for_only_briefly(database: Database) -> None:
    add(database, 10)
    plan = changes.plan(database, "test.hurry", {"category": "tea"}, actor="ana")
    with database.transaction() as other:
        other.rows("SELECT * FROM content_jobs FOR UPDATE")
        with pytest.raises(PlanRefused, match=r"not free within 0\.2 s"):
            changes.apply(database, plan.change_id, actor="ana", dry_run=False)
    assert changes.apply(database, plan.change_id, actor="ana", dry_run=False).changed == 1


def test_what_drifts_while_apply_waits_for_its_rows_is_seen(database: Database) -> None:
    add(database, 10)
    plan = changes.plan(database, "test.patient", {"category": "tea"}, actor="ana")
    refusals: list[str] = []

    def apply() -> None:
        try:
            changes.apply(database, plan.change_id, actor="ana", dry_run=False)
        except PlanRefused as refused:
            refusals.append(str(refused))

    with database.transaction() as other:
        other.run("UPDATE content_jobs SET priority = 11")
        thread = threading.Thread(target=apply)
        thread.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while not other.value(waiting + " AND datname = current_database()"):
            other.run("SELECT pg_sleep(0.01); SELECT pg_stat_clear_snapshot()")
    thread.join()
    assert "has changed since" in refusals[0]
    assert priorities(database) == [11]


def test_a_change_that_is_being_applied_is_refused(database: Database) -> None:
    add(database, 10)
    plan = changes.plan(database, "test.hurry", {"category": "tea"}, actor="ana")
    with database.transaction() as other:
        other.rows("SELECT * FROM changes FOR UPDATE")
        with pytest.raises(PlanRefused, match="being applied right now"):
            changes.apply(database, plan.change_id, actor="ana", dry_run=False)


def test_two_at_once_apply_a_change_once(database: Database) -> None:
    add(database, *range(50))
    plan = changes.plan(database, "test.hurry", {"category": "tea"}, actor="ana")
    results: list[str] = []

    def apply() -> None:
        try:
            changes.apply(database, plan.change_id, actor="ana", dry_run=False)
            results.append("applied")
        except PlanRefused:
            results.append("refused")

    threads = [threading.Thread(target=apply) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["applied", "refused", "refused", "refused"]


def test_a_change_that_fails_leaves_no_effect_and_a_masked_record(database: Database) -> None:
    add(database, 10, category="explosive")
    plan = changes.plan(database, "test.hurry", {"category": "explosive"}, actor="ana")
    with pytest.raises(CouldNotBeDone, match="exploded"):
        changes.apply(database, plan.change_id, actor="ana", dry_run=False)
    assert priorities(database) == [10]
    assert changes.find(database, plan.change_id).status == "planned"
    (action,) = actions(database)
    assert action.outcome == "failed"
    assert "exploded" in action.error
    assert "abcdefgh" not in action.error


def test_wrong_kinds_parameters_and_ids_are_refused_in_words(database: Database) -> None:
    with pytest.raises(NotFoundError, match=r"no kind of change 'test\.fly'"):
        changes.plan(database, "test.fly", {}, actor="ana")
    with pytest.raises(UsageError, match="has no parameter colour"):
        changes.plan(database, "test.hurry", {"colour": "red"}, actor="ana")
    with pytest.raises(UsageError, match="needs a category"):
        changes.plan(database, "test.hurry", {}, actor="ana")
    with pytest.raises(UsageError, match="at least 1"):
        changes.plan(database, "test.hurry", {"category": "tea"}, actor="ana", row_limit=0)
    for unknown in ("1234", "%", "x'; --", ""):
        with pytest.raises(NotFoundError, match="no change"):
            changes.find(database, unknown)


def test_a_failed_row_is_recorded_and_the_others_are_still_done(
    database: Database, tmp_path: Any
) -> None:
    add(database, 1, 2, 3, 4)
    file = tmp_path / "lines"
    plan = changes.plan(
        database, "test.append", {"category": "tea", "file": str(file), "fail": [2]}, actor="ana"
    )
    steps: list[tuple[int, int]] = []
    result = changes.apply(
        database,
        plan.change_id,
        actor="ana",
        dry_run=False,
        progress=lambda *done: steps.append(done),
    )
    assert (result.status, result.changed, result.failed, result.left) == ("failed", 3, 1, 0)
    assert "priority 2 does not fit" in result.failures[0]["error"]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    (action,) = actions(database)
    assert action.outcome == "failed"
    assert "1 rows failed" in action.error


def test_after_failures_in_a_row_the_rest_is_left_and_can_be_gone_on_with(
    database: Database, tmp_path: Any
) -> None:
    add(database, 1, 2, 2, 2, 5)
    file = tmp_path / "lines"
    parameters = {"category": "tea", "file": str(file), "fail": [2]}
    plan = changes.plan(database, "test.append", parameters, actor="ana")
    result = changes.apply(database, plan.change_id, actor="ana", dry_run=False)
    assert (result.changed, result.failed, result.left) == (1, 3, 1)
    with database.transaction() as transaction:
        transaction.run("UPDATE changes SET parameters = jsonb_set(parameters, '{fail}', '[]')")
    assert changes.apply(database, plan.change_id, actor="ana").left == 4
    result = changes.apply(database, plan.change_id, actor="bo", dry_run=False)
    assert (result.status, result.changed, result.failed, result.left) == ("applied", 5, 0, 0)
    assert file.read_text().split() == ["1", "2", "2", "2", "5"]


def test_after_kill_9_a_second_apply_goes_on_with_what_is_left(
    database: Database, tmp_path: Any
) -> None:
    add(database, 1, 2, -9, 4)
    file = tmp_path / "lines"
    plan = changes.plan(
        database, "test.append", {"category": "tea", "file": str(file)}, actor="ana"
    )
    program = """
        import sys
        sys.path[:0] = [sys.argv[1]]
        import test_changes
        from runbook_lib import changes
        from runbook_lib.database import Database
        database = Database(sys.stdin.read())
        changes.apply(database, sys.argv[2], actor="ana", dry_run=False)
    """
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), os.path.dirname(__file__), plan.change_id],
        input=database.url,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert file.read_text().split() == ["1", "2"]
    with pytest.raises(PlanRefused, match="being applied right now"):
        changes.apply(database, plan.change_id, actor="bo", dry_run=False)

    with database.transaction() as transaction:  # time passes without a sign of life
        transaction.run("UPDATE changes SET applying_until = now() - interval '1 second'")
        transaction.run("UPDATE admin_actions SET expected_by = now() - interval '1 second'")
        transaction.run(
            "UPDATE change_rows SET seen = '{\"priority\": 3}' WHERE seen->>'priority' = '-9'"
        )
    result = changes.apply(database, plan.change_id, actor="bo", dry_run=False)
    assert (result.status, result.changed) == ("applied", 4)
    assert file.read_text().split() == ["1", "2", "3", "4"]
    crashed, _, resumed = actions(database)
    assert (crashed.actor, crashed.outcome) == ("ana", "failed")
    assert "process ended" in crashed.error
    assert (resumed.actor, resumed.outcome) == ("bo", "done")


def test_a_pass_that_was_taken_over_stops_and_overwrites_nothing(
    database: Database, tmp_path: Any
) -> None:
    add(database, 1, 2)
    file = tmp_path / "lines"
    plan = changes.plan(
        database, "test.append", {"category": "tea", "file": str(file)}, actor="ana"
    )

    def overtake(done: int, _: int) -> None:
        if done == 1:
            with database.transaction() as transaction:
                transaction.run("UPDATE changes SET applying_until = now() - interval '1 second'")
            changes.apply(database, plan.change_id, actor="bo", dry_run=False)

    with pytest.raises(PlanRefused, match="taken over"):
        changes.apply(database, plan.change_id, actor="ana", dry_run=False, progress=overtake)
    found = changes.find(database, plan.change_id)
    assert (found.status, found.applied_by) == ("applied", "bo")


def test_an_action_is_recorded_before_it_acts_and_closed_with_its_effect(
    database: Database,
) -> None:
    with changes.admin_action(database, actor="ana", action="test", target="x") as action:
        (row,) = actions(database)
        assert (row.outcome, row.ended_at) == ("started", None)
        with database.transaction() as transaction:
            action.done(transaction, before={"a": 1}, after={"a": 2})
    (row,) = actions(database)
    assert (row.outcome, row.before, row.after) == ("done", {"a": 1}, {"a": 2})
    assert row.ended_at is not None


def test_an_action_whose_transaction_is_rolled_back_is_not_done(database: Database) -> None:
    def act() -> None:
        with (
            changes.admin_action(database, actor="ana", action="test") as action,
            database.transaction() as transaction,
        ):
            action.done(transaction, after={"a": 2})
            transaction.run("INSERT INTO content_jobs (topic) VALUES ('')")

    with pytest.raises(psycopg2.errors.CheckViolation):
        act()
    (row,) = actions(database)
    assert (row.outcome, row.after) == ("failed", None)
