"""Old runs leave the database only for a file that holds them, whole and unaltered, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from foreign_pipeline import as_role
from old_runs import AWKWARD, add_week

from runbook_lib import changes
from runbook_lib.database import Database
from runbook_lib.errors import CouldNotBeDone, PlanRefused, UsageError
from runbook_lib.health.rollup import refresh
from runbook_lib.health.sources import Sources
from runbook_lib.maintenance import clean_up, parquet_files, run_exports
from runbook_lib.maintenance.job_runs_review import job_runs_review
from runbook_lib.settings import load_settings

KIND = clean_up.CleanUp.name


@pytest.fixture
def weeks(database: Database) -> Database:
    """Two weeks that are old, one that holds the border of 90 days or is older, and one that is young."""
    add_week(database, 30, 60)
    add_week(database, 20, 50)
    add_week(database, 2, 40)
    return database


def value(database: Database, statement: str, **parameters: Any) -> Any:
    with database.transaction() as transaction:
        return transaction.value(statement, **parameters)


def runs(database: Database) -> int:
    return int(value(database, "SELECT count(*) FROM job_runs"))


def planned(database: Database, **given: Any) -> changes.Plan:
    return changes.plan(database, KIND, given, actor="ana")


def applied(database: Database, plan: changes.Plan) -> changes.ChangeResult:
    return changes.apply(database, plan.change_id, actor="ana", dry_run=False, reason="weekly")


def exports(database: Database) -> list[Any]:
    with database.transaction(read_only=True) as transaction:
        return transaction.rows("SELECT * FROM run_exports ORDER BY export_id")


def in_files(home: Path) -> int:
    folder = home / "exports" / "job_runs"
    with parquet_files.open_parquet() as parquet:
        row = parquet.execute(f"SELECT count(*) FROM '{folder}/*.parquet'").fetchone()
    assert row is not None
    return int(row[0])


def test_a_plan_says_what_would_go_and_changes_nothing(weeks: Database, home: Path) -> None:
    plan = planned(weeks)
    assert (plan.row_count, len(plan.sample), plan.exceeds_limit) == (110, 2, False)
    assert [row["action"] for row in plan.sample] == ["drop", "drop"]
    assert plan.oldest is not None
    assert plan.newest is not None
    assert (plan.newest - plan.oldest).days >= 69
    assert changes.apply(weeks, plan.change_id, actor="ana").dry_run
    assert runs(weeks) == 150
    assert not (home / "exports").exists()


def test_whole_weeks_are_exported_compared_and_dropped(weeks: Database, home: Path) -> None:
    with weeks.transaction() as transaction:
        before = transaction.rows(
            "SELECT job_id::text, error, cost_usd, write_seconds, execution_time FROM job_runs WHERE execution_time < now() - interval '90 days' ORDER BY 1"
        )
    size = value(weeks, "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('job_runs')")  # fmt: skip
    result = applied(weeks, planned(weeks))
    assert (result.status, result.changed, runs(weeks)) == ("applied", 2, 40)
    noted = exports(weeks)
    assert [row.rows for row in noted] == [row.rows_removed for row in noted] == [60, 50]
    assert all(row.removed_at is not None for row in noted)
    gone = size - value(weeks, "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('job_runs')")  # fmt: skip
    assert sum(row.bytes_returned for row in noted) == gone > 0
    folder = home / "exports" / "job_runs"
    assert {str(path) for path in folder.iterdir()} == {row.file for row in noted}
    with parquet_files.open_parquet() as parquet:
        found = parquet.execute(
            f"SELECT job_id::VARCHAR, error, cost_usd, write_seconds, epoch_us(execution_time) FROM '{folder}/*.parquet' ORDER BY 1"
        ).fetchall()
    assert [row[:4] for row in found] == [tuple(row)[:4] for row in before]
    assert [row[4] for row in found] == [round(row.execution_time.timestamp() * 1e6) for row in before]  # fmt: skip
    assert {row[1] for row in found} == {AWKWARD, "", "\\N", None}


def test_a_second_apply_is_refused_and_a_second_plan_finds_nothing(weeks: Database) -> None:
    plan = planned(weeks)
    applied(weeks, plan)
    with pytest.raises(PlanRefused, match="applied already, by ana"):
        applied(weeks, plan)
    assert planned(weeks).row_count == 0


def test_a_row_that_came_in_after_the_plan_refuses_it(weeks: Database) -> None:
    plan = planned(weeks)
    add_week(weeks, 30, 1, partition=False)
    with pytest.raises(PlanRefused, match="has changed since"):
        applied(weeks, plan)
    assert runs(weeks) == 151


def test_a_row_that_changed_after_the_export_keeps_the_week(weeks: Database, home: Path) -> None:
    old = first_old(weeks)
    with weeks.connect() as connection, parquet_files.open_parquet() as parquet:
        removing = run_exports.RunExports(connection, parquet, home / "exports", "ana")
        removing._export(old)
        with weeks.transaction() as transaction:
            transaction.run("UPDATE job_runs SET error = 'other' WHERE tableoid = %(oid)s AND tokens = 7", oid=old.relation_oid)  # fmt: skip
        with pytest.raises(Exception, match=r"differ in their checksums.*Nothing was removed"):
            removing.remove(old)
    assert runs(weeks) == 150


def test_a_file_that_was_spoilt_is_not_relied_on(weeks: Database, home: Path) -> None:
    """Noted before a crash, then cut: the rows are exported again, and only then removed."""
    old = first_old(weeks)
    with weeks.connect() as connection, parquet_files.open_parquet() as parquet:
        removing = run_exports.RunExports(connection, parquet, home / "exports", "ana")
        file = removing._export(old).file
        file.chmod(0o600)
        file.write_bytes(file.read_bytes()[:-100])
        removed = removing.remove(old)
        assert (removed.rows, runs(weeks)) == (60, 90)
        row = parquet.execute(f"SELECT count(*) FROM '{removed.file}'").fetchone()
    assert row == (60,)


def first_old(database: Database) -> run_exports.OldRuns:
    plan = planned(database)
    with database.transaction(read_only=True) as transaction:
        row = clean_up.CleanUp().preview(transaction, plan.parameters, 10).rows[0]
    border = clean_up.border_of(plan.parameters)
    return run_exports.OldRuns(row.key, row.seen["relation_oid"], row.seen["action"], border)


def test_two_at_the_same_week_do_not_write_into_each_others_file(
    weeks: Database, home: Path
) -> None:
    """Both export, as when a plan is taken over from somebody who is only slow; one file is left, and it holds all."""
    old = first_old(weeks)
    with (
        weeks.connect() as one, weeks.connect() as other,
        parquet_files.open_parquet() as first, parquet_files.open_parquet() as second,
    ):  # fmt: skip
        slow = run_exports.RunExports(one, first, home / "exports", "ana")
        fast = run_exports.RunExports(other, second, home / "exports", "bo")
        exported = slow._export(old)
        before = exported.file.stat().st_ino
        assert fast._export(old).file == exported.file
        assert exported.file.stat().st_ino == before
        assert (slow.remove(old).rows, fast.remove(old).rows) == (60, 60)
        row = first.execute(f"SELECT count(*) FROM '{home}/exports/*.parquet'").fetchone()
    assert row == (60,)
    assert runs(weeks) == 90
    noted = exports(weeks)
    assert {parquet_files.sha256_of(exported.file)} == {each.sha256 for each in noted}


def test_rows_without_a_partition_leave_in_batches(database: Database, home: Path) -> None:
    add_week(database, 30, 60, partition=False)
    add_week(database, 2, 10, partition=False)
    plan = planned(database)
    assert [row["action"] for row in plan.sample] == ["delete"]
    result = applied(database, plan)
    assert (result.status, runs(database), in_files(home)) == ("applied", 10, 60)
    assert exports(database)[0].bytes_returned == 0


def test_a_row_that_changed_after_the_export_is_left_by_the_batches(
    database: Database, home: Path
) -> None:
    add_week(database, 30, 60, partition=False)
    old = first_old(database)
    with database.connect() as connection, parquet_files.open_parquet() as parquet:
        removing = run_exports.RunExports(connection, parquet, home / "exports", "ana")
        removing._export(old)
        with database.transaction() as transaction:
            transaction.run("UPDATE job_runs SET tokens = 1000 WHERE tokens = 7")
        removed = removing.remove(old)
    assert (removed.rows, removed.rows_kept) == (59, 1)
    assert value(database, "SELECT tokens FROM job_runs") == 1000


def test_an_unpartitioned_table_is_cleaned_up_in_batches(weeks: Database, home: Path) -> None:
    with weeks.transaction() as transaction:
        transaction.run("CREATE TABLE plain AS SELECT * FROM job_runs")
        transaction.run("DROP TABLE job_runs CASCADE")
        transaction.run("ALTER TABLE plain RENAME TO job_runs")
    result = applied(weeks, planned(weeks))
    assert (result.status, runs(weeks), in_files(home)) == ("applied", 40, 110)


@pytest.mark.long
def test_the_week_of_the_border_waits_unless_told_otherwise(database: Database) -> None:
    begins = add_week(database, 10, 1200)
    days = (clean_up.datetime.now(clean_up.UTC) - begins).days - 2
    assert planned(database, keep_days=days).row_count == 0
    plan = planned(database, keep_days=days, to_the_day="yes")
    assert 0 < plan.row_count < 1200
    assert applied(database, plan).status == "applied"
    assert runs(database) == 1200 - plan.row_count


def test_what_is_young_is_never_taken_out(database: Database) -> None:
    for given in ({"keep_days": 29}, {"keep_days": 0}, {"keep_days": "all"}, {"to_the_day": "perhaps"}):  # fmt: skip
        with pytest.raises(UsageError, match=r"keep_days|to_the_day"):
            planned(database, **given)


def test_the_rollup_answers_as_the_rows_do_afterwards(weeks: Database) -> None:
    sources = Sources(weeks, weeks)
    counted = "SELECT coalesce(sum(completed + error), 0) FROM run_slots WHERE minutes = 60"
    refresh(sources)
    assert value(weeks, counted) == 150
    applied(weeks, planned(weeks))
    refresh(sources)
    assert value(weeks, counted) == 40


def test_a_reader_who_stays_is_waited_for_and_then_the_week_is_kept(
    weeks: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_exports, "DROP_ATTEMPTS", 1)
    raw = psycopg2.connect(weeks.url)
    with raw.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM job_runs")
    plan = planned(weeks)
    result = applied(weeks, plan)
    assert (result.status, result.failed, runs(weeks)) == ("failed", 2, 150)
    assert "is in use" in result.failures[0]["error"]
    raw.close()
    assert applied(weeks, plan).status == "applied"
    assert runs(weeks) == 40


@pytest.mark.long
def test_a_role_that_may_not_drop_is_told_so_and_nothing_is_lost(weeks: Database) -> None:
    name = f"clean_up_{uuid.uuid4().hex[:8]}"
    with weeks.transaction() as transaction:
        transaction.run(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
        transaction.run(f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {name}")
    limited = Database(as_role(weeks, name))
    result = applied(limited, planned(limited))
    assert (result.status, runs(weeks)) == ("failed", 150)
    assert "may not remove" in result.failures[0]["error"]


_KILLED = """
import os, signal, sys
from runbook_lib.database import Database
from runbook_lib.maintenance import clean_up, parquet_files, run_exports
from runbook_lib import changes

