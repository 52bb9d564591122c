"""The procedures about keys and about the providers' errors say what is there, by known figures."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from running_sandbox import RunningSandbox

from runbook_lib.credentials.handles import handle_of
from runbook_lib.database import Database
from runbook_lib.env_file import EnvFile
from runbook_lib.health.sources import Sources
from runbook_lib.maintenance.key_compromise import key_compromise
from runbook_lib.maintenance.provider_errors import openai_errors, wordpress_errors
from runbook_lib.maintenance.rotation import Rotation
from runbook_lib.maintenance.secret_review import secret_review
from runbook_lib.pipeline.brakes import pause
from runbook_lib.settings import load_settings, read_settings


@pytest.fixture
def env_file(
    tmp_path: Path, database: Database, running_sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> EnvFile:  # fmt: skip
    """A `.env` that names the sandbox as if it were real, with an account of the test's own."""
    file = EnvFile(tmp_path / ".env")
    # The sandbox is shared: an account that another test had has passwords of that test.
    control, bot = running_sandbox.control, f"bot-{uuid.uuid4().hex[:8]}"
    for name, value in {
        "DATABASE_URL": database.url, "OPENAI_BASE_URL": f"{running_sandbox.url}/v1",
        "OPENAI_API_KEY": control.make_api_key("sk-reviewed-by-this-test-0001"), "WORDPRESS_URL": running_sandbox.url,
        "WORDPRESS_USER": bot, "WORDPRESS_APP_PASSWORD": control.make_user(bot),
    }.items():  # fmt: skip
        file.replace(name, value)
    monkeypatch.setenv("RUNBOOK_ENV_FILE", str(file.path))
    load_settings.cache_clear()
    return file


def add_runs(database: Database, error_class: str | None, count: int, minutes_ago: int) -> None:
    with database.transaction() as transaction:
        transaction.run(
            "WITH job AS (INSERT INTO content_jobs (topic) VALUES ('Gardens') RETURNING job_id) "
            "INSERT INTO job_runs (job_id, attempt, status, job_status, execution_time, started_at, completed_at, worker, stage, error_class, error) "
            "SELECT job_id, number, CASE WHEN %(class)s::text IS NULL THEN 'completed' ELSE 'error' END, "
            "CASE WHEN %(class)s::text IS NULL THEN 'completed' ELSE 'pending' END, now() - make_interval(mins => %(ago)s), "
            "now() - make_interval(mins => %(ago)s), now() - make_interval(mins => %(ago)s), 'w', 'write', %(class)s, "
            "CASE WHEN %(class)s IS NOT NULL THEN 'It said no.' END "
            "FROM job, generate_series(1, %(count)s) AS number",
            **{"class": error_class, "ago": minutes_ago, "count": count},
        )  # fmt: skip


def test_errors_are_counted_by_scenario_and_quota_never_asks_for_more_retries(
    database: Database, env_file: EnvFile
) -> None:
    add_runs(database, None, 4, minutes_ago=90)
    add_runs(database, "openai_rate_limited", 3, minutes_ago=120)
    add_runs(database, "openai_quota_exhausted", 5, minutes_ago=10)
    add_runs(database, "wordpress_category_missing", 2, minutes_ago=100)
    add_runs(database, "openai_key_invalid", 7, minutes_ago=60 * 30)
    found = openai_errors(Sources(database, database))
    assert found.verdict == "critical"
    assert "Of 14 attempts in the last 24 hours 8 met an error of OpenAI" in found.check.message
    assert "No. It is money, not patience" in (found.check.next or "")
    results = found.results()
    assert {name: count for name, count in results["errors"].items() if count} == {"openai_quota": 5, "openai_rate_limit": 3}  # fmt: skip
    assert results["goes_on"] == ["openai_quota"]
    assert results["checks"]["openai.key"] == "ok"
    advice = repr(found.first_actions)
    assert "runbook pause openai" in advice
    assert "max_retries" not in advice
    site = wordpress_errors(Sources(database, database))
    assert (site.verdict, site.results()["errors"]["wordpress_category"]) == ("warning", 2)
    assert "runbook jobs list" in (site.check.next or "")


def test_without_any_attempt_what_the_provider_says_now_still_stands(
    database: Database, env_file: EnvFile
) -> None:
    assert openai_errors(Sources(database, database)).verdict == "ok"
    env_file.replace("WORDPRESS_APP_PASSWORD", "aaaa bbbb cccc dddd eeee ffff")
    load_settings.cache_clear()
    found = wordpress_errors(Sources(database, database))
    assert found.verdict == "critical"
    assert "Now:" in found.check.message


