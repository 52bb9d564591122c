"""`runbook jobs` and `runbook changes`: what an operator types, and what programs read."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runbook_lib import cli
from runbook_lib.database import Database

JOB_KEYS = {"job_id", "status", "topic", "retry_count", "last_error", "post_id", "post_url"}


@dataclass(frozen=True)
class Answer:
    status: int
    output: str
    error: str

    @property
    def json(self) -> Any:
        return json.loads(self.output)


Runbook = Callable[..., Answer]


@pytest.fixture
def runbook(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Runbook:
    """Runs a command in this process."""
    monkeypatch.setenv("DATABASE_URL", database.url)

    def run(*arguments: str) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
        output, error = capsys.readouterr()
        return Answer(int(ended.value.code or 0), output, error)

    return run


@pytest.fixture
def program(database: Database, monkeypatch: pytest.MonkeyPatch) -> Runbook:
    """Runs a command as a process."""
    monkeypatch.setenv("DATABASE_URL", database.url)
    monkeypatch.setenv("RUNBOOK_ACTOR", "ana")

    def run(*arguments: str, given: str = "") -> Answer:
        ended = subprocess.run(
            [sys.executable, "-m", "runbook_lib.cli", *arguments],
            input=given,
            text=True,
            capture_output=True,
            check=False,
        )
        return Answer(ended.returncode, ended.stdout, ended.stderr)

    return run


def insert(database: Database, topic: str = "Green tea", **columns: Any) -> str:
    given = {"topic": topic, **columns}
    names, binds = ", ".join(given), ", ".join(f"%({name})s" for name in given)
    with database.transaction() as transaction:
        return str(
            transaction.value(
                f"INSERT INTO content_jobs ({names}) VALUES ({binds}) RETURNING job_id", **given
            )
        )


def fail(database: Database, error_class: str = "openai_timeout", **columns: Any) -> str:
    return insert(
        database, **{"status": "error", "error_class": error_class, "last_error": "it took too long", "retry_count": 5, **columns}
    )  # fmt: skip


def job(database: Database, job_id: str) -> Any:
    with database.transaction() as transaction:
        return transaction.row(
            "SELECT *, extract(epoch FROM run_at - updated_at)::float8 AS delay_seconds "
            "FROM content_jobs WHERE job_id = %(job_id)s::uuid",
            job_id=job_id,
        )


def actions(database: Database) -> list[tuple[str, str, str]]:
    with database.transaction() as transaction:
        rows = transaction.rows("SELECT * FROM admin_actions ORDER BY acted_at")
    return [(row.actor, row.action, row.outcome) for row in rows]


# add


def test_add_reads_a_file_as_a_process_and_answers_with_counts(
    program: Runbook, database: Database, tmp_path: Path
) -> None:
    file, rejects = tmp_path / "plan.csv", tmp_path / "rejects.csv"
    file.write_text("topic,priority\nGreen tea,1\nGreen tea,1\nBlack tea,soon\n")
    answer = program("jobs", "add", str(file), "--rejects", str(rejects), "--json")
    assert answer.status == 1
    assert {name: answer.json[name] for name in ("added", "duplicates", "rejected")} == {
        "added": 1, "duplicates": 1, "rejected": 1,
    }  # fmt: skip
    assert answer.json["rejected_rows"][0]["line"] == 4
    assert answer.error == ""
    with rejects.open(encoding="utf-8-sig", newline="") as written:
        assert [row["topic"] for row in csv.DictReader(written)] == ["Black tea"]
    with database.transaction() as transaction:
        assert transaction.value("SELECT created_by FROM content_jobs") == "ana"


def test_add_reads_standard_input_and_knows_json_lines_by_the_first_character(
    program: Runbook,
) -> None:
    answer = program("jobs", "add", "-", given='{"topic": "Grüner Tee"}\n')
    assert (answer.status, answer.error) == (0, "")
    assert answer.output == "1 added, 0 there already, 0 rejected.\n"


def test_add_says_in_words_what_was_not_taken(runbook: Runbook, tmp_path: Path) -> None:
    file = tmp_path / "plan.csv"
    file.write_text("topic,colour\nGreen tea,red\n,blue\n")
    answer = runbook("jobs", "add", str(file))
    assert answer.status == 1
    assert "plan.csv, line 3, topic: is empty" in answer.error
    assert "colour was not read" in answer.error
    assert "1 added, 0 there already, 1 rejected." in answer.output
    again = runbook("jobs", "add", str(file))
    assert "line 2: is job" in again.error


def test_add_refuses_to_write_rejects_over_its_input(runbook: Runbook, tmp_path: Path) -> None:
    file = tmp_path / "plan.csv"
    file.write_text("topic\nGreen tea\n")
    answer = runbook("jobs", "add", str(file), "--rejects", str(file))
    assert answer.status == 2
    assert file.read_text() == "topic\nGreen tea\n"
    assert runbook("jobs", "add", str(tmp_path / "absent.csv")).status == 2


def test_add_without_a_database_could_not_be_done(
    runbook: Runbook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:secret-word@127.0.0.1:1/none")
    file = tmp_path / "plan.csv"
    file.write_text("topic\nGreen tea\n")
    answer = runbook("jobs", "add", str(file))
    assert answer.status == 3
    assert "secret-word" not in answer.error + answer.output


# list and show


def test_list_gives_the_pinned_keys_and_filters(runbook: Runbook, database: Database) -> None:
    green = insert(database, category="Tea")
    black = fail(database, category="Drinks")
    found = runbook("jobs", "list", "--json").json
    assert set(found[0]) >= JOB_KEYS
    assert {row["job_id"] for row in found} == {green, black}

    def ids(*options: str) -> list[str]:
        return [row["job_id"] for row in runbook("jobs", "list", "--json", *options).json]

    assert ids("--status", "error") == [black]
    assert ids("--class", "openai_timeout") == [black]
    assert ids("--category", "tea") == [green]
    assert len(ids("--since", "1h")) == 2
    assert ids("--since", "2199-01-01") == []
    assert len(ids("--count", "1")) == 1
    assert green in runbook("jobs", "list").output
    assert runbook("jobs", "list", "--since", "yesterday").status == 2


def test_show_gives_a_job_with_attempts_article_and_events(
    runbook: Runbook, database: Database
) -> None:
    job_id = insert(database)
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO job_runs (job_id, attempt, status, error_class, error, stage) "
            "VALUES (%(id)s::uuid, 1, 'error', 'openai_timeout', 'too slow', 'write')",
            id=job_id,
        )
        transaction.run(
            "INSERT INTO articles (job_id, attempt, title, excerpt, body_markdown, word_count, model) "
            "VALUES (%(id)s::uuid, 2, 'Tea', 'About tea', 'Body', 1, 'm')",
            id=job_id,
        )
        transaction.run(
            "INSERT INTO events (kind, message, job_id) VALUES ('k', 'It happened', %(id)s::uuid)",
            id=job_id,
        )
    history = runbook("jobs", "show", job_id, "--json").json
    assert history["job"]["topic"] == "Green tea"
    assert [run["error_class"] for run in history["runs"]] == ["openai_timeout"]
    assert history["article"]["title"] == "Tea"
    assert [event["message"] for event in history["events"]] == ["It happened"]
    shown = runbook("jobs", "show", job_id[:8]).output
    assert all(
        words in shown for words in ("Green tea", "openai_timeout", "About tea", "It happened")
    )


def test_the_beginning_of_an_id_is_enough_if_it_is_unique(
    runbook: Runbook, database: Database
) -> None:
    first = insert(database, job_id=str(uuid.UUID("aaaaaaaa-0000-7000-8000-000000000001")))
    insert(database, job_id=str(uuid.UUID("aaaaaaaa-0000-7000-8000-000000000002")))
    assert runbook("jobs", "show", first).status == 0
    assert "More than one job" in runbook("jobs", "show", "aaaaaaaa").error
    assert "no job 'bbbb'" in runbook("jobs", "show", "bbbb").error
    assert "no job id" in runbook("jobs", "show", "%").error


# cancel


def test_cancel_ends_a_pending_job_and_records_it(runbook: Runbook, database: Database) -> None:
    job_id = insert(database, draft_requested_at="2026-01-01")
    answer = runbook("jobs", "cancel", job_id[:13], "--reason", "not now", "--actor", "ana")
    assert answer.status == 0
    assert "is cancelled. A draft of it may stand at WordPress." in answer.output
    row = job(database, job_id)
    assert (row.status, row.error_class, row.last_error) == (
        "error",
        "cancelled",
        "Cancelled by ana: not now",
    )
    assert "was cancelled already" in runbook("jobs", "cancel", job_id).output
    assert actions(database)[0] == ("ana", "jobs.cancel", "done")


def test_a_job_that_a_worker_has_cannot_be_cancelled(runbook: Runbook, database: Database) -> None:
    job_id = insert(
        database, status="processing", worker="w-1", lease_until="2199-01-01", attempt=1
    )
    answer = runbook("jobs", "cancel", job_id, "--actor", "ana")
    assert answer.status == 3
    assert "being worked on by w-1 (attempt 1)" in answer.error
    assert job(database, job_id).status == "processing"
    assert actions(database) == [("ana", "jobs.cancel", "failed")]
    done = insert(database, status="completed", completed_at="2026-01-01")
    assert runbook("jobs", "cancel", done).status == 2


# retry


def test_retry_by_id_acts_at_once_and_keeps_what_was_paid_for(
    runbook: Runbook, database: Database
) -> None:
    job_id = fail(database, stage="publish", lost_count=3, attempt=6)
    answer = runbook("jobs", "retry", job_id[:13], "--actor", "ana", "--json")
    assert (answer.status, answer.json["changed"]) == (0, 1)
    row = job(database, job_id)
    assert (row.status, row.retry_count, row.lost_count, row.stage, row.attempt) == (
        "pending",
        0,
        0,
        "publish",
        6,
    )
    assert row.run_at is None
    assert actions(database) == [("ana", "jobs.retry", "done")]
    assert "only jobs in error are retried" in runbook("jobs", "retry", job_id).error


def test_retry_by_class_is_planned_first_and_applied_as_a_process(
    program: Runbook, database: Database
) -> None:
    chosen = [fail(database, category="Tea") for _ in range(3)]
    other = fail(database, "openai_refused")
    planned = program("jobs", "retry", "--where", "class=openai_timeout", "--since", "1h")
    assert planned.status == 0
    assert "would change 3 rows" in planned.output
    assert {job(database, each).status for each in chosen} == {"error"}
    command = planned.output.strip().splitlines()[-1].split()
    assert command[:3] == ["runbook", "changes", "apply"]
    dry = program(*command[1:-1])
    assert "nothing was" in dry.output
    assert {job(database, each).status for each in chosen} == {"error"}
    applied = program(*command[1:], "--reason", "outage is over")
    assert (applied.status, applied.error) == (0, "")
    assert "3 changed" in applied.output
    assert {job(database, each).status for each in chosen} == {"pending"}
    assert job(database, other).status == "error"
    refused = program(*command[1:])
    assert refused.status == 3
    assert "applied already, by ana" in refused.error
    assert actions(database) == [("ana", "jobs.retry", "done"), ("ana", "jobs.retry", "refused")]


def test_a_retry_is_refused_when_the_jobs_have_moved_on(
    runbook: Runbook, database: Database
) -> None:
    job_id = fail(database)
    plan = runbook("jobs", "retry", "--where", "class=openai_timeout", "--json").json
    assert plan["apply_with"] == f"runbook changes apply {plan['change_id']} --execute"
    runbook("jobs", "retry", job_id)
    answer = runbook("changes", "apply", plan["change_id"], "--execute")
    assert answer.status == 3
    assert "Plan again" in answer.error


def test_a_retry_is_ramped_so_that_it_is_no_second_outage(
    runbook: Runbook, database: Database
) -> None:
    for _ in range(120):
        fail(database)
    answer = runbook(
        "jobs", "retry", "--where", "class=openai_timeout", "--per-minute", "30", "--execute"
    )
    assert "the last in about 4 minutes" in answer.output
    with database.transaction() as transaction:
        delays = [
            row.delay_seconds or 0.0
            for row in transaction.rows(
                "SELECT extract(epoch FROM run_at - updated_at)::float8 AS delay_seconds "
                "FROM content_jobs ORDER BY run_at NULLS FIRST"
            )
        ]
    assert delays[:5] == [0.0] * 5
    assert delays[5] > 0
    begun = [
        sum(1 for delay in delays if start <= delay < start + 60) for start in (0, 60, 120, 180)
    ]
    assert all(25 <= count <= 36 for count in begun[:3])
    assert max(delays) < 240


def test_the_default_rate_leaves_room_under_the_providers_limits(
    runbook: Runbook, database: Database
) -> None:
    fail(database)
    assert (
        runbook("jobs", "retry", "--since", "1h", "--json").json["parameters"]["per_minute"] == 60
    )
    runbook("limits", "set", "wordpress", "--requests-per-minute", "20")
    assert (
        runbook("jobs", "retry", "--since", "1h", "--json").json["parameters"]["per_minute"] == 10
    )


def test_jobs_that_people_or_protection_ended_are_retried_only_when_named(
    runbook: Runbook, database: Database
) -> None:
    failed = fail(database)
    cancelled, quarantined = fail(database, "cancelled"), fail(database, "quarantined")
    plan = runbook("jobs", "retry", "--since", "1h", "--json").json
    assert [row["key"] for row in plan["sample"]] == [failed]
    plan = runbook("jobs", "retry", "--where", "class=quarantined", "--json").json
    assert [row["key"] for row in plan["sample"]] == [quarantined]
    assert runbook("jobs", "retry", cancelled, "--json").json["changed"] == 1


def test_a_retry_can_be_taken_back_for_what_no_worker_has_taken(
    runbook: Runbook, database: Database
) -> None:
    waiting, taken, tried = fail(database), fail(database), fail(database)
    result = runbook("jobs", "retry", "--since", "1h", "--execute", "--json").json
    with database.transaction() as transaction:
        transaction.run(
            "UPDATE content_jobs SET status = 'processing', run_at = NULL, attempt = 1, worker = 'w', "
            "lease_until = now() WHERE job_id = %(id)s::uuid",
            id=taken,
        )
        transaction.run("UPDATE content_jobs SET attempt = 1 WHERE job_id = %(id)s::uuid", id=tried)
    undo = runbook("changes", "undo", result["change_id"], "--json").json
    assert [row["key"] for row in undo["sample"]] == [waiting]
    assert runbook("changes", "apply", undo["change_id"], "--execute").status == 0
    row = job(database, waiting)
    assert (row.status, row.retry_count, row.error_class) == ("error", 5, "openai_timeout")
    assert job(database, taken).status == "processing"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "Say which jobs to retry"),
        (["--where", "class=openai_timeut"], "Did you mean openai_timeout"),
        (["--where", "colour=red"], "takes class=… and category=…"),
        (["--where", "class"], "name=value"),
        (["--where", "class=openai_timeout", "--since", "soon"], "is no time"),
        (["--where", "class=openai_timeout", "--per-minute", "-1"], "above 0"),
        (["abcd", "--since", "1h"], "not both"),
    ],
)
def test_a_retry_that_is_not_said_clearly_is_refused(
    runbook: Runbook, options: list[str], words: str
) -> None:
    answer = runbook("jobs", "retry", *options)
    assert answer.status == 2
    assert words in answer.error


# changes


def test_changes_lists_plans_and_kinds(runbook: Runbook, database: Database) -> None:
    fail(database)
    plan = runbook("changes", "plan", "jobs.retry", "-p", "class=openai_timeout", "--json").json
    assert (plan["row_count"], plan["status"], plan["exceeds_limit"]) == (1, "planned", False)
    assert [row["change_id"] for row in runbook("changes", "list", "--json").json] == [
        plan["change_id"]
    ]
    assert runbook("changes", "list", "--status", "applied", "--json").json == []
    assert plan["change_id"] in runbook("changes", "list").output
    kinds = {row["kind"]: row for row in runbook("changes", "kinds", "--json").json}
    assert kinds["jobs.retry"]["undone_by"] == "jobs.unretry"
    assert "-p class=…" in runbook("changes", "kinds").output


def test_a_plan_beyond_its_limit_says_so_and_is_refused(
    runbook: Runbook, database: Database
) -> None:
    fail(database), fail(database)
    answer = runbook("jobs", "retry", "--since", "1h", "--limit", "1")
    assert "exceeds the limit" in answer.output
    change_id = runbook("changes", "list", "--json").json[0]["change_id"]
    assert "the limit is 1" in runbook("changes", "apply", change_id, "--execute").error
    assert runbook("changes", "apply", "ffff").status == 2


def test_a_plan_that_finds_nothing_says_so(runbook: Runbook) -> None:
    assert "Nothing to change." in runbook("jobs", "retry", "--since", "1h").output