def die(*given, **named):
    os.kill(os.getpid(), signal.SIGKILL)

moment, change_id = sys.argv[1:]
database = Database(os.environ["DATABASE_URL"])
run_exports.BATCH_ROWS = 20
if moment == "exporting":
    parquet_files.totals = die
elif moment == "exported":
    run_exports.RunExports._drop = run_exports.RunExports._delete = die
elif moment == "removed":
    clean_up.ChangedRow = die
elif moment == "between batches":
    keys = parquet_files.keys
    def two(*given):
        for number, batch in enumerate(keys(*given)):
            if number == 2:
                die()
            yield batch
    parquet_files.keys = two
changes.apply(database, change_id, actor="ana", dry_run=False)
"""


@pytest.mark.parametrize(
    "moment",
    [pytest.param("exporting", marks=pytest.mark.long), "exported", "removed", "between batches"],
)
def test_after_kill_nine_another_run_makes_it_whole(
    database: Database, home: Path, moment: str
) -> None:
    """Wherever it dies, each row is in the table or in a file, and afterwards in no table and in no file twice removed."""
    add_week(database, 30, 60, partition=moment != "between batches")
    add_week(database, 20, 50, partition=moment != "between batches")
    add_week(database, 2, 40)
    ids = {row[0] for row in rows_of(database)}
    plan = planned(database)
    environment = {**os.environ, "DATABASE_URL": database.url, "RUNBOOK_HOME": str(home)}
    killed = subprocess.run([sys.executable, "-c", _KILLED, moment, plan.change_id], env=environment, check=False)  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    assert ids <= {row[0] for row in rows_of(database)} | ids_in_files(home)
    again = planned(database)
    if again.row_count:
        assert applied(database, again).status == "applied"
    assert runs(database) == 40
    assert ids == {row[0] for row in rows_of(database)} | ids_in_files(home)
    assert sum(row.rows_removed for row in exports(database)) == 110


def rows_of(database: Database) -> list[Any]:
    with database.transaction(read_only=True) as transaction:
        return transaction.rows("SELECT job_id::text FROM job_runs")


def ids_in_files(home: Path) -> set[str]:
    folder = home / "exports" / "job_runs"
    if not list(folder.glob("*.parquet")):
        return set()
    with parquet_files.open_parquet() as parquet:
        return {row[0] for row in parquet.execute(f"SELECT job_id::VARCHAR FROM '{folder}/*.parquet'").fetchall()}  # fmt: skip


@pytest.mark.long
def test_a_folder_that_takes_no_export_is_told_and_nothing_is_removed(weeks: Database) -> None:
    folder = load_settings().run_exports / "job_runs"
    folder.parent.mkdir(parents=True)
    folder.write_text("no folder")
    result = applied(weeks, planned(weeks))
    assert (result.status, runs(weeks)) == ("failed", 150)
    assert "RUNBOOK_RUN_EXPORTS" in result.failures[0]["error"]


def test_a_file_that_cannot_be_written_ends_the_export_instead_of_waiting_at_the_pipe(
    weeks: Database, tmp_path: Path
) -> None:
    taken = tmp_path / "taken.parquet"
    taken.mkdir()

    def write() -> None:
        with (
            weeks.transaction(read_only=True) as transaction,
            parquet_files.open_parquet() as parquet,
        ):
            copy_out = run_exports._statements(transaction, first_old(weeks)).copy_out
            columns = run_exports._columns(transaction)
            parquet_files.write(parquet, transaction, copy_out, columns, taken)

    with pytest.raises(CouldNotBeDone, match="could not be written"):
        write()
    assert list(tmp_path.glob("*.pipe")) == []


def test_the_review_says_what_there_is_what_may_go_and_where_it_went(
    weeks: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", weeks.url)
    sources = Sources(weeks, weeks)
    before = job_runs_review(sources)
    results = before.results()
    assert (results["runs"], results["old_runs"], results["due_runs"], results["waiting_runs"]) == (
        150,
        110,
        110,
        0,
    )
    assert (before.verdict, before.check.procedure) == ("warning", "weekly/cleanup")
    assert sorted(before.partitions.frame["then"]) == [
        "is dropped whole",
        "is dropped whole",
        "kept",
    ]
    assert before.weeks_chart().words.startswith("3 weeks of history")
    assert "150 runs in all" in before._repr_html_()
    applied(weeks, planned(weeks))
    after = job_runs_review(sources)
    assert (after.verdict, after.results()["due_runs"], after.results()["runs"]) == ("ok", 0, 40)
    assert after.exports.frame["rows_removed"].tolist() == [50, 60]
    young = job_runs_review(sources, keep_days=40, old_days=5)
    assert young.results()["old_runs"] == 40


@pytest.mark.long
def test_the_review_of_nothing_and_of_a_database_that_is_away(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("DATABASE_URL", database.url)
    empty = job_runs_review(Sources(database, database))
    assert (empty.verdict, empty.results()["runs"], empty.results()["due_runs"]) == ("ok", 0, 0)
    assert empty.weeks_chart().words == "There is no week of history yet."
    away = Database("postgresql://somebody:guess@127.0.0.1:1/nowhere")
    gone = job_runs_review(Sources(away, away))
    assert (gone.verdict, gone.results()["due_runs"]) == ("not_enough_data", None)
    assert "guess" not in repr(gone) + gone._repr_html_()