def test_the_review_names_what_is_old_refused_or_not_retired(
    database: Database, env_file: EnvFile
) -> None:
    key = env_file.value("OPENAI_API_KEY") or ""
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO credential_handles (name, handle, first_seen_at) VALUES ('OPENAI_API_KEY', %(handle)s, now() - interval '100 days')",
            handle=handle_of("OPENAI_API_KEY", key),
        )  # fmt: skip
    review = secret_review(Sources(database, database))
    told = review.results()["secrets"]
    assert set(told) == {"DATABASE_URL", "OPENAI_API_KEY", "WORDPRESS_APP_PASSWORD"}
    assert (told["OPENAI_API_KEY"]["age_days"], told["OPENAI_API_KEY"]["verdict"]) == (100.0, "warning")  # fmt: skip
    assert (told["WORDPRESS_APP_PASSWORD"]["age_source"], told["WORDPRESS_APP_PASSWORD"]["age_days"]) == ("WordPress", 0.0)  # fmt: skip
    assert review.verdict == "warning"
    assert "runbook secrets rotate OPENAI_API_KEY" in repr(review.commands)
    env_file.replace("OPENAI_API_KEY", "sk-nobody-knows-this-0001")
    env_file.path.chmod(0o644)
    load_settings.cache_clear()
    review = secret_review(Sources(database, database))
    assert review.verdict == "critical"
    shown = review.findings._repr_html_() + repr(review) + json.dumps(review.results(), default=str)
    assert "does not accept the key" in shown
    assert "chmod 600" in shown
    for secret in ("sk-nobody-knows", key, env_file.value("WORDPRESS_APP_PASSWORD") or "-"):
        assert secret not in shown


def test_a_compromise_leads_through_the_steps_and_finds_posts_that_are_not_ours(
    database: Database, env_file: EnvFile, running_sandbox: RunningSandbox
) -> None:
    sources = Sources(database, database)
    found = key_compromise(sources, credential="WORDPRESS_APP_PASSWORD")
    assert found.verdict == "warning"
    assert [row["step"] for row in found.steps_rows] == ["pause", "stage", "test", "activate", "verify", "retire", "resume"]  # fmt: skip
    assert found.sentences()[0].startswith("Next: pause. Type: runbook pause wordpress")
    me = (env_file.value("WORDPRESS_USER"), env_file.value("WORDPRESS_APP_PASSWORD"))
    for content in ("Buy this", "<!-- runbook-job:00000000-0000-0000-0000-000000000001 -->Ours"):
        body = {"title": "A post", "content": content, "status": "publish"}
        assert running_sandbox.wordpress("POST", "/wp/v2/posts", auth=me, json=body).status_code == 201  # fmt: skip
    Rotation(load_settings(), database, "WORDPRESS_APP_PASSWORD", "ana").generate()
    found = key_compromise(sources, credential="WORDPRESS_APP_PASSWORD", revoke_first=True)
    assert found.verdict == "critical"
    assert "published 2 posts, 1 of them without the mark of our jobs" in found.misuse._repr_html_()
    # The one that was just made is ours; one more that nobody staged is not.
    assert found.results()["misuse"]["misuse.application_passwords"] == "ok"
    running_sandbox.control.make_user(str(me[0]))
    again = key_compromise(sources, credential="WORDPRESS_APP_PASSWORD")
    assert again.results()["misuse"]["misuse.application_passwords"] == "warning"
    pause(database, ("wordpress",), actor="ana", reason="key may be stolen")
    found = key_compromise(sources, credential="WORDPRESS_APP_PASSWORD", revoke_first=True)
    steps = {row["step"]: row["state"] for row in found.steps_rows}
    assert list(steps)[:3] == ["pause", "revoke", "stage"]
    assert (steps["pause"], steps["revoke"], steps["stage"]) == ("done", "next", "later")


@pytest.mark.parametrize("look", [openai_errors, wordpress_errors, secret_review, key_compromise])
def test_without_a_database_each_says_so_and_raises_nothing(
    look: Callable[[Sources], object], env_file: EnvFile
) -> None:
    gone = Database("postgresql://runbook:a-secret-word@127.0.0.1:1/runbook")
    found = look(Sources(gone, gone))
    assert "No connection to the database at 127.0.0.1:1" in repr(found)
    assert "a-secret-word" not in repr(found)
    assert read_settings(env_file.path).openai_api_key is not None
