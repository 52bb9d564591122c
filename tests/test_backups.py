"""A backup is only what was restored and compared: the newest dump, a trial restore, and the archive."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dumping import dumped
from history import seed_history
from roles import MakeRole

from runbook_lib.cli import main
from runbook_lib.database import Database
from runbook_lib.database.binaries import client_binaries
from runbook_lib.errors import CouldNotBeDone, ServiceNotStarted
from runbook_lib.health.sources import Sources
from runbook_lib.maintenance import trial_restore
from runbook_lib.maintenance.backup_review import BackupReview, backup_review
from runbook_lib.maintenance.dump_files import DumpFile, dump_files, fault_of
from runbook_lib.maintenance.scratch_server import remove_left_over
from runbook_lib.maintenance.trial_restore import Compared, figures, sample_sizes, without_password
from runbook_lib.settings import load_settings

BINARIES = client_binaries(14)
HOUR = 3600


def review(database: Database, **options: Any) -> BackupReview:
    load_settings.cache_clear()
    return backup_review(Sources(database, database), **options)


def run(database: Database, statement: str) -> None:
    with database.transaction() as transaction:
        transaction.run(statement)


def figures_of(database: Database, **options: int) -> dict[str, trial_restore.Figures]:
    with database.transaction(read_only=True) as transaction:
        return figures(transaction, "public", sample_sizes(transaction, "public", **options))


def dump(database: Database, file: Path) -> Path:
    dumped(database, "--format=custom", f"--file={file}")
    return file


def test_a_dump_is_restored_beside_compared_row_by_row_and_nothing_of_it_stays(
    database: Database, home: Path
) -> None:
    seed_history(database)
    run(database, "INSERT INTO content_jobs (topic) VALUES ('größer 東京 50 %%')")
    before = figures_of(database)
    found = review(database, seen_on=datetime.now(UTC).date(), seen_by="Ana Lyst")
    assert (found.verdict, found.restore.verdict, found.restore.value) == ("ok", "ok", 0), found
    rows = {row["table"]: row for row in found.tables.frame.to_dict("records")}
    assert (rows["content_jobs"]["rows"], rows["content_jobs"]["rows_restored"]) == (128, 128)
    assert rows["job_runs"]["rows_restored"] == rows["job_runs"]["sampled"] == 143
    results = found.results()
    assert results["seconds"].keys() == {"dump", "restore", "compare"}
    assert results["minutes_to_restore"] == round(results["seconds"]["restore"] / 60, 2)
    assert "Ana Lyst saw a backup" in found.newest.message
    assert figures_of(database) == before
    assert not (home / "scratch").exists()


def test_a_row_a_value_and_a_text_that_differ_are_each_seen(
    database: Database, new_database: Callable[..., Database]
) -> None:
    """Counts alone would not see that a sum or a text is another one."""
    copy = new_database()
    insert = "INSERT INTO provider_usage (provider, usage_date, requests, cost_usd) VALUES ('openai', '2026-01-01', {}, 1.5)"
    run(database, insert.format(7))
    run(copy, insert.format(8))
    run(database, "INSERT INTO failure_templates (fingerprint, ruleset, key, words, sample, first_seen, changed_at) VALUES ('f', 1, 'k', '{}', 'one', '2026-01-01', '2026-01-01')")  # fmt: skip
    run(copy, "INSERT INTO failure_templates (fingerprint, ruleset, key, words, sample, first_seen, changed_at) VALUES ('f', 1, 'k', '{}', 'two', '2026-01-01', '2026-01-01')")  # fmt: skip
    run(copy, "INSERT INTO content_jobs (topic) VALUES ('one too many')")
    run(copy, "DROP TABLE access_log")
    ours, theirs = figures_of(database), figures_of(copy)
    compared = {name: Compared(name, ours[name], theirs.get(name)) for name in ours}
    different = {name for name, each in compared.items() if not each.equal}
    # Every new schema has a chain of its own, and the moments at which its rows were made.
    assert {"provider_usage", "failure_templates", "content_jobs", "access_log"} <= different
    assert "articles" not in different
    usage, template = compared["provider_usage"].row(), compared["failure_templates"].row()
    assert (usage["sums_equal"], template["sums_equal"], template["sample_equal"]) == (False, True, False)  # fmt: skip


def test_of_a_large_table_the_same_rows_are_sampled_on_both_sides(
    database: Database, new_database: Callable[..., Database]
) -> None:
    copy = new_database()
    for each in (database, copy):
        run(each, "INSERT INTO provider_usage (provider, usage_date, requests) SELECT 'openai', '2020-01-01'::date + n, n FROM generate_series(1, 500) AS n")  # fmt: skip
        run(each, "ANALYZE provider_usage")
    ours, theirs = (
        figures_of(each, most_sampled=50)["provider_usage"] for each in (database, copy)
    )
    assert ours == theirs
    assert 20 < ours.sampled < 100


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "dumps"
    made.mkdir()
    monkeypatch.setenv("RUNBOOK_BACKUPS", str(made))
    return made


def aged(path: Path, hours: float) -> Path:
    at = time.time() - hours * HOUR
    os.utime(path, (at, at))
    return path


def test_the_newest_dumps_age_and_whether_it_can_be_read(
    database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def newest(**options: Any) -> tuple[str, str]:
        check = review(database, restore=False, **options).newest
        return check.verdict, check.message

    assert newest() == ("critical", f"There is no dump in {folder}.")
    whole = aged(dump(database, folder / "monday.dump"), 30)
    assert newest()[0] == "critical"
    assert "older than 26 hours" in newest()[1]
    verdict, message = newest(maximum_age_hours=48)
    assert (verdict, "30 hours old" in message) == ("ok", True)
    aged(folder / "monday.dump", 5)
    assert newest()[0] == "ok"
    cut = folder / "tuesday.dump"
    cut.write_bytes(whole.read_bytes()[:400])
    aged(cut, 1)
    assert newest()[0] == "critical"
    cut.write_bytes(b"")
    assert "it is empty" in newest()[1]
    cut.unlink()
    monkeypatch.setenv("RUNBOOK_BACKUPS", str(folder / "elsewhere"))
    assert "cannot be read" in newest()[1]


def test_a_plain_dump_is_whole_when_its_last_line_is_there(tmp_path: Path) -> None:
    last = b"--\n-- PostgreSQL database dump complete\n--\n"
    for name, content, fault in [("a.sql", b"x" * 9_000 + last, None), ("b.sql", b"x" * 9_000, "cut off"),
                                 ("c.sql.gz", gzip.compress(b"x" * 9_000 + last), None),
                                 ("d.sql.gz", gzip.compress(b"x" * 90_000 + last)[:-20], "cut off")]:  # fmt: skip
        path = tmp_path / name
        path.write_bytes(content)
        found = fault_of(DumpFile(path, 0, len(content)), BINARIES)
        assert (fault or "None") in str(found), name
    (tmp_path / "notes.txt").write_text("not a dump")
    assert len(dump_files(tmp_path)) == 4


def test_where_nobody_looked_it_is_not_called_well_and_says_the_steps(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = review(database, restore=False)
    assert (found.verdict, found.newest.verdict) == ("not_enough_data", "not_enough_data")
    assert "seen_on and seen_by" in found.newest.message
    assert found.archive.verdict == "ok"
    old = datetime.now(UTC).date() - timedelta(days=9)
    assert review(database, restore=False, seen_on=old, seen_by="Ana").newest.verdict == "critical"
    assert review(database, restore=False, seen_on=old).newest.verdict == "not_enough_data"
    monkeypatch.setenv("DATABASE_URL", database.url)
    load_settings.cache_clear()
    with pytest.raises(SystemExit) as ended:
        main(
            ["backup", "check", "--no-restore", "--seen-on", f"{old}", "--seen-by", "Ana", "--json"]
        )
    told = json.loads(capsys.readouterr().out)
    assert (ended.value.code, told["verdict"], told["newest_age_hours"]) == (1, "critical", 216)


@pytest.mark.long
def test_the_newest_dump_itself_is_restored_by_the_command(
    database: Database, new_database: Callable[..., Database], folder: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    seed_history(database)
    dump(database, folder / "night.dump")
    run(database, "INSERT INTO content_jobs (topic) VALUES ('after the dump')")
    monkeypatch.setenv("DATABASE_URL", database.url)
    load_settings.cache_clear()
    with pytest.raises(SystemExit) as ended:
        main(["backup", "check", "--newest", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (ended.value.code, found["verdict"], found["tables_different"]) == (0, "ok", [])
    assert {each["name"] for each in found["checks"]} == {"backup.newest", "backup.restore", "backup.archive"}  # fmt: skip


def test_what_stands_against_a_restore_is_said_in_words(
    database: Database, make_role: MakeRole, home: Path
) -> None:
    with pytest.raises(ServiceNotStarted, match="of PostgreSQL 99 or newer are needed"):
        client_binaries(99)
    assert review(make_role()).verdict == "not_allowed"
    assert not (home / "scratch").exists()
    with pytest.raises(CouldNotBeDone, match="are free"):
        trial_restore._require_room(home, 10**15)
    away = Database("postgresql://runbook:hidden-word@127.0.0.1:1/x")
    found = review(away)
    assert found.verdict == "not_enough_data"
    assert "hidden-word" not in repr(found) + repr(found.tables) + str(found.results())


def test_no_password_stands_in_an_argument_list() -> None:
    shown = without_password("postgresql://ana:s3cret%2Fword@db.example.org:6543/press?sslmode=require")  # fmt: skip
    assert "s3cret" not in shown
    for part in ("host=db.example.org", "port=6543", "user=ana", "dbname=press", "sslmode=require"):
        assert part in shown


@pytest.mark.long
def test_what_a_killed_process_left_is_removed_by_the_next_one(home: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from runbook_lib.database.binaries import client_binaries;"
        "from runbook_lib.maintenance.scratch_server import scratch_server\n"
        "with scratch_server(Path(sys.argv[1]), client_binaries(14)): print('up', flush=True); time.sleep(600)"
    )
    killed = subprocess.Popen([sys.executable, "-c", program, str(home)], stdout=subprocess.PIPE)
    assert killed.stdout is not None
    assert killed.stdout.readline() == b"up\n"
    assert remove_left_over(home / "scratch") == 0
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    until = time.monotonic() + 60
    while not remove_left_over(home / "scratch"):
        assert time.monotonic() < until, "the server of a killed process stays"
        time.sleep(0.1)
    assert list((home / "scratch").iterdir()) == []
