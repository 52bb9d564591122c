"""Who created jobs, acted, was refused and may do what: every figure seeded, and a healthy house is not accused."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2.errors
import pytest
from conftest import Server
from foreign_pipeline import UUID_KEYS, attached_settings
from roles import MakeRole, name_of
from running_sandbox import RunningSandbox

from runbook_lib.credentials.console_tokens import load_tokens, token_file
from runbook_lib.database import Database
from runbook_lib.health.sources import Sources, open_sources
from runbook_lib.maintenance.access_review import AccessReview, access_review
from runbook_lib.pipeline.wordpress import WordPressClient
from runbook_lib.settings import load_settings

# A Wednesday, so that hours of work are known.
AT = datetime(2026, 11, 18, 12, tzinfo=UTC)
SINCE = AT - timedelta(days=7)


def run(database: Database, statement: str, **values: Any) -> None:
    with database.transaction() as transaction:
        transaction.run(statement, **values)


@pytest.fixture
def open_site(
    running_sandbox: RunningSandbox,
) -> Callable[[], AbstractContextManager[WordPressClient]]:
    @contextmanager
    def opened() -> Iterator[WordPressClient]:
        site = WordPressClient(running_sandbox.url, running_sandbox.user, lambda: running_sandbox.app_password)  # fmt: skip
        yield site
        site.close()

    return opened


@pytest.fixture
def review(
    database: Database, home: Path, monkeypatch: pytest.MonkeyPatch, open_site: Any
) -> Callable[..., AccessReview]:
    """Reviews the test's database, for which `editorial` and the role `cms` are known producers."""
    policy = home.parent / "policy.toml"
    policy.write_text('known_producers = ["editorial", "cms"]')
    monkeypatch.setenv("RUNBOOK_CONFIG", str(policy))
    load_settings.cache_clear()

    def look(sources: Sources | None = None, **options: Any) -> AccessReview:
        given = {"since": SINCE, "open_site": open_site, **options}
        return access_review(sources or Sources(database, database), **given)

    return look


def test_a_healthy_house_is_not_accused(review: Callable[..., AccessReview], database: Database, make_role: MakeRole) -> None:  # fmt: skip
    make_role("GRANT SELECT ON articles TO {role}")
    run(database, "INSERT INTO content_jobs (topic, source, created_at) VALUES ('a', 'editorial', %(at)s)", at=AT)  # fmt: skip
    run(database, "INSERT INTO content_jobs (topic, created_by, created_at) VALUES ('b', 'cms', %(at)s)", at=AT)  # fmt: skip
    for day in (-20, 0):
        act(database, AT + timedelta(days=day))
    call(database, "10.0.0.1", "none", 401, 3)
    call(database, "10.0.0.1", "write token", 200, 1)
    found = review()
    accused = {name: part.check for name, part in found.parts.items() if part.check.verdict not in ("ok",)}  # fmt: skip
    assert accused == {}
    assert found.verdict == "ok"
    results = found.results()
    assert (results["jobs"], results["jobs_of_unknown_producers"], results["actions"], results["requests_refused"]) == (2, 0, 1, 3)  # fmt: skip


def act(database: Database, at: datetime, actor: str = "ana", outcome: str = "done") -> None:
    run(
        database,
        "INSERT INTO admin_actions (acted_at, ended_at, actor, host, action, outcome) VALUES (%(at)s, %(at)s, %(actor)s, 'h', 'jobs.retry', %(outcome)s)",
        at=at, actor=actor, outcome=outcome,
    )  # fmt: skip


def call(database: Database, client: str, token: str, status: int, times: int) -> None:
    outcome = "served" if status < 400 else "refused"
    run(
        database,
        "INSERT INTO access_log (at, client, token, method, route, status, outcome, milliseconds)"
        " SELECT %(at)s::timestamptz + n * interval '1 s' + %(later)s * interval '1 h', %(client)s, %(token)s, 'POST', '/jobs', %(status)s, %(outcome)s, 1 FROM generate_series(1, %(times)s) AS n",
        at=AT, client=client, token=token, status=status, outcome=outcome, times=times, later=int(status < 400),
    )  # fmt: skip


def test_jobs_of_somebody_unknown_are_found_with_what_still_waits(
    review: Callable[..., AccessReview], database: Database
) -> None:
    for source, count in (("editorial", 3), ("botnet", 2)):
        run(
            database,
            "INSERT INTO content_jobs (topic, source, created_by, created_at) SELECT 't' || n, %(source)s || ':' || n, 'somebody', %(at)s FROM generate_series(1, %(count)s) AS n",
            source=source, count=count, at=AT,
        )  # fmt: skip
    found = review()
    check = found.parts["producers"].check
    assert (check.verdict, check.value, check.details["pending"]) == ("critical", 2, 2)
    assert (found.verdict, found.check.procedure) == ("critical", "emergency/security_breach")
    first = found.producers.frame.iloc[0]
    assert (first["source"], first["known"], first["jobs"]) == ("botnet", False, 2)
    assert len(first["example"]) == 36
    assert "botnet (somebody)" in found._repr_html_()


def test_without_known_producers_it_says_that_nobody_named_them(
    review: Callable[..., AccessReview], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNBOOK_CONFIG")
    load_settings.cache_clear()
    check = review().parts["producers"].check
    assert check.verdict == "not_enough_data"
    assert "known_producers" in str(check.next)


def test_new_people_refusals_and_hours_are_counted(
    review: Callable[..., AccessReview], database: Database
) -> None:
    act(database, AT - timedelta(days=30))
    act(database, AT)  # Wednesday noon
    act(database, AT.replace(hour=3))
    act(database, AT - timedelta(days=4))  # Saturday
    act(database, AT, "eve", "refused")
    found = review()
    rows = {row["actor"]: row for row in found.parts["actions"].rows}
    assert (rows["ana"]["actions"], rows["ana"]["outside_hours"], rows["ana"]["new"]) == (3, 2, False)  # fmt: skip
    assert (rows["eve"]["refused"], rows["eve"]["new"]) == (1, True)
    assert found.parts["actions"].check.verdict == "warning"
    assert "eve" in found.parts["actions"].check.message
    assert len(found.single_actions.frame) == 3
    assert found.results()["actions_outside_hours"] == 2
    # In Tokyo, noon is nine in the evening and three at night is noon.
    assert review(time_zone="Asia/Tokyo").results()["actions_outside_hours"] == 3


def test_an_address_that_tries_and_gets_in_is_named(
    review: Callable[..., AccessReview], database: Database
) -> None:
    call(database, "203.0.113.9", "none", 401, 40)
    check = review().parts["refusals"].check
    assert (check.verdict, check.value) == ("warning", 40)
    assert "let in" not in check.message
    call(database, "203.0.113.9", "write token", 200, 2)
    found = review()
    assert "203.0.113.9 was let in after that" in found.parts["refusals"].check.message
    assert found.refusals.frame.iloc[0]["let_in_after"] == 2


def test_roles_beyond_what_they_are_for_and_rights_of_everybody(
    review: Callable[..., AccessReview], database: Database, make_role: MakeRole
) -> None:
    reader = make_role("GRANT SELECT ON articles TO {role}")
    wide = make_role("GRANT SELECT, TRUNCATE ON articles TO {role}", "GRANT DELETE ON archive_entries TO {role}")  # fmt: skip
    rows = {row["role"]: row for row in review().parts["roles"].rows}
    assert rows[name_of(reader)]["fits"] == "worker"
    assert rows[name_of(wide)]["beyond"] == "DELETE on archive_entries; TRUNCATE on articles"
    check = review().parts["roles"].check
    assert (check.verdict, check.value) == ("warning", 1)
    run(database, "GRANT INSERT ON content_jobs TO PUBLIC")
    check = review().parts["roles"].check
    assert check.verdict == "critical"
    assert "Everybody may INSERT on content_jobs" in check.message


def test_a_workbench_that_connects_as_a_superuser_is_told_so_unless_it_is_the_embedded_one(
    review: Callable[..., AccessReview], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert review().parts["roles"].check.verdict == "ok"
    monkeypatch.setenv("DATABASE_URL", database.url)
    load_settings.cache_clear()
    check = review().parts["roles"].check
    assert (check.verdict, "superuser" in check.message) == ("warning", True)


def test_what_the_data_api_reaches(
    review: Callable[..., AccessReview], database: Database, server: Server
) -> None:
    for role in ("anon", "authenticated"):
        try:
            server.execute("CREATE ROLE {} NOLOGIN", role)
        except (psycopg2.errors.DuplicateObject, psycopg2.errors.UniqueViolation):
            pass  # the server's, which other tests share
    run(database, "GRANT USAGE ON SCHEMA public TO anon")
    assert review().parts["data_api"].check.verdict == "ok"
    run(database, "GRANT SELECT ON content_jobs TO anon")
    assert review().parts["data_api"].check.verdict == "critical"
    run(database, "ALTER TABLE content_jobs ENABLE ROW LEVEL SECURITY")
    found = review()
    assert found.parts["data_api"].check.verdict == "warning"
    assert found.data_api.frame.to_dict("records") == [{"what": "public.content_jobs", "reaches": "anon: SELECT", "row_security": True, "policies": 0, "open": False}]  # fmt: skip
    run(database, "CREATE POLICY all_of_it ON content_jobs FOR SELECT TO anon USING (true)")
    assert review().parts["data_api"].check.verdict == "critical"
    run(database, "DROP POLICY all_of_it ON content_jobs", )  # fmt: skip
    run(database, "GRANT EXECUTE ON FUNCTION make_job_runs_partitions(integer) TO anon")
    assert "function make_job_runs_partitions" in review().parts["data_api"].check.message


def test_tokens_and_application_passwords_are_told_by_name_age_and_use(
    review: Callable[..., AccessReview], home: Path
) -> None:
    assert {row["kept"] for row in review().parts["console_tokens"].rows} == {"not made yet"}
    assert not (home / "tokens").exists()
    tokens = load_tokens(load_settings())
    path = token_file(load_settings(), "write")
    long_ago = time.time() - 200 * 86_400
    os.utime(path, (long_ago, long_ago))
    found = review()
    assert found.parts["console_tokens"].check.verdict == "warning"
    assert "Older than 180 days: the write token" in found.parts["console_tokens"].check.message
    path.chmod(0o644)
    assert review().parts["console_tokens"].check.verdict == "critical"
    shown = repr(found) + found._repr_html_() + repr(found.console_tokens) + str(found.results())
    assert tokens.write not in shown
    assert tokens.read not in shown
    passwords = found.parts["application_passwords"]
    assert passwords.check.verdict == "ok"
    assert [row["in_use_here"] for row in passwords.rows].count(True) == 1


def test_parts_that_are_closed_or_away_say_so_and_the_others_stand(
    review: Callable[..., AccessReview], make_role: MakeRole
) -> None:
    stranger = make_role()
    found = review(Sources(stranger, stranger))
    verdicts = {name: part.check.verdict for name, part in found.parts.items()}
    assert {verdicts[name] for name in ("producers", "actions", "single_actions", "refusals")} == {"not_allowed"}  # fmt: skip
    assert verdicts["roles"] == verdicts["data_api"] == "ok"
    away = Database("postgresql://runbook:hidden-word@127.0.0.1:1/x")

    @contextmanager
    def no_site() -> Iterator[WordPressClient]:
        yield WordPressClient("http://127.0.0.1:1", "author", lambda: "hidden-word")

    found = review(Sources(away, away), open_site=no_site)
    assert found.verdict == "not_enough_data"
    assert "No connection" in found.check.message
    assert "hidden-word" not in repr(found) + found._repr_html_() + repr(found.checks)


def test_a_pipeline_that_is_not_ours_is_asked_what_it_has(
    review: Callable[..., AccessReview], new_database: Any, database: Database, tmp_path: Path
) -> None:
    theirs = UUID_KEYS.make(new_database)
    settings = attached_settings(theirs, UUID_KEYS, tmp_path, database)
    with open_sources(settings) as sources:
        found = review(sources, since=datetime(2020, 1, 1, tzinfo=UTC))
    for part in found.parts.values():
        assert "does not exist" not in part.check.message
    assert found.parts["producers"].check.verdict in ("critical", "not_enough_data")
    assert found.parts["data_api"].check.answered
